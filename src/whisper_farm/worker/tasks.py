"""The background tasks of one worker: an error that nobody expected in one of them ends them all, and is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Self


class Crew:
    """Use it in `async with`: the block ends when all tasks have ended, so end those that would go on for ever."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Do this in the background."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def dismiss(self) -> None:
        """Cancel whatever still runs."""
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, at)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None


async def ended(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel these tasks and wait until they have ended."""
    there = [task for task in tasks if task is not None]
    for task in there:
        task.cancel()
    if there:
        await asyncio.wait(there)
