"""The loop's one round: look at every provider, take it into the books, decide, write it down, and only then do it.

Promises: an intent is committed before its call, and every answer before the next round. A coordinator may die at any
point: the next one finds all that it left. One coordinator at a time acts, by a lease in the database; a holder that
lost it writes nothing more. Every call ends within its time limit. A dry run decides and does nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from whisper_farm.errors import NotFound, WrongState
from whisper_farm.fleet.books import Books
from whisper_farm.fleet.decide import decide
from whisper_farm.fleet.pools import Fleet, Pool
from whisper_farm.fleet.providers.provider import CallFailed, Launch, Provider, Seen, classified
from whisper_farm.fleet.sightings import take_in
from whisper_farm.fleet.snapshot import CALLS, Decision, Snapshot
from whisper_farm.leases.workers import dismiss, drain
from whisper_farm.store import machines as rows
from whisper_farm.store.database import Transaction
from whisper_farm.store.machines import LogRow, MachineRow
from whisper_farm.store.workers import unlabelled_workers
from whisper_farm.times import DAY_SECONDS

T = TypeVar("T")
CALL_SECONDS = 60.0
"""How long one call of a provider may take."""
LIST_SECONDS = 30.0
GONE_SECONDS = 3600.0
"""Workers that left within this time still tell how fast they were."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to."""

    mine: bool = True
    """Whether it was this coordinator's turn."""
    decisions: Sequence[Decision] = ()
    failed: int = 0


