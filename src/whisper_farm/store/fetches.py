"""Links on their way in: whose turn it is, what is stored of each, and who holds it.

A coordinator takes a fetch under a name that it makes up (`holder`) and renews it while bytes come. What it writes
counts only as long as it holds the fetch, so that two coordinators never mix their parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Json, Query, columns

HELD_SECONDS = 45.0
"""How long a fetch is left alone whose holder is not heard of."""

WAIT_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200)
"""After each try in vain; the one after the last is the end."""


@dataclass(frozen=True, slots=True)
class FetchRow:
    """One row of `fetches`, or a fetch as its holder knows it. `parts` are pairs of a key and a size."""

    transcription_id: str
    owner: str
    holder: str | None
    validator: str | None
    error: str | None
    tries: int
    received_bytes: int
    total_bytes: int | None
    since: float
    next_at: float
    parts: list[list[Any]]

    @property
    def last_try_at(self) -> float:
        """When it is tried last, if nothing comes until then."""
        return self.next_at + sum(WAIT_SECONDS[self.tries :])


ADD = Change("""
    INSERT INTO fetches (transcription_id, owner, since, parts) VALUES (:id, :owner, :now, :parts)
    ON CONFLICT (transcription_id) DO UPDATE SET since = :now, tries = 0, next_at = 0, holder = NULL, error = NULL
""")
FIND = Query[FetchRow](f"SELECT {columns(FetchRow)} FROM fetches WHERE transcription_id IN :ids")
DUE = Query[str]("""
    WITH held AS (
        SELECT owner, count(*) AS fetches FROM fetches WHERE holder IS NOT NULL AND next_at > :now GROUP BY owner)
    SELECT fetches.transcription_id FROM fetches
      JOIN transcriptions ON transcriptions.id = fetches.transcription_id
      LEFT JOIN held ON held.owner = fetches.owner
     WHERE transcriptions.state = 'fetching' AND fetches.next_at <= :now AND coalesce(held.fetches, 0) < :most
     ORDER BY coalesce(held.fetches, 0), fetches.next_at, transcriptions.created_at, transcriptions.id LIMIT 1
""")
TAKE = Change("""
    UPDATE fetches SET holder = :holder, next_at = :until, tries = tries + 1 WHERE transcription_id = :id
""")
HOLD = Change("""
    UPDATE fetches SET next_at = :until, received_bytes = :received_bytes, total_bytes = :total_bytes,
           validator = :validator, parts = :parts
     WHERE transcription_id = :transcription_id AND holder = :holder
       AND EXISTS (SELECT 1 FROM transcriptions WHERE transcriptions.id = :transcription_id AND state = 'fetching')
""")
LET_GO = Change("""
    UPDATE fetches SET holder = NULL, next_at = :at, error = :error, tries = tries - :uncounted
     WHERE transcription_id = :id AND holder = :holder
""")
FORGET = Change("DELETE FROM fetches WHERE transcription_id = :id")


def add_fetch(tx: Transaction, transcription_id: str, owner: str) -> None:
    """Fetch what the link of this transcription leads to, now; again, with all its tries, if it was given up."""
    tx.change(ADD, {"id": transcription_id, "owner": owner, "now": tx.now, "parts": Json([])})


def fetches_of(tx: Transaction, transcription_ids: Sequence[str]) -> dict[str, FetchRow]:
    """The fetches of these transcriptions, by id."""
    rows = tx.rows(FIND, {"ids": list(transcription_ids)}) if transcription_ids else []
    return {row.transcription_id: row for row in rows}


def due_fetch(tx: Transaction, most: int) -> str | None:
    """The transcription whose link is to be fetched next: of the owner of whose links fewest are being fetched.

    None if there is none, or if `most` are being fetched of each owner who has one.
    """
    return tx.first(DUE, {"now": tx.now, "most": most})


def take_fetch(tx: Transaction, holder: str, most: int) -> FetchRow | None:
    """Hold the fetch that is due."""
    due = due_fetch(tx, most)
    if due is None:
        return None
    tx.change(TAKE, {"id": due, "holder": holder, "until": tx.now + HELD_SECONDS})
    return fetches_of(tx, [due])[due]


def hold_fetch(tx: Transaction, held: FetchRow) -> bool:
    """Go on holding it, and note what is there; False if it is somebody else's, or nobody wants it any more."""
    return tx.changed(HOLD, asdict(held) | {"until": tx.now + HELD_SECONDS, "parts": Json(held.parts)}) == 1


def let_go(
    tx: Transaction, transcription_id: str, holder: str, error: str | None, wait_seconds: float, counts: bool
) -> None:
    """End a try, and try again after so many seconds. One that does not count leaves as many tries as before."""
    told = {"id": transcription_id, "holder": holder, "error": error, "at": tx.now + wait_seconds}
    tx.change(LET_GO, told | {"uncounted": 0 if counts else 1})


def forget_fetch(tx: Transaction, transcription_id: str) -> list[str]:
    """Forget a fetch; returns the keys of its parts."""
    found = fetches_of(tx, [transcription_id])
    tx.change(FORGET, {"id": transcription_id})
    return [key for row in found.values() for key, _ in row.parts]
