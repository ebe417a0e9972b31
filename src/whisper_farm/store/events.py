"""The event log: one row for every state change, written in the transaction that makes the change.

Promises: ids grow in the order of the commits, because writes take turns. A reader that asks for what came after the
last id it has seen misses nothing. Every commit with an event wakes the listeners of `Database`. The events of one
transaction go into the database together, just before its commit. Old events are retired. The newest one is kept, so
that a reader can always tell that it was away for too long (`missed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whisper_farm.protocol.events import EventKind, FarmEvent, fields_of
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Json, Query, columns

RETIRE_BATCH = 10_000
"""Events retired in one transaction, so that writers never wait long."""


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: float
    kind: EventKind
    transcription_id: str | None
    owner: str | None
    data: dict[str, Any]


INSERT = Change(
    """
    INSERT INTO events (at, kind, transcription_id, owner, data)
    SELECT :at, json_extract(value, '$.kind'), json_extract(value, '$.transcription_id'),
           json_extract(value, '$.owner'), json_extract(value, '$.data')
      FROM json_each(:rows)
""",
    postgres="""
    INSERT INTO events (at, kind, transcription_id, owner, data)
    SELECT :at, value ->> 'kind', value ->> 'transcription_id', value ->> 'owner', value -> 'data'
      FROM json_array_elements(:rows)
    """,
)
"""All events of a transaction at once: PostgreSQL takes several times as long for a statement each."""
ROW = f"SELECT {columns(Event)} FROM events"
AFTER = Query[Event](f"{ROW} WHERE id > :after ORDER BY id LIMIT :limit")
AFTER_OF_OWNER = Query[Event](f"{ROW} WHERE owner = :owner AND id > :after ORDER BY id LIMIT :limit")
AFTER_OF_TRANSCRIPTION = Query[Event](f"""
    {ROW}
     WHERE transcription_id = :transcription AND id > :after AND (CAST(:owner AS TEXT) IS NULL OR owner = :owner)
     ORDER BY id LIMIT :limit
""")
ENDS = Query[tuple[int | None, int | None]](
    "SELECT (SELECT min(id) FROM events) AS oldest, (SELECT max(id) FROM events) AS newest"
)
RETIRE = Change("""
    DELETE FROM events WHERE id IN (
        SELECT id FROM events WHERE at < :before AND id < (SELECT max(id) FROM events) ORDER BY at LIMIT :limit
    )
""")


def emit(tx: Transaction, event: FarmEvent, transcription_id: str | None = None, owner: str | None = None) -> None:
    """Log a state change and wake the listeners, both with the commit. Only inside `Database.write`."""
    if not tx.outbox:
        tx.before_commit(lambda: tx.change(INSERT, {"at": tx.now, "rows": Json(tx.outbox)}))
        tx.wake()
    about = {"transcription_id": transcription_id, "owner": owner}
    tx.outbox.append({"kind": event.kind, "data": fields_of(event), **about})


def events_after(
    tx: Transaction, last_id: int, transcription_id: str | None = None, owner: str | None = None, limit: int = 500
) -> list[Event]:
    """The events after `last_id`, oldest first, of one transcription or one owner if given; at most `limit`."""
    wanted = {"after": last_id, "transcription": transcription_id, "owner": owner, "limit": limit}
    if transcription_id is not None:
        return tx.rows(AFTER_OF_TRANSCRIPTION, wanted)
    return tx.rows(AFTER if owner is None else AFTER_OF_OWNER, wanted)


def newest_event(tx: Transaction) -> int:
    """The id of the newest event; 0 before the first. Where to start when only the future matters."""
    ((_, newest),) = tx.rows(ENDS)
    return newest or 0


def missed(tx: Transaction, last_id: int) -> bool:
    """Whether events after `last_id` may be gone, or it was never given out here: then start over (`reset`)."""
    ((oldest, newest),) = tx.rows(ENDS)
    if oldest is None or newest is None:
        return last_id > 0
    return not oldest - 1 <= last_id <= newest


def retire_events(tx: Transaction, before: float, limit: int = RETIRE_BATCH) -> int:
    """Remove events older than the time `before`, all but the newest one; returns how many, `limit` at most."""
    return tx.changed(RETIRE, {"before": before, "limit": limit})
