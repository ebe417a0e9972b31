"""A worker makes a listening copy beside everything else, and hands in the peaks."""

from __future__ import annotations

import asyncio
import io

import av
import numpy as np
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.processes import children
from support.work_here import recording, same, until, worker_settings, working

from whisper_farm.protocol.jobs import PeaksResult


def test_the_copy_is_uploaded_and_its_peaks_are_handed_in() -> None:
    farm = FakeFarm()
    data, _ = recording(30)
    job = farm.add_peaks(data)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: job.state == "done", "it is made")

    asyncio.run(scene())
    assert isinstance(job.result, PeaksResult)
    (copy,) = farm.uploads.values()
    assert job.result.audio.size == len(copy)
    with av.open(io.BytesIO(copy)) as container:
        sound = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
        assert abs(len(sound) / container.streams.audio[0].rate - job.result.duration_seconds) < 0.2
    assert max(job.result.peaks) > 0.05


def test_it_holds_up_no_cutting_and_no_recognition() -> None:
    """The child that makes it is stopped in the middle; a recording that comes then is cut and recognised."""
    farm = FakeFarm()
    data, truth = recording(60)
    job = farm.add_peaks(data)

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = 1 << 20
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: job.state == "running" and len(children("cutter")) > 1, "it is being made")
                server.source_bytes = len(data)
                child = max(children("cutter"), key=lambda each: each.create_time())
                child.suspend()
                farm.add_recording(data)
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.chunks[-1].state == "done", "it is heard")
                assert job.state == "running"
                child.resume()
                await until(lambda: farm.all_are("done"), "the copy is made, too")

    asyncio.run(scene())
    same(farm.heard(), truth)


def test_a_child_that_dies_costs_the_job_an_attempt_and_leaves_nothing_behind() -> None:
    farm = FakeFarm()
    data, _ = recording(60)
    job = farm.add_peaks(data)

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = 1 << 20
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: job.state == "running" and len(children("cutter")) > 1, "it is being made")
                max(children("cutter"), key=lambda each: each.create_time()).kill()
                await until(lambda: bool(job.failures), "it is reported")
                server.source_bytes = len(data)
                await until(lambda: job.state == "done", "another try makes it")

    asyncio.run(scene())
    assert [failure.code for failure in job.failures] == ["recogniser_crashed"]
    assert children("cutter") == []


def test_what_is_no_recording_fails_for_good() -> None:
    farm = FakeFarm()
    job = farm.add_peaks(b"no recording at all" * 1000)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: bool(job.failures), "it is reported")

    asyncio.run(scene())
    assert [(failure.code, failure.permanent) for failure in job.failures] == [("not_audio", True)]
