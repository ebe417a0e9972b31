"""The database for asynchronous callers: every call runs on a thread of a small pool of its own.

Writers, heartbeats and readers have separate threads, so that a long queue of one kind does not hold up the others.
A call that takes longer than its time-out is answered with `StoreUnavailable`. It may still commit: therefore
everything that writes can be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from whisper_farm.errors import StoreUnavailable
from whisper_farm.store.database import Database, Transaction

T = TypeVar("T")

Emitted = Callable[[Sequence[Mapping[str, object]]], None]
"""Told of the events of each transaction this coordinator has committed."""

WRITERS = 2
"""One that works and one that waits for its turn; more would only wait."""
BEATERS = 2
READERS = 4
CALL_SECONDS = 30.0


class StoreThreads:
    """Runs database work off the event loop."""

    def __init__(self, database: Database, emitted: Emitted = lambda _: None) -> None:
        self.database, self._emitted = database, emitted
        self._closed = False
        self._running: set[asyncio.Future[Any]] = set()
        self._writers = ThreadPoolExecutor(WRITERS, "farm-write")
        self._beaters = ThreadPoolExecutor(BEATERS, "farm-beat")
        self._readers = ThreadPoolExecutor(READERS, "farm-read")

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one serialised transaction."""
        answer, events = await self._on(self._writers, lambda: self.database.write(lambda tx: (work(tx), tx.outbox)))
        self._emitted(events)
        return answer

    async def beat(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a short write that needs no turn of its own."""
        return await self._on(self._beaters, lambda: self.database.beat(work))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent snapshot."""
        return await self._on(self._readers, lambda: self.database.read(work))

    async def run(self, work: Callable[[], T]) -> T:
        """Run something else that asks the database, beside the readers."""
        return await self._on(self._readers, work)

    async def close(self, seconds: float = CALL_SECONDS) -> None:
        """Take no more calls, and let those under way end, for so long at most."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for pool in (self._writers, self._beaters, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _on(self, pool: Executor, call: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable("The server is stopping; try again.")
        running = asyncio.get_running_loop().run_in_executor(pool, call)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await running
        except TimeoutError:
            raise StoreUnavailable("The database did not answer in time; try again.") from None
