"""Heartbeats: one call for all leases, as often as the server says; and the book of these leases.

Promises: a heartbeat that fails changes nothing and is tried again soon. Each has a short limit, so that a dead line
does not hold up the next. What the server says is gone is dropped at once. A worker that was stopped longer than a
lease learns what it still holds (`sure_of`) before it publishes anything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from whisper_farm.errors import FarmError
from whisper_farm.protocol.wire import JobKind
from whisper_farm.protocol.worker import Claim, HeartbeatRequest
from whisper_farm.worker.api import FATAL, WorkerApi
from whisper_farm.worker.tasks import Wakeup, now

MAX_TOKENS = 4096
_SHORTEST_SECONDS = 0.05
_SHORTEST_LEASE_SECONDS = 0.2
"""A server that names less would be asked without a pause."""
_RETRY_SECONDS = 1.0
_JITTER = 0.2
"""Pauses are shortened by up to this share, so that workers that found a server again together drift apart."""


HowGone = Literal["lost", "cancelled"]


@dataclass(slots=True)
class Lease:
    """One claim in hand. `finished`: nothing is left to do but to hand its end in."""

    claim: Claim
    renewed_at: float
    lease_seconds: float
    finished: bool = False


class Leases:
    """The leases of all claims in hand. `gone` is called with each that the server took away, after it left the book.

    A plain book, no calls. A lease that ran out by our own clock is not gone: only the server's word ends a claim.
    """

    def __init__(self, gone: Callable[[Claim, HowGone], None]) -> None:
        self._gone = gone
        self._leases: dict[str, Lease] = {}

    def __contains__(self, token: str) -> bool:
        return token in self._leases

    def __len__(self) -> int:
        return len(self._leases)

    def add(self, claim: Claim) -> bool:
        """Enter a claim; False if it is in the book already (the same answer came twice)."""
        if claim.token in self._leases:
            return False
        self._leases[claim.token] = Lease(claim, now(), max(_SHORTEST_LEASE_SECONDS, claim.lease_seconds))
        return True

    def tokens(self) -> tuple[str, ...]:
        """Every claim's token, oldest first."""
        return tuple(self._leases)

    def unfinished(self, kind: JobKind) -> int:
        """How many jobs of this kind still need work."""
        return sum(not each.finished and each.claim.task.kind == kind for each in self._leases.values())

    def finish(self, token: str) -> None:
        """Note that only the handing in is left."""
        if lease := self._leases.get(token):
            lease.finished = True

    def end(self, token: str) -> None:
        """Strike out a claim whose end the server knows."""
        self._leases.pop(token, None)

    def take_away(self, tokens: Iterable[str], how: HowGone) -> None:
        """Strike out claims that the server says are gone, and tell."""
        for token in tokens:
            if lease := self._leases.pop(token, None):
                self._gone(lease.claim, how)

    def renewed(self, tokens: Iterable[str], at: float, lease_seconds: float) -> None:
        """Enter a successful heartbeat that was sent at `at`."""
        lease_seconds = max(_SHORTEST_LEASE_SECONDS, lease_seconds)
        for token in tokens:
            if lease := self._leases.get(token):
                lease.renewed_at, lease.lease_seconds = at, lease_seconds

    def doubtful(self, tokens: Iterable[str]) -> bool:
        """Whether one of these leases has run out by our own clock, so that the server should be asked."""
        leases = (self._leases.get(token) for token in tokens)
        return any(each is not None and now() > each.renewed_at + each.lease_seconds for each in leases)


class Heartbeats:
    """The heart of one worker. `told_to_go` is called with True to leave at once, False to drain.

    `told_hours` hears with each beat in which hours the farm wants it to work.
    """

    def __init__(
        self,
        api: WorkerApi,
        leases: Leases,
        told_to_go: Callable[[bool], None],
        told_hours: Callable[[str | None], None] = lambda hours: None,
    ) -> None:
        self.lease_seconds = 20.0
        self.heartbeat_seconds = 5.0
        self._api, self._leases, self._told_to_go, self._told_hours = api, leases, told_to_go, told_hours
        self._beating = asyncio.Lock()
        self._sooner = Wakeup()

    def set_pace(self, lease_seconds: float, heartbeat_seconds: float) -> None:
        """Take over what the server says."""
        self.lease_seconds = max(_SHORTEST_LEASE_SECONDS, lease_seconds)
        self.heartbeat_seconds = max(_SHORTEST_SECONDS, heartbeat_seconds)

    def keep_up_with(self, lease_seconds: float) -> None:
        """A claim has come with this lease: where the fleet has shrunk it is shorter, and wants beats sooner."""
        if lease_seconds < self.lease_seconds:
            self.set_pace(lease_seconds, self.heartbeat_seconds * lease_seconds / self.lease_seconds)
            self._sooner.notify_all()

    async def run(self) -> None:
        """Beat until cancelled, the first time at any moment of the first pause: many may have started with us."""
        await self._sooner.wait(random.uniform(0, self.heartbeat_seconds))
        while True:
            began = now()
            pause = self.heartbeat_seconds if await self.beat() else min(_RETRY_SECONDS, self.heartbeat_seconds / 2)
            pause *= random.uniform(1 - _JITTER, 1)
            await self._sooner.wait(max(_SHORTEST_SECONDS, began + pause - now()))

    async def beat(self) -> bool:
        """Renew everything once; False if the server could not be asked, or refuses for a reason that may pass."""
        async with self._beating:
            tokens = self._leases.tokens()
            try:
                for first in range(0, max(1, len(tokens)), MAX_TOKENS):
                    await self._renew(tokens[first : first + MAX_TOKENS])
            except FATAL:
                raise
            except FarmError:
                return False
            return True

    async def sure_of(self, tokens: Sequence[str]) -> None:
        """Return when the leases of those tokens that are still held are renewed, however long that takes."""
        while self._leases.doubtful(tokens):
            if not await self.beat():
                await asyncio.sleep(min(_RETRY_SECONDS, self.heartbeat_seconds / 2))

    async def _renew(self, tokens: tuple[str, ...]) -> None:
        sent_at = now()
        seconds = max(1.0, min(self.lease_seconds / 4, self._api.timeout_seconds))
        answer = await self._api.heartbeat(HeartbeatRequest(worker_id=self._api.worker_id, tokens=tokens), seconds)
        self.set_pace(answer.lease_seconds, answer.heartbeat_seconds)
        self._told_hours(answer.hours)
        self._leases.take_away(answer.lost, "lost")
        self._leases.take_away(answer.cancelled, "cancelled")
        self._leases.renewed(tokens, sent_at, answer.lease_seconds)
        if answer.dismissed or answer.drain:
            self._told_to_go(answer.dismissed)
