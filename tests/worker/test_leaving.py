"""A worker that leaves finishes or hands back what it holds, and takes its children with it however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import psutil
import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.processes import all_end, children, lives
from support.work_here import PATIENCE, add_speech, speech, until, worker_process, worker_settings, working

from whisper_farm.transcript.options import RecognitionOptions

F_SETPIPE_SZ = 1031

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")


def slow_farm(model: str, chunks: int) -> FakeFarm:
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model=model)
    add_speech(farm, *(speech(number) for number in range(chunks)))
    return farm


def children_of(pid: int) -> list[psutil.Process]:
    return children("whisper_farm.worker.child_main", pid)


def test_draining_finishes_what_was_begun_and_hands_the_rest_back_at_once() -> None:
    farm = slow_farm("x2", chunks=12)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, batch_size=2)) as worker:
                await until(lambda: sum(job.state == "running" for job in farm.chunks) == 3, "it has claimed ahead")
                worker.stop.set()
                await until(lambda: len(farm.released) == 2, "what it had not begun is back")
                assert not farm.outcomes, "while the rest is still being recognised"
                await worker.ended()
                assert worker.task.result() == "stopped"

    asyncio.run(scene())
    assert farm.chunks[0].state == "done"
    assert {job.state for job in farm.chunks[1:]} == {"queued"}
    assert not any(job.charged or job.failures for job in farm.chunks)
    assert len(farm.released) == 2, "and nothing more was asked for"
    assert len(farm.left) == 1


def test_chunks_in_a_child_that_dies_while_the_worker_drains_are_handed_back_uncharged() -> None:
    farm = slow_farm("x0.1", chunks=2)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, batch_size=2)) as worker:
                await until(lambda: worker.agent._recognising._begun, "it is busy")
                worker.stop.set()
                await until(lambda: worker.said("draining"), "it drains")
                for child in children_of(os.getpid()):
                    child.kill()
                await worker.ended()
                assert worker.task.result() == "stopped"

    asyncio.run(scene())
    assert farm.all_are("queued")
    assert not any(job.charged or job.failures for job in farm.chunks)


def test_leaving_at_once_takes_less_than_two_seconds_and_hands_everything_back() -> None:
    farm = slow_farm("x0.1", chunks=6)

    async def scene() -> float:
        with serving(farm) as server:
            async with working(worker_settings(server.url, cuts=True, batch_size=2)) as worker:
                await until(lambda: sum(job.state == "running" for job in farm.chunks) == 3, "it is busy")
                family = children("whisper_farm.worker.child_main")
                assert len(family) == 2
                began = time.monotonic()
                worker.agent.leave_now()
                await worker.ended()
                took = time.monotonic() - began
                assert worker.task.result() == "left"
                assert not any(map(lives, family))
                return took

    assert asyncio.run(scene()) < 2
    assert farm.all_are("queued")
    assert farm.left


def test_leaving_a_farm_that_does_not_answer_takes_less_than_two_seconds_too() -> None:
    farm = slow_farm("x0.1", chunks=2)

    async def scene() -> float:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.all_are("running") and worker.said("model_ready"), "it is busy")
                server.down = True
                began = time.monotonic()
                worker.agent.leave_now()
                await worker.ended()
                return time.monotonic() - began

    assert asyncio.run(scene()) < 2


def test_a_worker_can_be_stopped_before_its_farm_answers() -> None:
    async def scene() -> None:
        async with working(worker_settings("http://127.0.0.1:9")) as worker:
            await until(lambda: worker.said("unreachable"), "it looks for the farm")
            worker.stop.set()
            await worker.ended()

    asyncio.run(scene())


@LINUX
def test_no_child_outlives_a_killed_worker() -> None:
    farm = slow_farm("x0.1", chunks=2)

    async def scene() -> None:
        with serving(farm) as server, worker_process(worker_settings(server.url, cuts=True)) as worker:
            await until(lambda: farm.all_are("running") and len(children_of(worker.pid)) == 2, "it is busy")
            family = children_of(worker.pid)
            worker.send_signal(signal.SIGKILL)
            all_end(family)

    asyncio.run(scene())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to send")
def test_one_sigterm_drains_and_a_second_one_ends_it_at_once() -> None:
    farm = slow_farm("x0.1", chunks=1)

    async def scene() -> None:
        with serving(farm) as server, worker_process(worker_settings(server.url)) as worker:
            await until(lambda: any(each.loaded for one in farm.registrations for each in one.engines), "it is busy")
            for child in children_of(worker.pid):
                child.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGTERM)
            assert worker.stderr is not None
            while "Draining" not in await asyncio.to_thread(worker.stderr.readline):
                assert worker.poll() is None
            assert worker.poll() is None
            began = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, PATIENCE) == 0
            assert time.monotonic() - began < 3

    asyncio.run(scene())
    assert farm.all_are("queued")
    assert farm.left


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pipe of a known size")
def test_a_log_that_nobody_reads_costs_no_heartbeat() -> None:
    farm = slow_farm("instant", chunks=40)

    async def scene() -> None:
        with serving(farm) as server, worker_process(worker_settings(server.url, batch_size=1)) as worker:
            assert worker.stderr is not None
            import fcntl

            fcntl.fcntl(worker.stderr, F_SETPIPE_SZ, 4096)
            await until(lambda: farm.all_are("done"), "far more lines are written than the pipe holds")
            beats = len(farm.beats)
            await until(lambda: len(farm.beats) > beats + 2, "it beats on")
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, PATIENCE) == 0

    asyncio.run(scene())
