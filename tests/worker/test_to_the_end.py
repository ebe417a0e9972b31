"""What must be finished is finished though its task is told to stop, and no process is left behind."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import psutil
import pytest
from support.work_here import until

from whisper_farm import to_the_end as ends
from whisper_farm.fleet.providers.calls import run
from whisper_farm.ingest.program import run_program
from whisper_farm.to_the_end import to_the_end
from whisper_farm.worker.child import Child, ChildDiedError

HOLDS_ON = """
import pathlib, subprocess, sys
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(left.pid))
"""
"""A program that ends, and leaves one behind that has its pipes."""


def test_work_goes_on_however_often_its_task_is_cancelled() -> None:
    async def scene() -> None:
        begun, may_end, done = asyncio.Event(), asyncio.Event(), []

        async def work() -> None:
            begun.set()
            await may_end.wait()
            done.append("all")

        task = asyncio.create_task(to_the_end(work()))
        await begun.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["all"]

    asyncio.run(scene())


def test_a_child_is_collected_though_whoever_closes_it_is_told_to_stop() -> None:
    async def scene() -> int:
        child = await Child.start("cutter")
        closing = asyncio.create_task(child.close())
        await asyncio.sleep(0)
        while not closing.done():
            closing.cancel()
            await asyncio.sleep(0)
        assert not child.running
        return child.pid

    assert not psutil.pid_exists(asyncio.run(scene()))
    gc.collect()  # a pipe that is still open complains


def test_a_child_is_collected_at_once_though_somebody_hears_half_of_what_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half an answer has woken who reads, and the child is closed before they have their turn."""
    monkeypatch.setattr(ends, "END_SECONDS", 3600.0)

    async def scene() -> None:
        child = await Child.start("cutter")
        hearing = asyncio.create_task(child.receive())
        await asyncio.sleep(0)
        assert child._process.stdout is not None
        child._process.stdout.feed_data(b"half")
        async with asyncio.timeout(60):
            await child._close()
        assert isinstance((await asyncio.gather(hearing, return_exceptions=True))[0], ChildDiedError)

    asyncio.run(scene())
    gc.collect()


def test_a_program_that_nobody_reads_any_more_is_collected() -> None:
    async def scene() -> int:
        command = [sys.executable, "-c", "while True: print('x' * 100_000)"]
        async with run_program(command, {}) as program:
            async for _ in program.pieces():
                break
            return program._process.pid

    assert not psutil.pid_exists(asyncio.run(scene()))
    gc.collect()


def test_a_command_line_ends_when_it_must_though_what_it_left_behind_has_its_pipes(tmp_path: Path) -> None:
    left = tmp_path / "left"

    async def scene() -> None:
        running = asyncio.create_task(run([sys.executable, "-c", HOLDS_ON, str(left)], 60.0, {}))
        await until(lambda: left.exists() and left.read_text(), "it left one behind")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scene())
    psutil.Process(int(left.read_text())).kill()
    gc.collect()
