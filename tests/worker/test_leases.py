"""Leases are kept while work goes on, whatever happens to the line, the farm or the machine; and given up when told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.tone_audio import tone_speech, tone_words
from support.work_here import add_speech, recording, same, speech, until, worker_process, worker_settings, working

from whisper_farm.transcript.options import RecognitionOptions


def slow(model: str) -> RecognitionOptions:
    return RecognitionOptions(engine="tones", model=model)


def test_a_cancelled_job_leaves_the_recogniser_within_a_heartbeat_and_the_next_begins() -> None:
    farm = FakeFarm()
    farm.options = slow("x1")
    farm.add_chunk(*_long_chunk())
    add_speech(farm, speech(1, words=2))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, batch_size=1)) as worker:
                await until(lambda: farm.chunks[0].state == "running" and worker.said("model_ready"), "it began")
                farm.cancel(farm.chunks[0])
                await until(lambda: farm.chunks[1].state == "done", "the next is done")
                assert worker.said("job_dropped")[0].data["how"] == "cancelled"
                assert not worker.said("child_died"), "the child only let go of it"

    asyncio.run(scene())
    assert farm.outcomes == [None]


def _long_chunk() -> tuple[bytes, float, float]:
    from whisper_farm.audio.flac import encode

    spoken = tone_speech(tone_words(2), tail=120)
    return encode(spoken.audio), 0.0, spoken.seconds


def test_lost_answers_are_asked_for_again_and_nothing_is_done_twice() -> None:
    farm = FakeFarm(lease_seconds=3)  # one claim may have all five faults, and a pause after each
    data, truth = recording(40)
    farm.add_recording(data)
    calls = ("register", "claim", "heartbeat", "uploads", "append", "complete", "audio", "source")

    async def scene() -> None:
        with serving(farm) as server:
            for name in calls:
                server.lose_replies[name] = 2
                server.lose_requests[name] = 1
                server.garble_replies[name] = 1
                server.cut_bodies[name] = 1
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"), "all jobs done")
                await until(lambda: all(server.lose_replies[name] == 0 for name in calls), "every fault happened")

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert [job.attempts for job in farm.jobs.values()] == [1] * len(farm.jobs), "no claim was stranded"
    assert set(farm.outcomes) == {None}
    assert farm.lapses == 0


def test_a_farm_that_is_away_longer_than_a_lease_gets_the_results_when_it_is_back() -> None:
    farm = FakeFarm(lease_seconds=0.6)
    farm.options = slow("x8")
    truth = add_speech(farm, *(speech(number) for number in range(4)))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.chunks[0].state == "running" and worker.said("model_ready"), "it began")
                server.down = True
                lost = len(farm.beats)
                await until(lambda: worker.said("unreachable") and server.lost > 5, "it misses the farm")
                await asyncio.sleep(2 * farm.lease_seconds)
                assert len(farm.beats) == lost
                server.down = False
                await until(lambda: farm.all_are("done"), "all chunks done")
                assert [notice.kind for notice in worker.notices if "reachable" in notice.kind] == [
                    "unreachable",
                    "reachable",
                ]

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert [job.attempts for job in farm.chunks] == [1] * 4


def test_a_worker_told_to_beat_rarely_keeps_up_with_a_claim_whose_lease_is_shorter() -> None:
    farm = FakeFarm()
    farm.most_between_beats = 12
    farm.options = slow("x1")

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.beats, "it beats, and the next would come in 12 seconds")
                farm.lease_seconds = 1.0
                farm.add_chunk(*_long_chunk())
                await until(lambda: farm.chunks[0].state == "running", "it claims")
                first = len(farm.beats)
                await until(lambda: len(farm.beats) >= first + 5, "it beats on")
                (attempt,) = farm.attempts.values()
                assert attempt.state == "live"
                assert max(after - before for before, after in pairwise(farm.beats[first:])) < farm.lease_seconds
                assert not worker.said("job_dropped")

    asyncio.run(scene())


def test_a_farm_that_forgot_the_worker_is_told_again_who_it_is() -> None:
    farm = FakeFarm()
    add_speech(farm, speech(0))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.all_are("done"), "the first is done")
                farm.workers.clear()
                await until(lambda: worker.agent.worker_id in farm.workers, "it introduced itself again")
                add_speech(farm, speech(0))
                await until(lambda: farm.all_are("done"), "the second is done")

    asyncio.run(scene())


def test_beats_come_in_time_while_every_core_is_busy() -> None:
    farm = FakeFarm(lease_seconds=1.5)
    farm.options = slow("x1")
    farm.add_chunk(*_long_chunk())
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.chunks[0].state == "running" and worker.said("model_ready"), "it began")
                await until(lambda: farm.beats, "it beats")
                first = len(farm.beats)
                await until(lambda: farm.beats[-1] > farm.beats[first - 1] + 2 * farm.lease_seconds, "it beats on")
                assert max(after - before for before, after in pairwise(farm.beats[first - 1 :])) < farm.lease_seconds

    try:
        asyncio.run(scene())
    finally:
        for burner in burners:
            burner.kill()
            burner.wait(10)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_worker_that_was_frozen_asks_before_it_publishes() -> None:
    farm = FakeFarm(lease_seconds=1)
    farm.options = slow("x2")
    add_speech(farm, speech(0), speech(1))

    async def scene() -> None:
        with serving(farm) as server, worker_process(worker_settings(server.url, batch_size=2)) as frozen:
            await until(lambda: farm.all_are("running") and farm.workers and _loaded(farm), "it began")
            os.kill(frozen.pid, signal.SIGSTOP)
            farm.lease_seconds = 60.0  # of the other one
            async with working(worker_settings(server.url, batch_size=2)):
                await until(lambda: farm.all_are("done"), "another worker has done it")
                assert farm.lapses == 2
            outcomes, beats = len(farm.outcomes), len(farm.beats)
            server.delays["heartbeat"] = 0.5
            os.kill(frozen.pid, signal.SIGCONT)
            await until(lambda: len(farm.beats) > beats + 2, "it beats again")
            assert farm.outcomes[outcomes:] == [], "it did not offer what is no longer its own"

    asyncio.run(scene())
    assert [job.attempts for job in farm.chunks] == [2, 2]


def _loaded(farm: FakeFarm) -> bool:
    return any(offer.loaded for each in farm.registrations for offer in each.engines)


@pytest.mark.parametrize("order", ["drain", "dismissed"])
def test_a_worker_that_is_sent_away_goes(order: str) -> None:
    farm = FakeFarm()
    farm.options = slow("x1")
    farm.add_chunk(*_long_chunk())
    if order == "drain":
        farm.jobs.clear()

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.workers and farm.all_are("running"), "it is there")
                setattr(farm, order, True)
                await worker.ended()
                assert worker.said("left")
                assert worker.task.result() == {"drain": "drained", "dismissed": "dismissed"}[order], "no error"

    asyncio.run(scene())
    assert farm.all_are("queued"), "handed back"
    assert farm.left
