"""The event log: one row for every state change, written in the transaction that makes the change.

Promises: ids grow in the order of the commits (writes are serialised), so a reader that asks for what came after
the last id it has seen misses nothing; and every commit with an event wakes the listeners of `Database`. Events of
one transaction go into the database together, just before its commit. Old events are retired; the newest one is
kept, so a reader can always tell that it was away for too long (`missed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, func, select

from whisper_farm.protocol.events import EventKind, FarmEvent, fields_of
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import insert_given
from whisper_farm.store.tables import events

RETIRE_BATCH = 10_000
"""Events retired in one transaction, so that writers never wait long."""


_INSERT = Prepared(insert_given(events, "kind", "transcription_id", "owner", "data", at=bindparam("at")))


@dataclass(frozen=True, slots=True)
class Event:
    """One state change."""

    id: int
    at: float
    kind: EventKind
    transcription_id: str | None
    owner: str | None
    data: dict[str, Any]


def emit(tx: Transaction, event: FarmEvent, transcription_id: str | None = None, owner: str | None = None) -> None:
    """Log a state change and wake the listeners, both with the commit. Only inside `Database.write`."""
    if not tx.outbox:
        tx.before_commit(lambda: _write(tx))
        tx.wake()
    about = {"transcription_id": transcription_id, "owner": owner}
    tx.outbox.append({"kind": event.kind, "data": fields_of(event), **about})


def events_after(
    tx: Transaction, last_id: int, transcription_id: str | None = None, owner: str | None = None, limit: int = 500
) -> list[Event]:
    """The events after `last_id`, oldest first, of one transcription or one owner if given; at most `limit`."""
    wanted = {"after": last_id, "recording": transcription_id, "owner": owner, "limit": limit}
    query = _after(transcription_id is not None, owner is not None)
    return [Event(*row) for row in tx.rows(query, {name: value for name, value in wanted.items() if value is not None})]


def newest_event(tx: Transaction) -> int:
    """The id of the newest event; 0 before the first. Where to start when only the future matters."""
    return tx.first(_ENDS, {}).newest or 0


def missed(tx: Transaction, last_id: int) -> bool:
    """Whether events after `last_id` may be gone, or it was never given out here: then start over (`reset`)."""
    oldest, newest = tx.first(_ENDS, {})
    return last_id > 0 if oldest is None else not oldest - 1 <= last_id <= newest


def retire_events(tx: Transaction, before: float, limit: int = RETIRE_BATCH) -> int:
    """Remove events older than the time `before`, all but the newest one; returns how many, `limit` at most."""
    newest = select(func.max(events.c.id)).scalar_subquery()
    old = select(events.c.id).where(events.c.at < before, events.c.id < newest).order_by(events.c.at).limit(limit)
    return tx.connection.execute(delete(events).where(events.c.id.in_(old))).rowcount


_ENDS = Prepared(
    select(
        select(func.min(events.c.id)).scalar_subquery().label("oldest"),
        select(func.max(events.c.id)).scalar_subquery().label("newest"),
    )
)


@cache
def _after(of_one: bool, of_owner: bool) -> Prepared:
    query = select(events).where(events.c.id > bindparam("after")).order_by(events.c.id).limit(bindparam("limit"))
    query = query.where(events.c.transcription_id == bindparam("recording")) if of_one else query
    return Prepared(query.where(events.c.owner == bindparam("owner")) if of_owner else query)


def _write(tx: Transaction) -> None:
    tx.change(_INSERT, {"at": tx.now, "rows": tx.outbox})
