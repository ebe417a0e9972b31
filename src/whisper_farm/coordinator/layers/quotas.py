"""How much of a thing one owner may have at once in this coordinator, and how often one may fail to sign in."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from whisper_farm.errors import QuotaReached, TooManyTries

TRIES = 10
TRIES_SECONDS = 300.0
REMEMBERED = 10_000
"""Accounts and addresses whose failures are counted."""


class AtOnce:
    """Counts what each owner has under way."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._under_way: Counter[str] = Counter()

    def check(self, owner: str) -> None:
        """Raise `QuotaReached` if this owner has as many as one may have."""
        if self._under_way[owner] >= self._most:
            raise QuotaReached(f"You have {self._most} {self._what} at once, the most here; wait until one has ended.")

    @contextmanager
    def one_more(self, owner: str) -> Iterator[None]:
        """Count one while the block runs; raises `QuotaReached` as `check` does."""
        self.check(owner)
        self._under_way[owner] += 1
        try:
            yield
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]


class FailedTries:
    """Counts failures by account and by address, and refuses where there are too many."""

    def __init__(self, most: int = TRIES) -> None:
        self._most = most
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, *keys: str) -> None:
        """Raise `TooManyTries` if one of them has failed too often lately."""
        if any(map(self.too_many, keys)):
            raise TooManyTries

    def too_many(self, key: str) -> bool:
        """Whether it has failed too often lately."""
        failures, since = self._failures.get(key), time.monotonic() - TRIES_SECONDS
        return failures is not None and len(failures) >= self._most and failures[0] >= since

    def failed(self, *keys: str) -> None:
        """Count a failure."""
        for key in keys:
            self._failures.setdefault(key, deque(maxlen=self._most)).append(time.monotonic())
            self._failures.move_to_end(key)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)
