"""The decision: from one snapshot to what shall be created, started, drained, stopped and destroyed, and why.

Pure: the same snapshot gives the same decisions, and the simulation runs this very code on a virtual clock. Every
decision says its reason in words, with the numbers it came from.

Promises: nothing is started beyond a pool's maximum, its budget, its hours or the work that can be claimed. Everything
that is not proven gone counts. A machine whose worker holds jobs is drained first. No pool is made smaller on old
knowledge.
"""

from __future__ import annotations

from collections.abc import Iterator

from whisper_farm.fleet.books import Books
from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.sizes import resize, work_left
from whisper_farm.fleet.snapshot import COMING, SERVING, Action, Decision, about
from whisper_farm.store.machines import MachineRow

DISMISS_SECONDS = 15.0
"""How long a worker that is told to hand everything back may take before its machine is ended."""


def decide(books: Books) -> list[Decision]:
    """Everything to do now; written into the books already, intents included."""
    decisions = [one for row in list(books.snapshot.machines.values()) for one in _look_after(books, row)]
    for decision in decisions:
        books.apply(decision)
    decided = {decision.launch_id for decision in decisions}
    work = work_left(books)
    for pool in books.snapshot.fleet.pools.values():
        for decision in resize(books, pool, work):
            if decision.launch_id in decided:
                continue
            if decision.action != "create":
                books.apply(decision)
            decided.add(decision.launch_id)
            decisions.append(decision)
    return decisions


def _look_after(books: Books, row: MachineRow) -> Iterator[Decision]:
    worker = books.worker_of(row)
    if row.state == "gone":  # a machine that was given up, and whose worker is heard of after all, counts again
        if worker is not None and worker.state == "live":
            yield about(row, "dismiss", "It was given up, and its worker lives: it is told to leave.")
        return
    pool, switch = books.snapshot.fleet.pools.get(row.pool), books.pool(row.pool).switch
    if row.state not in ("destroying", "orphan"):
        if row.wish is not None and (found := _wished(books, row)):
            yield found
            return
        if pool is None or switch == "stopped":
            why = "Its pool is stopped." if pool else f"There is no pool {row.pool} any more."
            yield from _end_now(books, row, why)
            return
        if switch == "drained" and row.state in COMING + SERVING and (found := _leave(books, row, "Its pool drains.")):
            yield found
            return
    match row.state:
        case "intended":
            yield from _intended(books, row, pool)
        case "accepted" | "started":
            yield from _on_its_way(books, row, pool)
        case "working":
            yield from _working(books, row, pool)
        case "draining":
            yield from _draining(books, row)
        case "stopping":
            yield from _stopping(books, row, pool)
        case "destroying":
            yield from _destroying(books, row)
        case "stopped" | "orphan":
            pass


def _wished(books: Books, row: MachineRow) -> Decision | None:
    match row.wish:
        case "drain":
            return _leave(books, row, "An administrator drains it.") if row.state in COMING + SERVING else None
        case "stop":
            if row.state in ("stopping", "stopped"):
                return None
            return next(_end_now(books, row, "An administrator stops it.", "stop"), None)
        case "destroy":
            return next(_end_now(books, row, "An administrator destroys it."), None)
        case "start":
            return about(row, "start", "An administrator starts it.") if row.state == "stopped" else None
        case None:
            return None


def _leave(books: Books, row: MachineRow, why: str) -> Decision | None:
    """Let a machine end in good order: a worker is drained, and what has none is destroyed."""
    if row.state == "intended" and not row.unsure:
        return about(row, "close", why)
    if books.is_alive(row):
        return about(row, "drain", why)
    return about(row, "destroy", why)


def _end_now(books: Books, row: MachineRow, why: str, how: Action = "destroy") -> Iterator[Decision]:
    """End a machine at once: its worker hands everything back first, for which it has a few seconds."""
    worker = books.worker_of(row)
    if row.state == "intended" and not row.unsure:
        yield about(row, "close", why)
    elif worker is not None and worker.state in ("live", "draining"):
        yield about(row, "dismiss", why)
    elif worker is None or worker.state == "gone" or books.now - (row.drained_at or 0) >= DISMISS_SECONDS:
        yield about(row, how, why)


