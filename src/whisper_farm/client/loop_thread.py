"""An event loop in a thread of its own, for callers that have none.

Promises: an error comes back to whoever asked. A caller that is interrupted cancels what it asked for. `close` cancels
what still runs in the loop, and ends the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
STOP_SECONDS = 10.0


class LoopThread:
    """One thread with one event loop. Everything but the loop's own work may call it, from any thread."""

    def __init__(self, name: str, make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._make_loop = make_loop
        self._closing = asyncio.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._thread.start()
        self._loop = started.result()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let something run in the loop. To cancel the future cancels the work."""
        if self._closed:
            work.close()
            raise RuntimeError("The event loop is closed.")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let something run in the loop, and wait for what comes of it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, source: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """What an asynchronous generator gives, one after another as it is asked for. Its end is the source's end."""

        async def following() -> T:
            return await anext(source)

        async def closing() -> None:
            await source.aclose()

        try:
            while True:
                yield self.run(following())
        except StopAsyncIteration:
            return
        finally:
            with contextlib.suppress(RuntimeError):
                self.start(closing())

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, soon. Nothing happens where the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        self._closed = True
        self.call(self._closing.set)
        self._thread.join(STOP_SECONDS)

    def _run(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=self._make_loop) as runner:
            runner.run(self._live(started))

    async def _live(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        started.set_result(asyncio.get_running_loop())
        await self._closing.wait()