class Reconciler:
    """Looks after the machines of one farm. `environment` is what a worker must find around it."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Mapping[str, Provider],
        keeper: DatabaseKeeper,
        environment: Callable[[Pool, str, str], Mapping[str, str]],
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fleet, self.providers, self.dry_run = fleet, providers, dry_run
        self._keeper, self._environment, self._clock = keeper, environment, clock
        self._listed_at: dict[str, float] = {}
        self._silent: Mapping[str, str] = {}

    async def round(self) -> Round:
        """Look, decide and do, once."""
        owner = await self._keeper.take_turn()
        if owner is None:
            self._listed_at.clear()
            return Round(mine=False)
        known = await self._keeper.known()
        listed = await self._look(owner, known)
        answered = {name: seen for name, seen in listed.items() if not isinstance(seen, CallFailed)}
        launch_ids = [one.launch_id for seen in answered.values() for one in seen if one.launch_id]
        snapshot = await self._keeper.snapshot(self.fleet, self._listed_at, launch_ids)
        self._listed_at |= dict.fromkeys(answered, snapshot.now)
        snapshot.listed_at = dict(self._listed_at)
        books = Books(snapshot)
        self._note_silence(books, {name: one.message for name, one in listed.items() if isinstance(one, CallFailed)})
        take_in(books, answered)
        decisions = decide(books)
        if self.dry_run:
            await self._only_say(books, decisions)
            return Round(decisions=decisions)
        await self._keeper.keep(books, decisions)
        failed = await self._do(owner, books, decisions)
        return Round(decisions=decisions, failed=failed)

    async def _look(self, owner: str, known: Sequence[MachineRow]) -> dict[str, Sequence[Seen] | CallFailed]:
        async def look(name: str, provider: Provider) -> Sequence[Seen] | CallFailed:
            ids = {row.launch_id: row.machine_id for row in known if row.provider == name}
            try:
                async with asyncio.timeout(LIST_SECONDS):
                    return await provider.look(owner, ids)
            except Exception as error:
                return classified(error)

        found = await asyncio.gather(*(look(name, provider) for name, provider in self.providers.items()))
        return dict(zip(self.providers, found, strict=True))

    def _note_silence(self, books: Books, silent: Mapping[str, str]) -> None:
        """Say once that a provider does not answer, and why."""
        for pool in self.fleet.pools.values():
            message = silent.get(pool.provider)
            if message is not None and self._silent.get(pool.provider) != message:
                books.log.append(LogRow(books.now, pool.name, None, "list failed", message))
        self._silent = silent

    async def _only_say(self, books: Books, decisions: Sequence[Decision]) -> None:
        """What a dry run keeps: the verdicts, and what would have been done."""
        books.changed_machines.clear()
        would = [
            LogRow(books.now, one.pool, None, f"would {one.action}", f"{one.launch_id}: {one.why}") for one in decisions
        ]
        books.log = would
        await self._keeper.keep(books, [])

    async def _do(self, owner: str, books: Books, decisions: Sequence[Decision]) -> int:
        """Make the calls, all at once, each answer kept as it comes; returns how many failed."""
        started, began = self._clock(), books.now
        lock = asyncio.Lock()

        async def answer(work: Callable[[], None]) -> None:
            async with lock:
                books.now = max(books.now, began + self._clock() - started)
                work()
                await self._keeper.keep(books, [])

        calls = [self._call(owner, books, one, answer) for one in decisions if one.action in CALLS]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return sum(1 for result in results if not result)

    async def _call(
        self, owner: str, books: Books, decision: Decision, answer: Callable[[Callable[[], None]], Awaitable[None]]
    ) -> bool:
        row = books.machine(decision.launch_id)
        provider = self.providers.get(row.provider)
        if provider is None:
            return False
        try:
            async with asyncio.timeout(CALL_SECONDS):
                seen = await self._ask(owner, provider, books, decision)
        except Exception as error:
            failure, was_unsure = classified(error), decision.action == "ask"
            await answer(lambda: books.refused(decision, failure, was_unsure))
            return False
        await answer(lambda: books.accepted(decision.launch_id, seen) if seen is not None else books.done(decision))
        return True

    async def _ask(self, owner: str, provider: Provider, books: Books, decision: Decision) -> Seen | None:
        row = books.machine(decision.launch_id)
        pool = self.fleet.pools.get(row.pool)
        machine_id = row.machine_id or ""
        match decision.action:
            case "create" | "ask":
                assert pool is not None
                kept = books.pool(pool.name).fixed is not None  # then its workers do not end for being idle
                told = pool.model_copy(update={"minimum": max(pool.minimum, int(kept))})
                environment = self._environment(told, row.launch_id, decision.region)
                return await provider.create(Launch(row.launch_id, owner, pool, decision.region, environment))
            case "start":
                await provider.start(machine_id)
            case "stop":
                await provider.stop(machine_id, pool.grace_seconds if pool else 0)
            case "destroy":
                if machine_id:
                    await provider.destroy(machine_id)
            case "drain" | "dismiss" | "expect" | "close":
                raise AssertionError(f"{decision.action} is no call")
        return None


class Threads(Protocol):
    """The database, for asynchronous callers."""

    async def write(self, work: Callable[[Transaction], T]) -> T: ...
    async def read(self, work: Callable[[Transaction], T]) -> T: ...


@dataclass
class DatabaseKeeper:
    """Books in the farm's database. `holder` names this coordinator."""

    store: Threads
    holder: str = field(default_factory=lambda: secrets.token_hex(8))
    turn_seconds: float = 30.0
    """How long this coordinator may be unheard of before another one acts; renew the turn more often than that."""

    async def take_turn(self) -> str | None:
        """Begin or go on: the farm's tag if it is our turn."""

        def take(tx: Transaction) -> str | None:
            return rows.owner_tag(tx) if rows.take_turn(tx, self.holder, self.turn_seconds) else None

        return await self.store.write(take)

    async def leave_turn(self) -> None:
        """Let another coordinator go on at once."""
        await self.store.write(lambda tx: rows.leave_turn(tx, self.holder))

    async def known(self) -> list[MachineRow]:
        """Every launch that counts."""
        return await self.store.read(rows.counted_machines)

    async def snapshot(self, fleet: Fleet, listed_at: Mapping[str, float], launch_ids: Sequence[str]) -> Snapshot:
        """All that is known now, read in one transaction; these launches also if they are gone."""
        return await self.store.read(lambda tx: snapshot_of(tx, fleet, listed_at, launch_ids))

    async def keep(self, books: Books, decisions: Sequence[Decision]) -> None:
        """Write what has changed, and tell workers to leave; raises `WrongState` if it is not our turn any more."""
        machines, pools, log = books.taken()
        leaving = [(one, books.machine(one.launch_id).worker_id) for one in decisions]
        wished = [row for row in books.snapshot.machines.values() if row.wish] if decisions else []

        def write(tx: Transaction) -> None:
            rows.check_turn(tx, self.holder)
            for decision, worker_id in leaving:
                if worker_id is not None and decision.action in ("drain", "dismiss"):
                    with suppress(NotFound, WrongState):  # it has left already
                        (drain if decision.action == "drain" else dismiss)(tx, worker_id)
            for row in wished:
                if row.wish is not None:
                    rows.fulfilled(tx, row.launch_id, row.wish)
            rows.keep(tx, machines, pools, log)

        await self.store.write(write)


def snapshot_of(
    tx: Transaction, fleet: Fleet, listed_at: Mapping[str, float], launch_ids: Sequence[str] = ()
) -> Snapshot:
    """Machines, pools, backlog and workers as they are in one transaction."""
    workers = unlabelled_workers(tx, tx.now - GONE_SECONDS)
    machines = {row.launch_id: row for row in rows.counted_machines(tx)}
    lively = [one.launch_id for one in workers if one.launch_id and one.state != "gone"]
    machines |= {row.launch_id: row for row in rows.machines_of(tx, sorted({*launch_ids, *lively} - machines.keys()))}
    spent = rows.spent_by_pool(tx)
    for row in machines.values():
        if row.state == "gone":
            spent[row.pool] = spent.get(row.pool, 0) - row.spent
    midnight = tx.now - tx.now % DAY_SECONDS
    ended = [row for row in rows.machines_gone_since(tx, midnight) if row.launch_id not in machines]
    return Snapshot(tx.now, fleet, machines, rows.pool_rows(tx), rows.needs(tx), workers, listed_at, spent, ended)
