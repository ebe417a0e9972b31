"""Workers as jobs of a real Ray cluster: placed, their supervisor killed, stopped; the processes are gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.farm_processes import Recording, assert_says, until
from support.placed_farm import all_gone, machines, placing_farm, pools
from support.ray_cluster import TOKEN, RayCluster, ray_cluster, ray_program

from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.providers.provider import CallFailed, Launch
from whisper_farm.fleet.providers.ray import RayProvider

pytestmark = pytest.mark.skipif(ray_program() is None, reason="WHISPER_FARM_TEST_RAY names no Ray")
WORKER = f'["{sys.executable}", "-m", "whisper_farm", "worker"]'
POOL = f"""
[pools.cluster]
provider = "ray"
engine = "tones"
command = {WORKER}
maximum = 2
idle_seconds = 3
grace_seconds = 5
price_per_hour = 3.6

[providers.ray]
address = "ADDRESS"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("ray") / "head.log") as found:
        yield found


def launch(launch_id: str, *command: str) -> Launch:
    return Launch(launch_id, "farm-1", Pool(name="p", provider="ray", command=command), "", {"GREETING": "hello"})


async def until_state(one: RayProvider, launch_id: str, state: str) -> Any:
    for _ in range(600):
        seen = {each.launch_id: each for each in await one.look("farm-1", {launch_id: launch_id})}
        if launch_id in seen and seen[launch_id].state == state:
            return seen[launch_id]
        await asyncio.sleep(0.1)
    raise AssertionError(seen)


def test_jobs_are_made_once_told_apart_and_stopped(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)

    async def work() -> None:
        one = RayProvider(address=cluster.url)
        await one.create(launch("p-1", "sleep", "100"))
        again = await one.create(launch("p-1", "sleep", "100"))
        assert again.launch_id == "p-1"
        running = await until_state(one, "p-1", "running")
        assert (running.pool, running.started_at is not None) == ("p", True)
        assert [seen.launch_id for seen in await one.look("farm-1", {})] == ["p-1"]
        assert await one.look("another", {}) == []
        await one.stop("p-1", 5)
        stopped = await until_state(one, "p-1", "gone")
        assert stopped.exit == "requested"
        assert stopped.ended_at >= stopped.started_at
        await one.create(launch("p-2", "sh", "-c", "exit 3"))
        failed = await until_state(one, "p-2", "gone")
        assert failed.exit == "crash"
        with pytest.raises(CallFailed) as nobody:
            await one.destroy("p-3")
        assert nobody.value.fault == "missing"
        await one.close()

    asyncio.run(work())


@pytest.mark.parametrize("token", ["", "wrong-" + TOKEN])
def test_a_wrong_token_is_told(token: str, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)

    async def work() -> None:
        one = RayProvider(address=cluster.url)
        with pytest.raises(CallFailed) as refused:
            await one.look("farm-1", {})
        assert refused.value.fault == "auth"
        await one.close()

    asyncio.run(work())


def test_a_podcast_through_jobs_of_which_one_loses_its_supervisor(tmp_path: Path, cluster: RayCluster) -> None:
    recording = Recording.long(tmp_path / "talk.wav", 24)
    with placing_farm(tmp_path / "farm", POOL.replace("ADDRESS", cluster.url), RAY_AUTH_TOKEN=TOKEN) as farm:
        transcription = farm.submit(recording, model="x4")
        farm.progress(transcription, chunks_done=1)
        supervisors = [one for one in psutil.process_iter() if "JobSupervisor" in " ".join(command(one))]
        assert supervisors
        supervisors[0].kill()
        assert_says(farm.finished(transcription), recording)
        rows = all_gone(farm, 200)
        until(lambda: not workers_of({row.launch_id for row in rows}), "every process is gone")
        assert pools(farm)["cluster"].crashes == 0
        assert all(row.registered_at is not None for row in machines(farm))


def command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def workers_of(launches: set[str]) -> list[int]:
    """The worker processes of these launches, by what their environment says."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mine = process.environ().get("WHISPER_FARM_WORKER_LAUNCH_ID") in launches
            if mine and "worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
