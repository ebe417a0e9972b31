"""Coalescing: calls that come while others are being served are served together, next.

One transaction for a group costs little more than one for a call (group commit). The same holds for look-ups. So a busy
farm becomes faster the more there is to do. On an idle one nobody waits: the first call is served at once, alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from whisper_farm.errors import StorageError, StoreUnavailable

Q = TypeVar("Q")
A = TypeVar("A")

MOST_CALLS = 64
"""Calls in one group."""
WAIT_SECONDS = 30.0
"""A call that waits for longer is refused, and not served once nobody waits for it."""


class Coalescing(Generic[Q, A]):
    """Serves calls in groups, one group at a time, in order of asking.

    What keeps the stores from serving is told to the whole group. After any other error each call is served alone, so
    that the error is the answer only to the call that caused it.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        most: int = MOST_CALLS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._serve, self._most, self._wait_seconds = serve, most, wait_seconds
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._serving: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    async def ask(self, call: Q) -> A:
        """The answer to this call; raises `StoreUnavailable` if it does not come in time."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve_all())
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("The farm is too busy to answer in time; try again.") from None

    async def _serve_all(self) -> None:
        try:
            while self._waiting:
                group = [one for one in self._waiting[: self._most] if not one[1].done()]
                del self._waiting[: self._most]
                if group:
                    await self._answer(group)
        finally:
            self._serving = None

    async def _answer(self, group: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._serve([call for call, _ in group])
        except Exception as error:
            if len(group) > 1 and not isinstance(error, StorageError):
                for one in group:
                    await self._answer([one])
                return
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), found in zip(group, answers, strict=True):
            if not answer.done():
                answer.set_result(found)
