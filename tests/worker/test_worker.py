"""A worker does what it promises: on real sockets and with real children, against a farm of dictionaries."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.work_here import add_speech, recording, same, speech, until, worker_settings, working


def test_the_agent_starts_light() -> None:
    """Recognisers and codecs are for the children: this process has to stay small and quick."""
    program = (
        "import sys, whisper_farm.worker.run, whisper_farm.worker.agent\n"
        "heavy = {'numpy', 'av', 'faster_whisper', 'ctranslate2', 'fastapi', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"


def test_every_chunk_is_heard_in_its_place_of_the_recording() -> None:
    farm = FakeFarm()
    truth = add_speech(farm, *(speech(number) for number in range(12)))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, slots=2)) as worker:
                await until(lambda: len(worker.said("job_finished")) == 12, "all chunks done")

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert all(job.attempts == 1 for job in farm.chunks)
    assert farm.left, "it said goodbye"


def test_a_recording_is_cut_and_recognised_at_the_same_time() -> None:
    farm = FakeFarm()
    data, truth = recording(100)
    farm.add_recording(data, chunk_seconds=2)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, slots=2, cuts=True)):
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"), "all jobs done")

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert len(farm.chunks) > 10
