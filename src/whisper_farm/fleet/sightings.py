"""What was seen of machines goes into the books: what runs, what ended, what is missing, what nobody asked for.

Pure, as the books are. The first look that does not show a machine proves nothing. A worker that is heard of counts for
more than what its provider says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from whisper_farm.fleet.books import Books
from whisper_farm.fleet.providers.provider import Seen
from whisper_farm.fleet.snapshot import ALIVE
from whisper_farm.store.machines import MachineRow

LOOKS = 2
"""So many looks that do not show a machine prove that it is gone."""


def take_in(books: Books, listed: Mapping[str, Iterable[Seen]]) -> None:
    """Take in what each provider lists, and which machines have a worker now."""
    for provider, seen in listed.items():
        _observe(books, provider, seen)
    _meet(books)


def _observe(books: Books, provider: str, seen: Iterable[Seen]) -> None:
    """Take in what a provider lists: what runs, what ended, what is missing, what nobody asked for."""
    mine: dict[str, Seen] = {}
    extra: list[Seen] = []
    for one in seen:
        row = books.snapshot.machines.get(one.launch_id or "")
        if row is None or one.machine_id != (row.machine_id or one.machine_id) or row.launch_id in mine:
            extra.append(one)
        else:
            mine[row.launch_id] = one
    known = [row for row in books.snapshot.machines.values() if row.provider == provider]
    for row in known:
        if (found := mine.get(row.launch_id)) is None:
            continue
        if row.state != "gone":
            _found(books, row, found)
        elif found.state in ("coming", "running"):
            _woken(books, row, found)
    for one in extra:
        _unexpected(books, provider, one)
    shown = {one.machine_id for one in extra}
    for row in known:
        if row.state != "gone" and row.launch_id not in mine and row.machine_id not in shown:
            _missed(books, books.machine(row.launch_id))


def _meet(books: Books) -> None:
    """Take in which machines have a worker now."""
    for row in list(books.snapshot.machines.values()):
        worker = books.worker_of(row)
        if worker is None:
            continue
        if row.worker_id is None:
            row = books.change(row, worker_id=worker.id, registered_at=books.now)
            books.note(row, "registered", f"Its worker {worker.id} has registered.")
            books.change_pool(row.pool, crashes=0)
        if worker.state in ALIVE and row.state in ("intended", "accepted", "started", "orphan"):
            books.change(row, state="working", why="Its worker works.")
        elif worker.state in ALIVE and row.state == "stopped":
            why = "It should be stopped, but its worker lives."
            books.change(row, state="draining", drained_at=books.now, why=why)


def _found(books: Books, row: MachineRow, seen: Seen) -> None:
    facts: dict[str, Any] = {"missing": 0, "machine_id": seen.machine_id, "region": seen.region or row.region}
    if row.accepted_at is None:
        facts["accepted_at"] = books.now
    if row.state == "intended":
        facts |= {"state": "accepted", "why": "The provider has taken it."}
    row = books.change(row, **facts)
    if seen.state in ("running", "stopping"):
        books.runs(row, seen)
    elif seen.state in ("stopped", "failed", "gone"):
        _ended(books, row, seen)


def _woken(books: Books, row: MachineRow, seen: Seen) -> None:
    """It was given up and is there after all: it counts and is paid again, until it is proven gone again."""
    facts = {"state": "destroying", "ended_at": None, "ending_at": books.now, "missing": 0, "asks": 0}
    why = "It was given up, and is there after all."
    row = books.change(row, why=why, machine_id=seen.machine_id, next_call_at=books.now, **facts)
    books.note(row, "woken", why)
    if seen.state == "running":
        books.runs(row, seen)


def _ended(books: Books, row: MachineRow, seen: Seen) -> None:
    if not seen.sure and books.is_alive(row):
        why = "Its provider says that it has ended, but its worker lives: it is told to leave."
        books.change(row, state="draining", drained_at=row.drained_at or books.now, why=why)
        return
    ran = row.running_since is not None or seen.started_at is not None
    if row.running_since is None and seen.started_at is not None and not row.stretches and seen.ended_at:
        row = books.change(row, running_since=seen.started_at)
    row = books.stop_clock(row, seen.ended_at if seen.sure else None)
    if row.state in ("accepted", "started", "working", "draining") and ran:
        _judge_end(books, row, seen)
    if seen.state == "gone":
        books.gone(books.machine(row.launch_id), f"Its provider has ended it. {seen.message}".strip())
    elif row.state in ("accepted", "started", "working", "draining", "stopping"):
        why = seen.message or ("It has ended." if ran or row.stretches else "It is ready and does not run yet.")
        books.change(books.machine(row.launch_id), state="stopped", ending_at=books.now, why=why)


def _judge_end(books: Books, row: MachineRow, seen: Seen) -> None:
    """Count an end that was a fault of its own before any work was done; anything else is no crash."""
    if seen.exit == "crash":
        books.note(row, "crash", f"It ended by a fault of its own: {seen.message}")
        if row.registered_at is None:
            books.count_crash(row, seen.message)


def _missed(books: Books, row: MachineRow) -> None:
    """A look that does not show it. The first one proves nothing; a new machine may be left out for a while."""
    if row.state == "intended" or books.is_alive(row):
        return
    if books.now - max(row.asked_at, row.accepted_at or 0) < books.rules.settle_seconds:
        return
    row = books.change(row, missing=row.missing + 1)
    if row.missing >= LOOKS:
        if row.state == "started" and row.registered_at is None:
            books.note(row, "lost", "It vanished before its worker registered.")
        books.gone(row, f"Its provider did not show it {LOOKS} times.")


def _unexpected(books: Books, provider: str, seen: Seen) -> None:
    """A machine with our tag that the books do not have: written down at once, so that it counts and is paid."""
    launch_id = f"orphan-{seen.machine_id}"[:64]
    row = books.snapshot.machines.get(launch_id)
    if seen.state == "gone":
        if row is not None and row.state != "gone":
            books.gone(books.stop_clock(row, seen.ended_at), "Its provider has ended it.")
        return
    if row is not None:
        if row.state == "gone":
            return
        row = _runs_or_ends(books, books.change(row, missing=0), seen)
        if row.state == "orphan":
            why = "Nobody asked for it, and it was seen twice."
            books.change(row, state="destroying", ending_at=books.now, asks=0, next_call_at=books.now, why=why)
        return
    name = seen.pool or "unknown"
    pool = books.snapshot.fleet.pools.get(name)
    row = MachineRow(
        launch_id, name, provider, seen.region, "orphan", pool.price_per_hour if pool else 0, books.now, books.now,
        "It carries the tag of this farm, but nobody here asked for it.", seen.machine_id, accepted_at=books.now,
    )  # fmt: skip
    lives = books.by_launch.get(seen.launch_id or "")
    if seen.launch_id and lives and lives.state in ALIVE and seen.launch_id not in books.snapshot.machines:
        row = replace(row, launch_id=seen.launch_id, why="Its worker lives: it belongs to us after all.")
    books.add(row)
    books.note(row, "orphan", row.why)
    _runs_or_ends(books, row, seen)


def _runs_or_ends(books: Books, row: MachineRow, seen: Seen) -> MachineRow:
    if seen.state in ("running", "stopping"):
        books.runs(row, seen)
    elif seen.state in ("stopped", "failed"):
        books.stop_clock(row, seen.ended_at)
    return books.machine(row.launch_id)
