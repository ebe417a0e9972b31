"""How much of a thing one owner may have at once in this coordinator, and how often one may fail to sign in."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from weakref import WeakValueDictionary

from starlette.types import Scope

from whisper_farm.errors import QuotaReached, StorageError, TooManyTries

TRIES = 10
TRIES_SECONDS = 300.0
IPV6_HOUSE = 64
"""Bits of an IPv6 address that tell one house from another."""
FORWARDED_FOR = "whisper_farm.forwarded_for"
"""Where the scope of a request has the address that a trusted proxy names."""
REMEMBERED = 10_000
"""Accounts and addresses whose failures are counted."""


class AtOnce:
    """Counts what each owner has under way."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one_more(self, owner: str) -> Iterator[None]:
        """Count one while the block runs; raises `QuotaReached` if this owner has as many as one may have."""
        if self._under_way[owner] >= self._most:
            raise QuotaReached(f"You have {self._most} {self._what} at once, the most here; wait until one has ended.")
        self._under_way[owner] += 1
        try:
            yield
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]


class Turns:
    """So many at once, of one party half as many, and as many again of those who have none: nobody keeps others out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def one(self, who: str) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the block."""
        while not self._has_room(who):
            await self._ended.wait()
        self._held[who] += 1
        try:
            yield
        finally:
            self._held[who] -= 1
            self._held = +self._held
            self._ended.set()
            self._ended.clear()

    def _has_room(self, who: str) -> bool:
        mine, taken = self._held[who], self._held.total()
        return taken < 2 * self._most if not mine else mine < self._most // 2 and taken < self._most


class OneEach:
    """Lets one of each owner work at a time; the next of the same waits, and holds up nobody else."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, owner: str) -> asyncio.Lock:
        """To be held meanwhile."""
        return self._locks.setdefault(owner, asyncio.Lock())


class FailedTries:
    """Counts failures by account and by address, and refuses where there are too many."""

    def __init__(self, most: int = TRIES) -> None:
        self._most = most
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, *keys: str) -> None:
        """Raise `TooManyTries` if one of them has failed too often lately."""
        if any(map(self.too_many, keys)):
            raise TooManyTries

    @contextmanager
    def one_try(self, *keys: str) -> Iterator[None]:
        """One try, which counts as failed until it has not; raises as `check` does.

        So those that come at once are no more than those that come one after the other.
        """
        self.check(*keys)
        moment = self.failed(*keys)
        try:
            yield
        except StorageError:
            self._forget(moment, keys)
            raise
        self._forget(moment, keys)

    def too_many(self, key: str) -> bool:
        """Whether it has failed too often lately."""
        failures, since = self._failures.get(key), time.monotonic() - TRIES_SECONDS
        return failures is not None and len(failures) >= self._most and failures[0] >= since

    def _forget(self, moment: float, keys: Sequence[str]) -> None:
        for key in keys:
            with suppress(ValueError):
                self._failures.get(key, deque()).remove(moment)

    def failed(self, *keys: str) -> float:
        """Count a failure; returns its moment."""
        moment = time.monotonic()
        for key in keys:
            self._failures.setdefault(key, deque(maxlen=self._most)).append(moment)
            self._failures.move_to_end(key)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)
        return moment


def is_in(scope: Scope, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether a request comes directly from one of these networks."""
    client = scope.get("client")
    return client is not None and any(ip_address(client[0]) in network for network in networks)


def forwarded_for(scope: Scope, proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """Whom a trusted proxy was asked by: the last address that it names. Empty where there is no such proxy or name."""
    if not proxies or not is_in(scope, proxies):
        return ""
    named = [value for key, value in scope["headers"] if key == b"x-forwarded-for"]
    last = named[-1].decode("latin-1").rpartition(",")[2].strip() if named else ""
    try:
        return str(ip_address(last))
    except ValueError:
        return ""


def address_of(scope: Scope) -> str:
    """Where a request comes from, as failures are counted: of IPv6 the network that one house has."""
    host = (scope.get(FORWARDED_FOR) or (scope.get("client") or ("",))[0]).partition("%")[0]
    found = ip_address(host) if ":" in host else None
    if not isinstance(found, IPv6Address) or found.ipv4_mapped:
        return f"address {host}"
    return f"address {ip_network((int(found), IPV6_HOUSE), strict=False)}"
