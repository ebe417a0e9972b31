"""The log of edits of each transcription: entries are added and never changed, but for the name of a version.

Numbers begin at 1 and have no holes. The number 0 stands for the machine's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from whisper_farm.errors import NotFound, QuotaReached
from whisper_farm.protocol.events import TranscriptionEdited
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query
from whisper_farm.store.transcriptions import TranscriptionRow
from whisper_farm.transcript.edits import Edit

MOST_EDITS = 20_000
"""Of one transcription; ten hours that are written anew, sentence by sentence and twice."""
MOST_LETTERS = 64_000_000
"""Of all edits of one transcription together."""
EDIT = TypeAdapter(Edit)


@dataclass(frozen=True, slots=True)
class EditRow:
    """One entry as it is stored."""

    number: int
    author: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A number that has a name."""

    number: int
    name: str
    author: str
    at: float


AFTER = Query[EditRow]("""
    SELECT number, author, content FROM edits
     WHERE transcription_id = :transcription AND number > :after ORDER BY number
""")
NEWEST = Query[tuple[int, int]]("""
    SELECT coalesce(max(number), 0) AS number, coalesce(sum(letters), 0) AS letters
      FROM edits WHERE transcription_id = :transcription
""")
IS_EDITED = Query[bool]("SELECT EXISTS (SELECT 1 FROM edits WHERE transcription_id = :transcription) AS edited")
ADD = Change("""
    INSERT INTO edits (transcription_id, number, author, at, letters, content)
    VALUES (:transcription, :number, :author, :at, :letters, :content)
""")
VERSIONS = Query[VersionRow]("""
    SELECT number, name, author, at FROM edits
     WHERE transcription_id = :transcription AND name IS NOT NULL ORDER BY number
""")
NAME = Change("UPDATE edits SET name = :name WHERE transcription_id = :transcription AND number = :number")


def edits_after(tx: Transaction, transcription_id: str, after: int = 0) -> list[Edit]:
    """The entries after a number, in order."""
    rows = tx.rows(AFTER, {"transcription": transcription_id, "after": after})
    return [EDIT.validate_python(row.content | {"number": row.number, "author": row.author}) for row in rows]


def is_edited(tx: Transaction, transcription_id: str) -> bool:
    return bool(tx.first(IS_EDITED, {"transcription": transcription_id}))


def add_edit(tx: Transaction, row: TranscriptionRow, edit: Edit) -> bool:
    """Add an entry at its number; False if that number is not the next one any more."""
    ((newest, there),) = tx.rows(NEWEST, {"transcription": row.id})
    if edit.number != newest + 1:
        return False
    content = EDIT.dump_python(edit, mode="json", exclude={"number", "author"}, exclude_defaults=True)
    letters = len(str(content))
    if edit.number > MOST_EDITS or there + letters > MOST_LETTERS:
        raise QuotaReached(f"{row.name} has as many edits as a transcription may have.")
    about = {"transcription": row.id, "number": edit.number, "author": edit.author, "at": tx.now}
    tx.change(ADD, about | {"letters": letters, "content": Json(content)})
    emit(tx, TranscriptionEdited(number=edit.number, author=edit.author), row.id, row.owner)
    return True


def versions_of(tx: Transaction, transcription_id: str) -> list[VersionRow]:
    """The numbers that have names, in order."""
    return tx.rows(VERSIONS, {"transcription": transcription_id})


def name_version(tx: Transaction, row: TranscriptionRow, number: int, name: str | None) -> None:
    """Give a number a name, or take it away; raises `NotFound`."""
    if not tx.changed(NAME, {"transcription": row.id, "number": number, "name": name}):
        raise NotFound(f"{row.name} has no edit {number}.")
    ((newest, _),) = tx.rows(NEWEST, {"transcription": row.id})
    emit(tx, TranscriptionEdited(number=newest, author=row.owner), row.id, row.owner)
