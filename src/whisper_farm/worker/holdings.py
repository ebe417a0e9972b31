"""What the worker holds: its claims, when each lease was last renewed, and who wants to know when one is gone.

A plain book, no calls. A lease that ran out by our own clock is not gone: only the server's word ends a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from whisper_farm.protocol.worker import Claim
from whisper_farm.worker.clock import now

Gone = Literal["lost", "cancelled"]


@dataclass(slots=True)
class Held:
    """One claim in hand. `finished`: nothing is left to do but to hand its end in."""

    claim: Claim
    renewed_at: float
    lease_seconds: float
    finished: bool = False


class Holdings:
    """All claims in hand. `gone` is called with each that the server took away, after it left the book."""

    def __init__(self, gone: Callable[[Claim, Gone], None]) -> None:
        self._gone = gone
        self._held: dict[str, Held] = {}

    def __contains__(self, token: str) -> bool:
        return token in self._held

    def __len__(self) -> int:
        return len(self._held)

    def add(self, claim: Claim) -> bool:
        """Enter a claim; False if it is in the book already (the same answer came twice)."""
        if claim.token in self._held:
            return False
        self._held[claim.token] = Held(claim, now(), claim.lease_seconds)
        return True

    def tokens(self) -> tuple[str, ...]:
        """Every claim's token, oldest first."""
        return tuple(self._held)

    def unfinished(self, kind: Literal["chunk", "transcribe"]) -> int:
        """How many jobs of this kind still need work."""
        return sum(not each.finished and getattr(each.claim, kind) is not None for each in self._held.values())

    def finish(self, token: str) -> None:
        """Note that only the handing in is left."""
        if held := self._held.get(token):
            held.finished = True

    def settle(self, token: str) -> None:
        """Strike out a claim whose end the server knows."""
        self._held.pop(token, None)

    def take_away(self, tokens: Iterable[str], how: Gone) -> None:
        """Strike out claims that the server says are gone, and tell."""
        for token in tokens:
            if held := self._held.pop(token, None):
                self._gone(held.claim, how)

    def renewed(self, tokens: Iterable[str], at: float, lease_seconds: float) -> None:
        """Enter a successful beat that was sent at `at`."""
        for token in tokens:
            if held := self._held.get(token):
                held.renewed_at, held.lease_seconds = at, lease_seconds

    def doubtful(self, tokens: Iterable[str]) -> bool:
        """Whether one of these leases has run out by our own clock, so that the server should be asked."""
        held = (self._held.get(token) for token in tokens)
        return any(each is not None and now() > each.renewed_at + each.lease_seconds for each in held)
