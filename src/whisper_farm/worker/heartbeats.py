"""Heartbeats: one call for all leases, as often as the server says.

Promises: a beat that fails changes nothing and is tried again soon, with a short limit of its own so that a dead line
does not hold up the next; what the server says is gone is dropped at once; a worker that was stopped longer than a
lease learns what it still holds (`sure_of`) before it publishes anything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from whisper_farm.errors import ServerUnreachable
from whisper_farm.protocol.worker import HeartbeatAnswer, HeartbeatRequest
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.bell import Bell
from whisper_farm.worker.clock import now
from whisper_farm.worker.holdings import Holdings

MAX_TOKENS = 4096
_SHORTEST_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_JITTER = 0.2
"""Pauses are shortened by up to this share, so that workers that found a server again together drift apart."""


class Beats:
    """The heart of one worker. `told_to_go` is called with True to leave at once, False to drain."""

    def __init__(
        self,
        api: WorkerApi,
        worker_id: str,
        holdings: Holdings,
        told_to_go: Callable[[bool], None],
    ) -> None:
        self.lease_seconds = 20.0
        self.heartbeat_seconds = 5.0
        self._api = api
        self._worker_id = worker_id
        self._holdings = holdings
        self._told_to_go = told_to_go
        self._beating = asyncio.Lock()
        self._sooner = Bell()

    def set_pace(self, lease_seconds: float, heartbeat_seconds: float) -> None:
        """Take over what the server says."""
        self.lease_seconds = lease_seconds
        self.heartbeat_seconds = max(_SHORTEST_SECONDS, heartbeat_seconds)

    def keep_up_with(self, lease_seconds: float) -> None:
        """A claim has come with this lease: where the fleet has shrunk it is shorter, and wants beats sooner."""
        if lease_seconds < self.lease_seconds:
            self.set_pace(lease_seconds, self.heartbeat_seconds * lease_seconds / self.lease_seconds)
            self._sooner.ring()

    async def run(self) -> None:
        """Beat until cancelled, the first time at any moment of the first pause: many may have started with us."""
        await self._sooner.wait(random.uniform(0, self.heartbeat_seconds))
        while True:
            began = now()
            pause = self.heartbeat_seconds if await self.beat() else min(_RETRY_SECONDS, self.heartbeat_seconds / 2)
            pause *= random.uniform(1 - _JITTER, 1)
            await self._sooner.wait(max(_SHORTEST_SECONDS, began + pause - now()))

    async def beat(self) -> bool:
        """Renew everything once; False if the server could not be asked."""
        async with self._beating:
            tokens = self._holdings.tokens()
            try:
                for first in range(0, max(1, len(tokens)), MAX_TOKENS):
                    await self._renew(tokens[first : first + MAX_TOKENS])
            except ServerUnreachable:
                return False
            return True

    async def sure_of(self, tokens: Sequence[str]) -> None:
        """Return when the leases of those tokens that are still held are renewed, however long that takes."""
        while self._holdings.doubtful(tokens):
            if not await self.beat():
                await asyncio.sleep(min(_RETRY_SECONDS, self.heartbeat_seconds / 2))

    async def _renew(self, tokens: tuple[str, ...]) -> None:
        sent_at = now()
        seconds = max(1.0, min(self.lease_seconds / 4, self._api.timeout_seconds))
        answer = await self._api.heartbeat(HeartbeatRequest(worker_id=self._worker_id, tokens=tokens), seconds)
        self.set_pace(answer.lease_seconds, answer.heartbeat_seconds)
        self._holdings.take_away(answer.lost, "lost")
        self._holdings.take_away(answer.cancelled, "cancelled")
        self._holdings.renewed(tokens, sent_at, answer.lease_seconds)
        self._obey(answer)

    def _obey(self, answer: HeartbeatAnswer) -> None:
        if answer.dismissed or answer.drain:
            self._told_to_go(answer.dismissed)
