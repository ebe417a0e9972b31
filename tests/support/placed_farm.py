"""A farm of real processes that places its own workers: a server with a file of pools, and looks into its books."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.farm_processes import PATIENCE_SECONDS, SETTINGS, Farm, Process, until
from support.ports import free_port
from whisper_farm.store.machines import LogRow, MachineRow, PoolRow, log_of, machines_gone_since, pool_rows
from whisper_farm.store.machines import counted_machines as counted

RULES = """
[fleet]
look_seconds = 0.3
target_drain_seconds = 10
hysteresis_seconds = 1
settle_seconds = 1
retry_seconds = 0.2
accepted_seconds = 30
started_seconds = 60
registered_seconds = 60
"""


@contextmanager
def placing_farm(folder: Path, pools: str, database: str | None = None, port: int = 0, **more: str) -> Iterator[Farm]:
    """A server with these pools; it is stopped in good order at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "farm.toml").write_text(pools + RULES)
    settings = _settings(folder, more)
    with Farm(folder, database, settings, port) as farm:
        try:
            yield farm
        finally:
            farm.server.terminate()
            farm.server.ended(PATIENCE_SECONDS)


@contextmanager
def another_server(farm: Farm, **more: str) -> Iterator[Process]:
    """A second coordinator on the same data and database, at an address of its own."""
    arguments = ["serve", "--port", str(free_port()), "--data", str(farm.data), "--database", farm.database]
    server = Process(farm.folder / "another.log", arguments, SETTINGS | _settings(farm.folder, more))
    try:
        until(lambda: "is at http" in server.said(), "the other server answers")
        yield server
    finally:
        server.terminate()
        server.ended(PATIENCE_SECONDS)


def _settings(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {"WHISPER_FARM_POOLS": str(folder / "farm.toml"), "TMPDIR": str(folder), **more}


def machines(farm: Farm) -> list[MachineRow]:
    """Every launch in its books."""
    return farm.look_inside(lambda tx: [*counted(tx), *machines_gone_since(tx, 0)])


def pools(farm: Farm) -> dict[str, PoolRow]:
    """What its books remember of its pools."""
    return farm.look_inside(pool_rows)


def log(farm: Farm) -> list[LogRow]:
    """What happened, oldest first."""
    return farm.look_inside(lambda tx: log_of(tx, limit=1000))[::-1]


def all_gone(farm: Farm, seconds: float = PATIENCE_SECONDS) -> list[MachineRow]:
    """Wait until every machine is gone."""
    until(lambda: all(row.state == "gone" for row in machines(farm)), "all machines are gone", seconds)
    return machines(farm)


def worker_processes(folder: Path) -> list[psutil.Process]:
    """Worker processes of this farm that live: known by the folder that their environment names."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            mine = environment.get("TMPDIR") == str(folder) and "WHISPER_FARM_WORKER_LAUNCH_ID" in environment
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
