"""The pools on ssh, SkyPilot, dstack and RunPod that docs/FLEET.md shows, driven against stand-ins."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.farm_processes import Recording, assert_says, until
from support.placed_farm import all_gone, placing_farm
from support.runpod_stand_in import KEY, RunPod, runpod

from whisper_farm.fleet.pools import Pool, parse_pools
from whisper_farm.fleet.providers.command import CommandProvider
from whisper_farm.fleet.providers.provider import CallFailed, Launch, Seen, open_providers

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {"ssh": "gamer", "sky": "sky", "dstack": "dstack", "runpod": "pods"}
SERVER = "http://127.0.0.1:9"
WORKER = [sys.executable, "-m", "whisper_farm", "worker"]


def shown(recipe: str) -> str:
    """The pool as the page shows it, with the script and the task where they are."""
    page = (ROOT / "docs" / "FLEET.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if f"{recipe}_machines.py" in one]
    script = f'"{sys.executable}", "{ROOT}/deploy/{recipe}_machines.py"'
    return re.sub(r'"worker\.\S*yam?l"', f'"{__file__}"', block.replace(f'"deploy/{recipe}_machines.py"', script))


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which stand-ins for the three commands keep what they have started."""
    for name in ("ssh", "sky", "dstack"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m support.cloud_stand_ins {name} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setenv("CLOUD_FOLDER", str(tmp_path / "cloud"))
    (tmp_path / "cloud").mkdir()
    return tmp_path / "cloud"


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[RunPod]]:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    with runpod() as (address, account):
        monkeypatch.setenv("RUNPOD_API", address)
        yield account


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 100))


def provider(recipe: str, program: str = "sleep 60") -> CommandProvider:
    (settings,) = tomllib.loads(shown(recipe))["providers"].values()
    told = {name: value for name, value in settings.items() if name != "kind"}
    if recipe == "ssh":
        told["create"] = [*told["create"][:-2], *program.split()]
    return CommandProvider(**told)


def launch(recipe: str, number: int = 1) -> Launch:
    told = {"WHISPER_FARM_WORKER_SERVER": SERVER, "WHISPER_FARM_WORKER_TOKEN": "it's a $ecret"}
    name = RECIPES[recipe]
    return Launch(f"{name}-{number:012}", "wf-0123456789ab", Pool(name=name, image="img", accelerator="A"), "EU", told)


async def seen_as(one: CommandProvider, state: str) -> Seen:
    for _ in range(600):
        seen = [each for each in await one.look("wf-0123456789ab", {}) if each.state == state]
        if seen:
            return seen[0]
        await asyncio.sleep(0.05)
    raise AssertionError(await one.look("wf-0123456789ab", {}))


def sleepers() -> list[dict[str, str]]:
    """The environments of the workers' stand-ins that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "sleep" and process.environ().get("WHISPER_FARM_WORKER_SERVER") == SERVER:
                found.append(process.environ())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_pool_on_the_page_is_one_that_the_farm_takes(recipe: str) -> None:
    assert open_providers(parse_pools(shown(recipe)))


@pytest.mark.usefixtures("cloud", "pods")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_machine_is_made_once_listed_and_ended_for_good(recipe: str) -> None:
    async def work() -> None:
        one, asked = provider(recipe), launch(recipe)
        assert await one.look("wf-0123456789ab", {}) == []
        made = await one.create(asked)
        assert made.launch_id == asked.launch_id
        with pytest.raises(CallFailed) as twice:
            await one.create(asked)
        assert twice.value.fault == "exists"
        running = await seen_as(one, "running")
        assert (running.machine_id, running.launch_id, running.pool) == (
            made.machine_id,
            asked.launch_id,
            RECIPES[recipe],
        )
        living = await asyncio.to_thread(until, sleepers, "a shell became the worker")
        assert [told["WHISPER_FARM_WORKER_TOKEN"] for told in living] == ["it's a $ecret"]
        assert await one.look("wf-another-farm", {}) == []
        await one.destroy(made.machine_id)
        for _ in range(200):
            if all(each.state == "gone" for each in await one.look("wf-0123456789ab", {})) and not sleepers():
                break
            await asyncio.sleep(0.05)
        assert sleepers() == []
        await one.destroy(made.machine_id)

    run(work())


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("recipe", ["ssh", "dstack"])
def test_a_worker_that_is_told_to_stop_gets_a_signal_and_was_asked_to_end(recipe: str) -> None:
    async def work() -> None:
        one = provider(recipe)
        made = await one.create(launch(recipe))
        await seen_as(one, "running")
        await one.stop(made.machine_id, 5)
        gone = await seen_as(one, "gone")
        assert gone.exit == "requested"
        assert gone.ended_at is not None

    run(work())


@pytest.mark.usefixtures("cloud")
def test_how_a_worker_ended_over_ssh_is_told_with_its_last_words() -> None:
    async def work() -> None:
        one = provider("ssh", "ls /nowhere")
        await one.create(launch("ssh"))
        gone = await seen_as(one, "gone")
        assert gone.exit == "crash"
        assert "/nowhere" in gone.message

    run(work())


@pytest.mark.parametrize(
    ("recipe", "obstacle", "fault", "words"),
    [
        ("ssh", "down", "transient", "Connection refused"),
        ("ssh", "no program", "configuration", "It is not installed there: /nowhere/whisper-farm"),
        ("dstack", "full", "capacity", "No offers found"),
    ],
)
def test_what_is_refused_is_told_in_words(recipe: str, obstacle: str, fault: str, words: str, cloud: Path) -> None:
    (cloud / obstacle).touch()
    with pytest.raises(CallFailed) as refused:
        run(provider(recipe, "/nowhere/whisper-farm").create(launch(recipe)))
    assert refused.value.fault == fault
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("status", "fault"),
    [(400, "capacity"), (402, "quota"), (403, "auth"), (422, "configuration"), (429, "transient"), (503, "unknown")],
)
def test_every_refusal_of_runpod_means_something(status: int, fault: str, pods: type[RunPod]) -> None:
    pods.refuse = (status, "There are no longer any instances available.")
    with pytest.raises(CallFailed) as refused:
        run(provider("runpod").create(launch("runpod")))
    assert refused.value.fault == fault
    assert "no longer any instances" in refused.value.message


def test_a_name_that_is_too_long_for_dstack_is_refused_before_anything_is_asked(cloud: Path) -> None:
    asked = Launch(f"{'long' * 7}-0123456789ab", "wf-0123456789ab", Pool(name="long" * 7), "", {})
    with pytest.raises(CallFailed, match="give the pool a shorter one") as refused:
        run(provider("dstack").create(asked))
    assert refused.value.fault == "configuration"
    assert not list(cloud.iterdir())


@pytest.mark.usefixtures("cloud")
def test_a_podcast_through_a_worker_over_ssh(tmp_path: Path) -> None:
    pool = shown("ssh").replace("[pools.gamer]", '[pools.gamer]\nengine = "tones"\nidle_seconds = 2')
    pool = pool.replace('"/opt/farm/bin/whisper-farm", "worker"', json.dumps(WORKER)[1:-1])
    recording = Recording.long(tmp_path / "talk.wav", 8)
    with placing_farm(tmp_path / "farm", re.sub(r'\nmodel = ".*"', "", pool)) as farm:
        transcription = farm.submit(recording)
        assert_says(farm.finished(transcription), recording)
        rows = all_gone(farm)
    assert any(row.registered_at is not None for row in rows)
