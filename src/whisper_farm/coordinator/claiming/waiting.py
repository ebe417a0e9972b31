"""Claims that wait for work: woken by commits and due times, a few at a time.

A claim is tried at once. If there is nothing, its worker waits here, together with all others that want the same.
When something may have become claimable the room tries the waiting claims one after another, longest waiting
first, and stops at the first that two of them in a row find nothing: three hundred idle workers cost two empty
claims, not three hundred.

Whatever was claimed is answered, however late: a wait that ends while its claim is being tried waits for the
outcome. Should the client be gone by then, the attempts stay what they are, and the same `request_id` gets them
again. Nothing here is remembered across restarts, and nothing needs to be.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from whisper_farm.coordinator.claiming.groups import Together
from whisper_farm.coordinator.log import logger
from whisper_farm.errors import FarmError
from whisper_farm.leases.claim import Claimed
from whisper_farm.protocol.worker import ClaimRequest

EMPTY_HANDS = 2
"""Claims in a row that must find nothing before the rest of a group is left waiting. Two, because a slow job that is
nothing for the worker that holds it may be something for the next; who was denied a job does not count at all."""
FIRST_TRIES = 16
"""New claims tried in one transaction."""
ROUND_CLAIMS = 8
"""Waiting claims tried in one transaction."""
TICK_SECONDS = 2.0
"""How often waiting claims are tried without a cause: for hedges, and should a wake-up ever be lost."""
MIN_DUE_SECONDS = 0.01
"""A due time is a moment too early rather than late; this keeps the room from spinning until it has come."""
PAUSE_SECONDS = 1.0
"""After a round that failed."""
MAX_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try of a claim gave. Without claims: when it is worth trying again, and who wants the same."""

    claims: tuple[Claimed, ...] = ()
    drain: bool = False
    error: FarmError | None = None
    interest: str = ""
    """Equal for workers that may claim the same jobs."""
    due_seconds: float | None = None
    """Until a lapse or a retry may make something claimable."""
    denied: bool = False
    """Whether there was a job that this worker, which failed or lost it before, has to leave to others."""

    @property
    def settled(self) -> bool:
        """Whether this is an answer, rather than a reason to wait."""
        return bool(self.claims) or self.drain or self.error is not None


class Attempt(Protocol):
    """Tries claims in one transaction until `EMPTY_HANDS` in a row find nothing; None for those not tried any more."""

    async def __call__(self, requests: Sequence[ClaimRequest]) -> Sequence[Tried | None]: ...


@dataclass(eq=False, slots=True)
class _Waiter:
    request: ClaimRequest
    interest: str
    outcome: asyncio.Future[Tried]
    watchers: int = 0
    """Calls that wait for it: more than one when a client has asked again."""


_Key = tuple[str, str]


