"""A recording is cut while its chunks are handed in; whatever dies on the way, no chunk is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.processes import children
from support.recordings import encoded, silence
from support.work_here import recording, same, until, worker_process, worker_settings, working

from whisper_farm.protocol.jobs import ChunkResult
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker import cutting
from whisper_farm.worker.claims import CUTS_AT_ONCE
from whisper_farm.worker.cutter_child import NICENESS

MEGABYTE = 1 << 20


def cutters() -> list[psutil.Process]:
    """What cuts for the agent in this process: one, unless it has just died."""
    return children("cutter")


def test_a_cutter_that_dies_has_a_successor_that_goes_on_where_it_was() -> None:
    farm = FakeFarm()
    data, truth = recording(230)
    farm.add_recording(data, chunk_seconds=3)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True, slots=2)) as worker:
                for deaths, chunks in ((1, 1), (2, 6)):  # a megabyte has no more: the successor has got on
                    server.source_bytes = (2 * deaths - 1) * MEGABYTE
                    await until(lambda chunks=chunks: len(farm.chunks) > chunks, "it is cutting")
                    cutters()[0].kill()
                    await until(lambda deaths=deaths: len(worker.said("child_died")) == deaths, "it is noticed")
                server.source_bytes = len(data)
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"), "all jobs done")

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert (farm.jobs["t.c"].attempts, farm.jobs["t.c"].charged) == (1, 0)


def test_a_cutter_that_dies_twice_in_one_place_fails_the_job_and_the_next_claim_resumes_it() -> None:
    farm = FakeFarm()
    data, truth = recording(120)
    farm.add_recording(data, chunk_seconds=3)

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = MEGABYTE
            async with working(worker_settings(server.url, cuts=True)) as worker:
                await until(lambda: len(farm.chunks) > 1 and farm.all_are("running", "done"), "it is cutting")
                server.source_bytes = 0  # a successor gets no further
                for deaths in (1, 2):
                    await until(cutters, "there is a cutter")
                    cutters()[0].kill()
                    await until(lambda deaths=deaths: len(worker.said("child_died")) == deaths, "it is noticed")
                await until(lambda: farm.jobs["t.c"].failures, "the job failed")
                server.source_bytes = len(data)
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"), "all jobs done")

    asyncio.run(scene())
    same(farm.heard(), truth)
    failure = farm.jobs["t.c"].failures[0]
    assert (failure.code, failure.charged, failure.permanent) == ("recogniser_crashed", True, False)
    assert "SIGKILL" in failure.message


def test_a_worker_killed_while_it_cuts_is_followed_by_another_without_a_hole() -> None:
    farm = FakeFarm()
    data, truth = recording(120)
    farm.add_recording(data, chunk_seconds=3)

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = MEGABYTE
            with worker_process(worker_settings(server.url, cuts=True)) as killed:
                await until(lambda: len(farm.chunks) > 1, "it is cutting")
                killed.kill()
                killed.wait()
            for attempt in farm.attempts.values():
                attempt.lease_until = time.monotonic()
            server.source_bytes = len(data)
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"), "all jobs done")

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert farm.jobs["t.c"].attempts == 2
    result = farm.jobs["t.c"].result
    assert isinstance(result, ChunkResult)
    assert (result.chunks, result.damaged_packets) == (len(farm.chunks), 0)


def test_what_is_no_audio_fails_for_good_and_the_next_recording_is_cut() -> None:
    farm = FakeFarm()
    bad = farm.add_recording(b"this is a letter, no recording", name="letter.txt")
    data, truth = recording(8)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: bad.state == "failed", "the letter is refused")
                good = farm.add_recording(data)
                await until(lambda: good.state == "done" and farm.chunks and all_heard(), "the recording is done")

    def all_heard() -> bool:
        return all(job.state == "done" for job in farm.chunks)

    asyncio.run(scene())
    same(farm.heard(), truth)
    failure = bad.failures[0]
    assert (failure.code, failure.permanent) == ("not_audio", True)
    assert "letter.txt" in failure.message


def test_who_has_nothing_being_cut_waits_for_no_recording_of_others() -> None:
    farm = FakeFarm()
    quiet = encoded(silence(60), "wav", "pcm_s16le", 16_000)
    endless = [farm.add_recording(quiet) for _ in range(CUTS_AT_ONCE)]

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = MEGABYTE
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: all(job.state == "running" for job in endless), "they are cut for ever")
                quick = farm.add_recording(recording(8)[0])
                await until(lambda: quick.state == "done", "the others do not hold it up")

    asyncio.run(scene())
    asked = [one for one in farm.claim_requests if "chunk" in one.jobs]
    assert {one.most_of_one_owner for one in asked[-2:]} == {1}, "only of an owner who has nothing there"
    assert asked[0].most_of_one_owner == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a whole process gives way, and for good")
def test_the_rest_of_a_recording_gives_way_to_the_beginning_of_the_next() -> None:
    farm = FakeFarm()
    farm.add_recording(recording(120)[0], chunk_seconds=3)

    def given_way() -> int:
        found = 0
        for thread in Path(f"/proc/{cutters()[0].pid}/task").iterdir():
            with suppress(ProcessLookupError):
                found += os.getpriority(os.PRIO_PROCESS, int(thread.name)) == NICENESS
        return found

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = MEGABYTE
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: len(farm.chunks) > 1, "it is cutting")
                assert given_way() == 1
                server.source_bytes = 1 << 40
                await until(lambda: farm.jobs["t.c"].state == "done", "it is cut")
                server.source_bytes = 0
                asked, cutter = len(server.named("source")), cutters()
                farm.add_recording(recording(8)[0])
                await until(lambda: len(server.named("source")) > asked, "the next has begun")
                await until(lambda: given_way() == 0, "it does not give way, and the thread of the first has ended")
                assert cutters() == cutter

    asyncio.run(scene())


def test_cutting_stops_when_it_is_cancelled() -> None:
    farm = FakeFarm()
    data, _ = recording(120)
    job = farm.add_recording(data, chunk_seconds=3)

    async def scene() -> None:
        with serving(farm) as server:
            server.source_bytes = MEGABYTE
            async with working(worker_settings(server.url, cuts=True)) as worker:
                await until(lambda: len(farm.chunks) > 1, "it is cutting")
                farm.cancel(job)
                await until(lambda: worker.said("job_dropped"), "it was told")
                await until(lambda: not cutters(), "the cutter has stopped")

    asyncio.run(scene())
    assert farm.jobs["t.c"].state == "cancelled"


@pytest.mark.parametrize("stays", [False, True])
def test_a_cutter_that_waits_gives_up_its_memory_only_while_something_is_recognised(
    stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "IDLE_SECONDS", 0.5)
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model="instant" if stays else "x0.02")
    farm.add_recording(recording(8)[0])

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True)) as worker:
                cutting_ = worker.agent._cutting
                recognising = cutting_._recognising
                monkeypatch.setattr(cutting_, "_recognising", lambda: not stays)  # at that moment, however slow all is
                await until(lambda: farm.jobs["t.c"].state == "done", "it is cut")
                if stays:
                    await until(lambda: farm.all_are("done"), "all jobs done")
                    await until(lambda: not _resting(), "it has waited long enough")
                    assert cutters(), "the next recording does not wait for one"
                else:
                    await until(recognising, "it recognises")
                    await until(lambda: not cutters(), "its memory is free")
                    farm.add_recording(recording(8)[0])
                    await until(lambda: farm.jobs["t1.c"].state == "done", "another one cuts the next recording")
                assert not worker.said("child_died")

    asyncio.run(scene())


def test_a_cutter_that_cuts_again_begins_its_rest_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "IDLE_SECONDS", 3600)
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model="instant")
    farm.add_recording(recording(8)[0])

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: farm.jobs["t.c"].state == "done", "it is cut")
                await until(_resting, "it rests")
                (first,) = _resting()
                farm.add_recording(recording(8)[0])
                await until(lambda: farm.jobs["t1.c"].state == "done", "the next one is cut")
                await until(lambda: first.done() and _resting(), "it rests anew")
                assert first.cancelled(), "the first rest would end it in the middle of the second"

    asyncio.run(scene())


def _resting() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "rest of a cutter"]
