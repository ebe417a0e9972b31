"""The background tasks of one worker, how they wake each other, and the clock that they share."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Coroutine


def now() -> float:
    """Seconds since some moment in the past. It never jumps back, and it goes on while a laptop sleeps."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


class Wakeup:
    """Wakes everybody who waits for it at that moment. Nothing is remembered: look first whether you need to wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify_all(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for the next `notify_all`, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()


class BackgroundTasks:
    """Tasks that run until they end or until `end`. `failed` is called when an error ends one of them.

    This is no `asyncio.TaskGroup`: a task may be started at any moment, even while all are being ended. A task that is
    started too late is cancelled before it does anything.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._error: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Do this in the background."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if self._ending:
            task.cancel()
        return task

    def check(self) -> None:
        """Raise the first error that ended a task."""
        if self._error is not None:
            raise self._error

    async def end(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        self._ending = True
        while self._tasks:
            await ended(*self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._ending:
            self._error = self._error or error
            self._failed()


async def ended(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel these tasks and wait until they have ended."""
    there = [task for task in tasks if task is not None]
    for task in there:
        task.cancel()
    if there:
        await asyncio.wait(there)
