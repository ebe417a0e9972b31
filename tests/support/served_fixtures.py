"""Fixtures of tests that ask a served farm: a coordinator on a socket, and workers by hand.

The conftest of a room imports those that its tests need.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hand_worker import HandWorker
from support.served_farm import ServedFarm, StartFarm, catch_coordinator
from whisper_farm.coordinator import server as serve_module
from whisper_farm.whole_files import make_data_folder


@pytest.fixture
def start_farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartFarm]:
    """Starts served farms, by default in one data folder, on SQLite; all are stopped at the end."""
    started: list[ServedFarm] = []

    def start(**given: Any) -> ServedFarm:
        farm = ServedFarm(**{"data": tmp_path / "data", **given})
        with monkeypatch.context() as caught:
            caught.setattr(serve_module, "create_app", catch_coordinator(farm))
            started.append(farm.__enter__())
        return farm

    yield start
    for farm in reversed(started):
        farm.__exit__(None, None, None)


@pytest.fixture
def farm(start_farm: StartFarm, sqlite_template: Path, tmp_path: Path) -> ServedFarm:
    """A farm on SQLite and a folder, which has its tables already: to make them takes half the start of a server."""
    make_data_folder(tmp_path / "data")
    shutil.copy(sqlite_template, tmp_path / "data" / "farm.db")
    return start_farm()


@pytest.fixture
def either_farm(database_url: str, start_farm: StartFarm) -> ServedFarm:
    """A farm on SQLite and on PostgreSQL, in turn."""
    return start_farm(database=database_url)


@pytest.fixture
def make_worker() -> Iterator[Callable[..., HandWorker]]:
    """Registers workers by hand; all are closed at the end."""
    made: list[HandWorker] = []

    def make(farm: ServedFarm, worker_id: str = "w-1", token: str | None = None, **given: Any) -> HandWorker:
        worker = HandWorker(farm.url, token or farm.token, worker_id, **given)
        made.append(worker)
        worker.register()
        return worker

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def worker(farm: ServedFarm, make_worker: Callable[..., HandWorker]) -> HandWorker:
    """A registered worker of the SQLite farm."""
    return make_worker(farm)
