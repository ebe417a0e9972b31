"""Workers as jobs of a real Slurm cluster: placed, killed, drained; the processes are gone, not only the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.farm_processes import Recording, assert_says, until
from support.placed_farm import all_gone, log, machines, placing_farm, pools
from support.slurm_cluster import is_here, slurm_cluster

from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.providers.provider import CallFailed, Launch
from whisper_farm.fleet.providers.slurm import SlurmProvider

pytestmark = pytest.mark.skipif(not is_here(), reason="Slurm is not installed here")
POOL = """
[pools.cluster]
provider = "slurm"
engine = "tones"
maximum = 2
idle_seconds = 3
grace_seconds = 5
price_per_hour = 3.6

[providers.slurm]
partition = "batch"
cpus = 1
memory = "100M"
conf = "CONF"
folder = "FOLDER"
"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def provider(conf: Path, **more: Any) -> SlurmProvider:
    return SlurmProvider(**{"conf": str(conf), "partition": "batch", "cpus": 1, "memory": "100M"} | more)


def launch(launch_id: str, *command: str) -> Launch:
    return Launch(launch_id, "farm-1", Pool(name="p", provider="slurm", command=command), "", {"GREETING": "hello"})


async def until_state(one: SlurmProvider, launch_id: str, state: str, job: str | None) -> Any:
    for _ in range(600):
        seen = {each.launch_id: each for each in await one.look("farm-1", {launch_id: job})}
        if launch_id in seen and seen[launch_id].state == state:
            return seen[launch_id]
        await asyncio.sleep(0.1)
    raise AssertionError(seen)


@pytest.mark.parametrize(
    ("command", "exit_"),
    [(("true",), "ok"), (("sh", "-c", "exit 3"), "crash"), (("sh", "-c", "kill -9 $$"), "lost")],
)
def test_how_a_job_ended_is_told_with_its_times(conf: Path, command: tuple[str, ...], exit_: str) -> None:
    async def work() -> None:
        one = provider(conf)
        name = f"p-{exit_}"
        made = await one.create(launch(name, *command))
        ended = await until_state(one, name, "gone", made.machine_id)
        assert ended.exit == exit_
        assert ended.pool == "p"
        assert ended.started_at is not None
        assert 0 <= ended.ended_at - ended.started_at < 60

    asyncio.run(work())


def test_a_job_is_found_by_its_launch_stopped_and_destroyed(conf: Path, tmp_path: Path) -> None:
    async def work() -> None:
        one = provider(conf)
        began = tmp_path / "began"
        first = await one.create(launch("p-1", "sh", "-c", f"touch {began}; exec sleep 100"))
        second = await one.create(launch("p-2", "sleep", "100"))
        running = await until_state(one, "p-1", "running", None)
        assert running.machine_id == first.machine_id
        assert running.started_at is not None
        assert await one.look("another", {}) == []
        await asyncio.to_thread(until, began.exists, "it has begun")
        await one.stop(first.machine_id, 5)
        assert (await until_state(one, "p-1", "gone", first.machine_id)).exit in ("requested", "lost")
        await one.destroy(second.machine_id)
        await until_state(one, "p-2", "gone", second.machine_id)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("settings", "fault"),
    [({"partition": "nowhere"}, "configuration")],
)
def test_a_job_that_the_cluster_cannot_run_is_a_mistake_in_the_configuration(
    conf: Path, settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(CallFailed) as refused:
        asyncio.run(provider(conf, **settings).create(launch("p-x", "true")))
    assert refused.value.fault == fault


def test_a_cluster_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(CallFailed) as refused:
        asyncio.run(provider(tmp_path / "nowhere.conf").create(launch("p-x", "true")))
    assert refused.value.fault in ("transient", "unknown", "configuration")


def test_a_podcast_through_jobs_of_which_one_is_killed(tmp_path: Path, conf: Path) -> None:
    import psutil

    recording = Recording.long(tmp_path / "talk.wav", 24)
    pool = POOL.replace("CONF", str(conf)).replace("FOLDER", str(tmp_path))
    with placing_farm(tmp_path / "farm", pool) as farm:
        transcription = farm.submit(recording, model="x4")
        farm.progress(transcription, chunks_done=1)
        running = workers_of(machines(farm))
        assert running
        psutil.Process(running[0]).kill()
        assert_says(farm.finished(transcription), recording)
        rows = all_gone(farm)
        assert len(rows) >= 2
        until(lambda: not workers_of(rows), "every process is gone")
        assert "registered" in {line.kind for line in log(farm)}
        assert pools(farm)["cluster"].crashes == 0
        assert all(row.stretches for row in rows)


def workers_of(rows: list[Any]) -> list[int]:
    """The worker processes of these launches, by what their environment says."""
    import psutil

    launches, found = {row.launch_id for row in rows}, []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WHISPER_FARM_WORKER_LAUNCH_ID") in launches and "worker" in process.cmdline():
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