def _intended(books: Books, row: MachineRow, pool: Pool | None) -> Iterator[Decision]:
    age = books.now - row.intended_at
    if age >= books.rules.accepted_seconds:
        why = f"No provider took it within {age:.0f} s. {row.failure or ''}".strip()
        yield about(row, "destroy" if row.unsure else "close", why)
    elif pool is not None and books.now >= row.next_call_at and books.pool(row.pool).blocked_until <= books.now:
        region, heard = books.region(pool), books.snapshot.listed_at.get(row.provider, 0)
        nothing_made = books.is_fresh(row.provider)
        if row.unsure:  # then a look some time later must have shown nothing
            nothing_made = heard > row.asked_at and books.now - row.asked_at >= books.rules.settle_seconds
        if region is not None and nothing_made:
            yield about(row, "ask", f"Asked again, {row.asks} times so far: {row.failure or 'no answer'}", region)


def _on_its_way(books: Books, row: MachineRow, pool: Pool | None) -> Iterator[Decision]:
    """The second and the third deadline."""
    if row.state == "accepted":
        limit = (pool.started_seconds if pool else None) or books.rules.started_seconds
        since, what, step = row.accepted_at or row.asked_at, "did not run", "it was taken"
    else:
        since, limit = row.started_at or row.asked_at, books.rules.registered_seconds
        what, step = "had no worker", "it began to run"
    if books.now - since >= limit:
        if row.state == "started":
            books.count_crash(row, f"No worker registered within {limit:g} s.")
        yield about(row, "destroy", f"It {what} {books.now - since:.0f} s after {step}; at most {limit:g} s.")


def _working(books: Books, row: MachineRow, pool: Pool | None) -> Iterator[Decision]:
    worker = books.worker_of(row)
    life = books.now - (row.started_at or row.accepted_at or row.intended_at)
    if worker is None or worker.state == "gone":
        yield about(row, "expect", "Its worker has left: it ends by itself.")
    elif worker.state in ("draining", "dismissed"):
        yield about(row, "drain", "Its worker was told to leave.")
    elif pool is not None and life >= pool.maximum_life_seconds:
        yield about(row, "drain", f"It has lived {life:.0f} s, at most {pool.maximum_life_seconds:g} s.")


def _draining(books: Books, row: MachineRow) -> Iterator[Decision]:
    worker = books.worker_of(row)
    drains = books.now - (row.drained_at or books.now)
    if worker is None or worker.state == "gone":
        yield about(row, "expect", "Its worker has left: it ends by itself.")
    elif worker.state == "live":
        yield about(row, "drain", row.why or "It drains.")
    elif worker.state == "draining" and drains >= books.rules.drain_seconds:
        yield about(row, "dismiss", f"It has drained for {drains:.0f} s: what it holds is handed back.")
    elif worker.state == "dismissed" and drains >= DISMISS_SECONDS and books.now >= row.next_call_at:
        silent = books.now - worker.last_seen_at
        if silent >= DISMISS_SECONDS or drains >= books.rules.drain_seconds + DISMISS_SECONDS:
            yield about(row, "destroy", "Its worker was told to leave at once and did not.")


def _stopping(books: Books, row: MachineRow, pool: Pool | None) -> Iterator[Decision]:
    grace = pool.grace_seconds if pool else 0
    if books.now - (row.ending_at or books.now) >= grace + DISMISS_SECONDS:
        yield about(row, "destroy", f"It did not stop within {grace + DISMISS_SECONDS:g} s.")


def _destroying(books: Books, row: MachineRow) -> Iterator[Decision]:
    """Again and again until it is proven gone; a worker of it that lives is told to leave."""
    worker = books.worker_of(row)
    if worker is not None and worker.state == "live":
        yield about(row, "dismiss", row.why or "It was given up.")
    elif books.now >= row.next_call_at:
        if row.machine_id is None and books.is_fresh(row.provider):
            if books.now - row.asked_at >= books.rules.settle_seconds:
                yield about(row, "close", f"{row.why} No look has shown it since.")
        elif row.machine_id is not None:
            yield about(row, "destroy", row.why or "It was given up.")
