"""What is brought to its end though its task is told to stop meanwhile: work that others count on, and processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
END_SECONDS = 10.0
"""What was killed has ended by then, unless the operating system does not let go of it."""


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Finish this, however often the task is cancelled, and be cancelled then. The work bounds its own time."""
    working = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError as told:
            cancelled = told
    if cancelled is None:
        return working.result()
    if not working.cancelled():
        working.exception()  # whoever is told to stop hears of nothing else
    raise cancelled


def kill_session(process: asyncio.subprocess.Process) -> None:
    """`kill -9` to a process that leads a session, and to all that it started."""
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


async def collect(process: asyncio.subprocess.Process) -> None:
    """Collect a process that ends or was killed. What it still writes is not waited for.

    One that the operating system does not let go of is left behind.
    """
    for number in range(3):
        close_pipe(process, number)
    await to_the_end(_collected(process))


def close_pipe(process: asyncio.subprocess.Process, number: int) -> None:
    """Close what leads to its input, its output or its errors, by their number. Whoever reads is at the end.

    A pipe that nobody reads, or that somebody else holds, would keep `wait` waiting. To read it to the end is no way
    out: where two read, the second may take the first one's turn to be woken.
    """
    if pipe := process._transport.get_pipe_transport(number):  # type: ignore[attr-defined]
        pipe.close()


async def _collected(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process._transport.close()  # type: ignore[attr-defined]