class WaitingRoom:
    """All claims of this coordinator that wait for work."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._first = Together(self._first_tries, FIRST_TRIES)
        self._waiters: dict[_Key, _Waiter] = {}
        self._groups: dict[str, OrderedDict[_Key, _Waiter]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._wakes = 0
        self._closed = False
        self._log = logger()

    def __len__(self) -> int:
        return len(self._waiters)

    async def claim(self, request: ClaimRequest, gone: asyncio.Future[None]) -> Tried:
        """Claim now, or wait up to `request.wait_seconds` for work. `gone` is done when the client has left."""
        waiter = self._waiters.get(_key(request))
        if waiter is None:
            wakes = self._wakes
            tried = await self._first.ask(request)
            if tried.settled or not request.wait_seconds or self._closed or len(self) >= MAX_WAITING:
                return tried
            waiter = self._waiters.get(_key(request)) or self._enter(request, tried)
            if self._wakes != wakes:
                self._woken.set()
        return await self._wait(waiter, request.wait_seconds, gone)

    def wake(self) -> None:
        """Something may have become claimable. Call it on the event loop."""
        self._wakes += 1
        self._woken.set()

    async def served(self) -> None:
        """Wait for the claims that were woken just now, or rather for the first few of them."""
        await asyncio.sleep(0)  # the room is awake and has its turn
        async with self._turn:
            pass

    def prefer(self, worker_id: str) -> None:
        """Try this worker's claims first next time: it is to be told that it shall drain."""
        for key, waiter in self._waiters.items():
            if waiter.request.worker_id == worker_id:
                self._groups[waiter.interest].move_to_end(key, last=False)
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
        for timer in self._timers.values():
            timer.cancel()
        async with self._turn:
            for waiter in self._waiters.values():
                _settle(waiter, Tried())

    async def _first_tries(self, requests: Sequence[ClaimRequest]) -> list[Tried]:
        """Every one of them is tried, though a try stops when some in a row have found nothing."""
        tried: dict[int, Tried] = {}
        while left := [number for number in range(len(requests)) if number not in tried]:
            some = await self._attempt([requests[number] for number in left])
            tried |= {number: one for number, one in zip(left, some, strict=True) if one is not None}
        return [tried[number] for number in range(len(requests))]

    def _enter(self, request: ClaimRequest, tried: Tried) -> _Waiter:
        waiter = _Waiter(request, tried.interest, asyncio.get_running_loop().create_future())
        self._waiters[_key(request)] = waiter
        self._groups.setdefault(tried.interest, OrderedDict())[_key(request)] = waiter
        self._wake_in(tried)
        return waiter

    async def _wait(self, waiter: _Waiter, seconds: float, gone: asyncio.Future[None]) -> Tried:
        waiter.watchers += 1
        try:
            ends: list[asyncio.Future[Any]] = [waiter.outcome, gone]
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not waiter.outcome.done():
                async with self._turn:  # a try that is under way ends first: what it claims must be answered
                    pass
            return waiter.outcome.result() if waiter.outcome.done() else Tried()
        finally:
            waiter.watchers -= 1
            if not waiter.watchers:
                self._leave(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        key = _key(waiter.request)
        self._waiters.pop(key, None)
        group = self._groups.get(waiter.interest)
        if group is not None:
            group.pop(key, None)
            if not group:
                del self._groups[waiter.interest]
                if timer := self._timers.pop(waiter.interest, None):
                    timer.cancel()

    async def _round(self) -> None:
        for interest in list(self._groups):
            seen: set[_Key] = set()
            while await self._serve(interest, seen):
                pass

    async def _serve(self, interest: str, seen: set[_Key]) -> bool:
        """Try the next few claims of a group that were not `seen` in this round. True when more should be tried."""
        async with self._turn:
            group = self._groups.get(interest, OrderedDict())
            fresh = (waiter for key, waiter in group.items() if key not in seen and not waiter.outcome.done())
            batch = list(islice(fresh, ROUND_CLAIMS))
            if not batch:
                return False
            results = await self._attempt([waiter.request for waiter in batch])
            for waiter, tried in zip(batch, results, strict=True):
                if tried is not None:
                    self._note(waiter, tried)
                    seen.add(_key(waiter.request))
        return None not in results

    def _note(self, waiter: _Waiter, tried: Tried) -> None:
        if tried.settled:
            _settle(waiter, tried)
            return
        group = self._groups.get(waiter.interest, OrderedDict())
        if _key(waiter.request) in group:
            group.move_to_end(_key(waiter.request))
        self._wake_in(tried)

    def _wake_in(self, tried: Tried) -> None:
        """Wake when the next lapse or retry of this group is due; the earliest of several counts."""
        if tried.due_seconds is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(tried.due_seconds, MIN_DUE_SECONDS)
        timer = self._timers.get(tried.interest)
        if timer is not None and not timer.cancelled() and loop.time() <= timer.when() <= at:
            return
        if timer is not None:
            timer.cancel()
        self._timers[tried.interest] = loop.call_at(at, self.wake)


def _key(request: ClaimRequest) -> _Key:
    return request.worker_id, request.request_id


def _settle(waiter: _Waiter, tried: Tried) -> None:
    if not waiter.outcome.done():
        waiter.outcome.set_result(tried)
