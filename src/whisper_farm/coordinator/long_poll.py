"""Long polls: claims that wait for work, woken by commits and due times.

A claim is tried at once. If there is nothing, it waits here. When something may have become claimable, the waiting
claims are tried one after another, longest waiting first. Those with a model in memory come first. Of workers that
want the same, the rest is left waiting when two in a row find nothing: three hundred idle workers cost two empty
claims, not three hundred.

Whatever was claimed is answered, however late: a wait that ends while its claim is being tried waits for the
outcome. Should the client be gone by then, the attempts stay what they are, and the same `request_id` gets them
again. Nothing here is remembered across restarts, and nothing needs to be.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from whisper_farm.errors import FarmError, StorageError
from whisper_farm.leases.claim import Claimed
from whisper_farm.log import logger
from whisper_farm.protocol.worker import ClaimRequest

EMPTY_HANDS = 2
"""Claims in a row that must find nothing before the rest that want the same are left waiting.

Two, because a slow job that is nothing for the worker that holds it may be something for the next. A worker that
leaves a job to others wants what nobody else does, and keeps none from it.
"""
TICK_SECONDS = 2.0
"""How often waiting claims are tried without a cause: for hedges, and should a wake-up ever be lost."""
MIN_DUE_SECONDS = 0.01
"""A due time is a moment too early rather than late; this keeps the loop from spinning until it has come."""
PAUSE_SECONDS = 1.0
"""After a round that failed."""
MAX_WAITING = 10_000
PREFERRED, WARM, COLD = range(3)
"""Who is tried first: who shall hear that it is to drain, who has a model in memory, the others."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try of a claim gave. Without claims: when it is worth trying again, and who wants the same."""

    claims: tuple[Claimed, ...] = ()
    drain: bool = False
    interest: str = ""
    """Equal for workers that may claim the same jobs."""
    warm: bool = False
    """Whether its worker has a model in memory."""
    due_seconds: float | None = None
    """Until a lapse or a retry may make something claimable."""

    @property
    def settled(self) -> bool:
        """Whether this is an answer, rather than a reason to wait."""
        return bool(self.claims) or self.drain


Attempt = Callable[[ClaimRequest], Awaitable[Tried]]
"""Tries a claim in a transaction of its own."""


@dataclass(eq=False, slots=True)
class _Waiter:
    request: ClaimRequest
    interest: str
    rank: int
    outcome: asyncio.Future[Tried]
    watchers: int = 0
    """Calls that wait for it: more than one when a client has asked again."""


_Key = tuple[str, str]


class LongPolls:
    """All claims of this coordinator that wait for work."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._waiting: OrderedDict[_Key, _Waiter] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._trying = asyncio.Lock()
        self._woken = asyncio.Event()
        self._wakes = 0
        self._closed = False
        self._log = logger()

    def __len__(self) -> int:
        return len(self._waiting)

    async def claim(self, request: ClaimRequest, gone: asyncio.Future[None]) -> Tried:
        """Claim now, or wait up to `request.wait_seconds` for work. `gone` is done when the client has left."""
        waiter = self._waiting.get(_key(request))
        if waiter is None:
            wakes = self._wakes
            tried = await self._attempt(request)
            if tried.settled or not request.wait_seconds or self._closed or len(self) >= MAX_WAITING:
                return tried
            waiter = self._waiting.get(_key(request)) or self._enter(request, tried)
            if self._wakes != wakes:
                self._woken.set()
        return await self._wait(waiter, request.wait_seconds, gone)

    def wake(self) -> None:
        """Something may have become claimable. Call it on the event loop."""
        self._wakes += 1
        self._woken.set()

    def prefer(self, worker_id: str) -> None:
        """Try this worker's claims first next time: it is to be told that it shall drain."""
        for waiter in self._waiting.values():
            if waiter.request.worker_id == worker_id:
                waiter.rank = PREFERRED
        self.wake()

    async def run(self) -> None:
        """Serve the waiting claims until closed."""
        while not self._closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._round()
            except FarmError as error:
                self._log.warning("waiting claims cannot be served", action="claim_round", error=error.message)
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                self._log.exception("a round of waiting claims failed", action="claim_round")
                await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Let all waiting claims end now, empty-handed, and `run` as well."""
        self._closed = True
        self._woken.set()
        if self._timer is not None:
            self._timer.cancel()
        async with self._trying:
            for waiter in self._waiting.values():
                _settle(waiter, Tried())

    def _enter(self, request: ClaimRequest, tried: Tried) -> _Waiter:
        outcome = asyncio.get_running_loop().create_future()
        waiter = _Waiter(request, tried.interest, WARM if tried.warm else COLD, outcome)
        self._waiting[_key(request)] = waiter
        self._wake_in(tried.due_seconds)
        return waiter

    async def _wait(self, waiter: _Waiter, seconds: float, gone: asyncio.Future[None]) -> Tried:
        waiter.watchers += 1
        try:
            ends: list[asyncio.Future[Any]] = [waiter.outcome, gone]
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not waiter.outcome.done():
                async with self._trying:  # a try that is under way ends first: what it claims must be answered
                    pass
            return waiter.outcome.result() if waiter.outcome.done() else Tried()
        finally:
            waiter.watchers -= 1
            if not waiter.watchers:
                self._waiting.pop(_key(waiter.request), None)

    async def _round(self) -> None:
        """Try the waiting claims, of each interest until some in a row have found nothing."""
        empty: Counter[str] = Counter()
        for waiter in sorted(self._waiting.values(), key=lambda waiter: waiter.rank):
            if empty[waiter.interest] >= EMPTY_HANDS:
                continue
            tried = await self._try(waiter)
            if tried is not None and tried.settled:
                empty[waiter.interest] = 0
            elif tried is not None:
                empty[waiter.interest] += 1

    async def _try(self, waiter: _Waiter) -> Tried | None:
        """Try one waiting claim, unless it has an answer or nobody waits for it any more. Its next turn is later."""
        key = _key(waiter.request)
        async with self._trying:
            if waiter.outcome.done() or self._waiting.get(key) is not waiter:
                return None
            try:
                tried = await self._attempt(waiter.request)
            except FarmError as error:
                if isinstance(error, StorageError):
                    raise
                if not waiter.outcome.done():
                    waiter.outcome.set_exception(error)
                return None
            if tried.settled:
                _settle(waiter, tried)
            elif key in self._waiting:
                waiter.interest = tried.interest
                self._waiting.move_to_end(key)
                self._wake_in(tried.due_seconds)
            return tried

    def _wake_in(self, due_seconds: float | None) -> None:
        """Wake when the next lapse or retry is due; the earliest of several counts."""
        if due_seconds is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(due_seconds, MIN_DUE_SECONDS)
        if self._timer is not None:
            if not self._timer.cancelled() and loop.time() <= self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self.wake)


def _key(request: ClaimRequest) -> _Key:
    return request.worker_id, request.request_id


def _settle(waiter: _Waiter, tried: Tried) -> None:
    if not waiter.outcome.done():
        waiter.outcome.set_result(tried)
