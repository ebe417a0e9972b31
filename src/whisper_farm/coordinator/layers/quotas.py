"""How much of a thing one owner may have at once in this coordinator, so that nobody takes what all share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from whisper_farm.errors import QuotaReached


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
