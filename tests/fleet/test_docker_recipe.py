"""The pool of containers that docs/FLEET.md shows, driven against a stand-in for docker. No container engine ran."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
import tomllib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.farm_processes import Recording, assert_says
from support.placed_farm import all_gone, placing_farm

from whisper_farm.fleet.pools import Pool, parse_pools
from whisper_farm.fleet.providers.command import CommandProvider
from whisper_farm.fleet.providers.provider import CallFailed, Launch, open_providers

ROOT = Path(__file__).resolve().parents[2]


def shown() -> str:
    """The pool as the page shows it, with the script where it is."""
    page = (ROOT / "docs" / "FLEET.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "docker_machines.py" in one]
    return block.replace('"deploy/docker_machines.py"', f'"{sys.executable}", "{ROOT}/deploy/docker_machines.py"')


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a stand-in for docker keeps its containers."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m support.docker_stand_in "$@"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setenv("CONTAINERS_FOLDER", str(tmp_path / "containers"))
    return tmp_path / "containers"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def provider() -> CommandProvider:
    settings = tomllib.loads(shown())["providers"]["docker"]
    return CommandProvider(**{name: value for name, value in settings.items() if name != "kind"})


def launch(launch_id: str, image: str = "whisper-farm-worker") -> Launch:
    told = {"WHISPER_FARM_WORKER_SERVER": "http://127.0.0.1:9", "WHISPER_FARM_WORKER_TOKEN": "x"}
    return Launch(launch_id, "farm-1", Pool(name="boxes", provider="docker", image=image), "", told)


def test_the_pool_on_the_page_is_one_that_the_farm_takes() -> None:
    assert open_providers(parse_pools(shown()))


@pytest.mark.usefixtures("docker")
def test_a_container_is_made_once_listed_and_removed() -> None:
    async def work() -> None:
        one = provider()
        assert await one.look("farm-1", {}) == []
        await one.create(launch("boxes-1"))
        with pytest.raises(CallFailed) as twice:
            await one.create(launch("boxes-1"))
        assert twice.value.fault == "exists"
        (seen,) = await one.look("farm-1", {})
        assert (seen.machine_id, seen.launch_id, seen.pool) == ("boxes-1", "boxes-1", "boxes")
        assert await one.look("another", {}) == []
        await one.destroy("boxes-1")
        assert await one.look("farm-1", {}) == []
        await one.destroy("boxes-1")

    run(work())


@pytest.mark.usefixtures("docker")
def test_what_docker_refuses_is_told_in_its_words() -> None:
    async def work() -> None:
        with pytest.raises(CallFailed) as denied:
            await provider().create(launch("boxes-1", "nobody/nothing"))
        assert denied.value.fault == "auth"
        assert "pull access denied for nobody/nothing" in denied.value.message
        with pytest.raises(CallFailed) as missing:
            await provider().stop("boxes-2", 5)
        assert missing.value.fault == "missing"

    run(work())


def test_a_podcast_through_workers_in_containers(docker: Path, tmp_path: Path) -> None:
    pools = shown().replace("[pools.boxes]", '[pools.boxes]\nengine = "tones"\nidle_seconds = 2')
    recording = Recording.long(tmp_path / "talk.wav", 8)
    with placing_farm(tmp_path / "farm", re.sub(r'\nmodel = ".*"', "", pools)) as farm:
        transcription = farm.submit(recording)
        assert_says(farm.finished(transcription), recording)
        rows = all_gone(farm)
    assert any(row.registered_at is not None for row in rows)
    made, removed = ({one.stem for one in docker.glob(f"*.{kind}")} for kind in ("json", "removed"))
    assert made
    assert removed == made, "no container is left lying about"
