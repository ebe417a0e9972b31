"""Background tasks end together and in peace, whenever they were started; a wake-up reaches all who wait."""

from __future__ import annotations

import asyncio

import pytest

from whisper_farm.worker.tasks import BackgroundTasks, Wakeup


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_task_that_is_started_while_all_are_ended_never_begins() -> None:
    begun: list[str] = []

    async def scene() -> None:
        tasks = BackgroundTasks(failed=lambda: None)

        async def begin(name: str) -> None:
            begun.append(name)

        async def parent() -> None:
            try:
                await for_ever()
            finally:
                tasks.start(begin("too late"), "child")

        tasks.start(begin("in time"), "child")
        tasks.start(parent(), "parent")
        await asyncio.sleep(0)
        await tasks.end()
        late = tasks.start(begin("far too late"), "child")
        await asyncio.wait([late])
        assert late.cancelled()

    asyncio.run(scene())
    assert begun == ["in time"]


def test_the_first_error_of_a_task_is_told_and_raised() -> None:
    told: list[bool] = []

    async def scene() -> None:
        tasks = BackgroundTasks(failed=lambda: told.append(True))

        async def fail(error: Exception) -> None:
            raise error

        tasks.check()
        tasks.start(for_ever(), "goes on")
        tasks.start(fail(KeyError("first")), "fails")
        tasks.start(fail(ValueError("second")), "fails")
        await asyncio.sleep(0.01)
        with pytest.raises(KeyError, match="first"):
            tasks.check()
        await tasks.end()

    asyncio.run(scene())
    assert told == [True, True]


def test_a_wakeup_reaches_all_who_wait_now_and_nobody_later() -> None:
    async def scene() -> None:
        wakeup = Wakeup()
        waiting = [asyncio.create_task(wakeup.wait(60)) for _ in range(3)]
        await asyncio.sleep(0)
        wakeup.notify_all()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        later = asyncio.create_task(wakeup.wait(60))
        await asyncio.sleep(0.01)
        assert not later.done(), "nothing is remembered"
        later.cancel()

    asyncio.run(scene())


def test_a_wait_that_is_cancelled_while_it_is_woken_is_cancelled() -> None:
    """Otherwise a task would go on after its end, and start others."""

    async def scene() -> None:
        wakeup = Wakeup()
        waiting = asyncio.create_task(wakeup.wait(60))
        await asyncio.sleep(0.01)
        wakeup.notify_all()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    asyncio.run(scene())
