"""Machines by commands: a stand-in for a container engine is driven as docker would be, failures included."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from support.farm_processes import Recording, assert_says, until
from support.placed_farm import all_gone, placing_farm

from whisper_farm.errors import PoolsInvalid
from whisper_farm.fleet.pools import Pool, parse_pools
from whisper_farm.fleet.providers.command import CommandProvider
from whisper_farm.fleet.providers.provider import CallFailed, Launch, open_providers

WORKER = [sys.executable, "-m", "whisper_farm", "worker"]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def engine(folder: Path, *words: str) -> list[str]:
    script = Path(__file__).parents[1] / "support" / "container_command.py"
    return [sys.executable, str(script), str(folder), *words]


def settings(folder: Path, *command: str) -> dict[str, Any]:
    return {
        "create": engine(folder, "run", "{launch_id}", "{owner}", "{pool}", *(command or ("sleep", "60"))),
        "list": engine(folder, "ps", "{owner}"),
        "stop": engine(folder, "stop", "{machine_id}"),
        "destroy": engine(folder, "rm", "{machine_id}"),
    }


def launch(launch_id: str = "p-1") -> Launch:
    return Launch(launch_id, "farm-1", Pool(name="p", provider="x"), "", {"GREETING": "hello"})


async def state_of(one: CommandProvider, state: str) -> Any:
    for _ in range(600):
        seen = await one.look("farm-1", {})
        if seen and seen[0].state == state:
            return seen[0]
        await asyncio.sleep(0.05)
    raise AssertionError(seen)


def test_a_machine_is_made_listed_stopped_and_gone(tmp_path: Path) -> None:
    async def work() -> None:
        one = CommandProvider(**settings(tmp_path))
        assert (await one.create(launch())).launch_id == "p-1"
        running = await state_of(one, "running")
        assert (running.machine_id, running.pool) == ("p-1", "p")
        assert running.started_at is not None
        assert await one.look("another", {}) == []
        await one.stop("p-1", 5)
        gone = await state_of(one, "gone")
        assert gone.exit == "requested"
        assert gone.ended_at is not None

    run(work())


@pytest.mark.parametrize(("obstacle", "fault"), [("full", "capacity"), ("down", "unknown")])
def test_a_create_that_fails_says_how(obstacle: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / obstacle).touch()
    with pytest.raises(CallFailed) as refused:
        run(CommandProvider(**settings(tmp_path)).create(launch()))
    assert refused.value.fault == fault


def test_the_same_launch_twice_and_an_unknown_machine_are_told_apart(tmp_path: Path) -> None:
    async def work() -> None:
        one = CommandProvider(**settings(tmp_path))
        await one.create(launch())
        with pytest.raises(CallFailed) as twice:
            await one.create(launch())
        with pytest.raises(CallFailed) as nobody:
            await one.destroy("p-2")
        assert (twice.value.fault, nobody.value.fault) == ("exists", "missing")
        await one.destroy("p-1")

    run(work())


@pytest.mark.parametrize(
    ("line", "fault", "said"),
    [
        (["sh", "-c", "echo oops"], "unknown", "printed no JSON: oops"),
        (["sh", "-c", "sleep 30"], "unknown", "did not end within 0.5 s"),
        (["sh", "-c", "echo '{}'"], "unknown", "no description of a machine: id"),
        (["/nowhere/docker"], "configuration", "cannot be run"),
        (["sh", "-c", "echo 'not logged in' >&2; exit 4"], "unknown", "not logged in (status 4)"),
    ],
)
def test_a_command_that_misbehaves_is_ended_and_named(line: list[str], fault: str, said: str, tmp_path: Path) -> None:
    one = CommandProvider(**settings(tmp_path) | {"create": line, "timeout_seconds": 0.5 if "sleep 30" in line else 20})
    with pytest.raises(CallFailed) as refused:
        run(one.create(launch()))
    assert refused.value.fault == fault
    assert said in refused.value.message


def test_settings_without_a_list_are_refused() -> None:
    pools = '[pools.p]\nprovider = "mine"\n[providers.mine]\nkind = "command"\ncreate = ["x"]\ndestroy = ["x"]\n'
    with pytest.raises(PoolsInvalid, match=r"providers\.mine: .*list"):
        open_providers(parse_pools(pools))


def told_of(box: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(box.read_text()))


def test_podcasts_through_workers_that_commands_have_placed(tmp_path: Path) -> None:
    told = settings(tmp_path / "containers", *WORKER)
    table = "\n".join(f"{name} = {json.dumps(line)}" for name, line in told.items())
    pool = '[pools.p]\nprovider = "boxes"\nengine = "tones"\nmaximum = 2\nidle_seconds = 2\n'
    pools = f'{pool}[providers.boxes]\nkind = "command"\n{table}\n'
    recording = Recording.long(tmp_path / "talk.wav", 12)
    with placing_farm(tmp_path / "farm", pools) as farm:
        transcription = farm.submit(recording)
        assert_says(farm.finished(transcription), recording)
        rows = all_gone(farm)
        assert rows
        assert all(row.registered_at is not None for row in rows)
        boxes = [*(tmp_path / "containers").glob("*.json")]
        until(lambda: {told_of(box)["state"] for box in boxes} == {"gone"}, "every container has ended")
        ended = [told_of(box) for box in boxes]
        booked = sum(row.seconds(0) for row in rows)
        assert booked == pytest.approx(sum(one["ended_at"] - one["started_at"] for one in ended), abs=0.01)
