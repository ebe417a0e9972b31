"""Everything said, to be searched: SQLite by FTS5, PostgreSQL by its text search, with one behaviour.

What is compared is *folded*: words in small letters without accents, and each letter of scripts that are written
without spaces by itself. So both databases find umlauts, Cyrillic and Chinese alike, and neither has to know languages.
A passage is a segment of a transcript. All words of a search must be in it. The last letters of a word may be left
out. What stands in quotes must be there just so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from whisper_farm.store.database import Transaction
from whisper_farm.store.feeds import OF_FEED
from whisper_farm.store.statements import Change, Query

LOOKED_AT = 1000
"""Passages looked at in one search, those stored last first."""
OF_EACH = 5
"""Passages of one transcription in an answer."""
MOST_TERMS = 16
LONGEST = 2000
"""Letters of a passage that are kept; nobody says more in half a minute."""
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])[^\W_])+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')


class Passage(NamedTuple):
    """A segment of a transcript, where it begins, and what is said in it."""

    position: int
    start_seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that holds what was looked for."""

    transcription_id: str
    name: str
    owner: str
    position: int
    seconds: float
    text: str


FORGET = Change("""
    DELETE FROM passages
     WHERE transcription_id = :id AND position >= :first AND (CAST(:before AS INTEGER) IS NULL OR position < :before)
""")
NOTE = Change("""
    INSERT INTO passages (transcription_id, position, start_seconds, text, folded)
    VALUES (:id, :position, :start_seconds, :text, :folded)
""")
REMOVE = Change("""
    DELETE FROM passages WHERE transcription_id = :id AND start_seconds >= :first AND start_seconds <= :last
""")
NEXT = Query[int]("SELECT coalesce(max(position), -1) + 1 AS next FROM passages WHERE transcription_id = :id")
FIND_IN = """
    SELECT transcriptions.id AS transcription_id, transcriptions.name, transcriptions.owner,
           passages.position, passages.start_seconds AS seconds, passages.text
      FROM {tables} JOIN transcriptions ON transcriptions.id = passages.transcription_id
     WHERE {matches} AND (CAST(:owner AS TEXT) IS NULL OR transcriptions.owner = :owner) AND {of_feed}
     ORDER BY {newest} DESC LIMIT :limit
"""
FIND = Query[FoundPassage](
    FIND_IN.format(
        tables="said JOIN passages ON passages.id = said.rowid",
        matches="said MATCH :words",
        newest="said.rowid",
        of_feed=OF_FEED,
    ),
    postgres=FIND_IN.format(
        tables="passages",
        matches="to_tsvector('simple', passages.folded) @@ CAST(:words AS tsquery)",
        newest="passages.id",
        of_feed=OF_FEED,
    ),
)


def note_said(
    tx: Transaction, transcription_id: str, said: Iterable[Passage], first: int = 0, before: int | None = None
) -> None:
    """Find these passages, and no others between these positions, from now on."""
    tx.change(FORGET, {"id": transcription_id, "first": first, "before": before})
    _note(tx, transcription_id, said)


def note_changes(
    tx: Transaction, transcription_id: str, removed: Iterable[tuple[float, float]], said: Iterable[tuple[float, str]]
) -> None:
    """Find what is said now in the place of passages that began between these times, both included."""
    tx.change(REMOVE, [{"id": transcription_id, "first": first, "last": last} for first, last in removed])
    position = tx.first(NEXT, {"id": transcription_id}) or 0
    _note(tx, transcription_id, [Passage(position + n, start, text) for n, (start, text) in enumerate(said)])


def _note(tx: Transaction, transcription_id: str, said: Iterable[Passage]) -> None:
    told = [one._asdict() | {"id": transcription_id, "folded": fold(one.text[:LONGEST])} for one in said]
    tx.change(NOTE, [one | {"text": one["text"].strip()[:LONGEST]} for one in told])


def find_said(
    tx: Transaction, words: str, owner: str | None, limit: int, feed: str | None = None
) -> list[FoundPassage]:
    """Passages with these words, of one owner or feed or of all; the newest transcription first, each in its order."""
    phrases = [(tokens, open_end) for tokens, open_end in _phrases(words) if tokens][:MOST_TERMS]
    if not phrases:
        return []
    wanted = _for_sqlite(phrases) if tx.dialect == "sqlite" else _for_postgres(phrases)
    found: dict[str, list[FoundPassage]] = {}
    for one in tx.rows(FIND, {"words": wanted, "owner": owner, "feed": feed, "limit": LOOKED_AT}):
        found.setdefault(one.transcription_id, []).append(one)
    chosen = (sorted(of_one, key=lambda one: (one.seconds, one.position))[:OF_EACH] for of_one in found.values())
    return [one for of_one in chosen for one in of_one][:limit]


def fold(text: str) -> str:
    """A text as it is compared: its words in small letters, without accents, with a space between each two."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return " ".join(_WORD.findall(unicodedata.normalize("NFC", plain)))


def _phrases(words: str) -> Iterable[tuple[list[str], bool]]:
    """The folded words of each term, and whether its last word may go on."""
    for exact, loose in _TERM.findall(words):
        tokens = fold(exact or loose).split()
        yield tokens, not exact and len(tokens[-1:] and tokens[-1]) > 1


def _for_sqlite(phrases: Collection[tuple[list[str], bool]]) -> str:
    return " AND ".join(f'"{" ".join(tokens)}"{" *" if open_end else ""}' for tokens, open_end in phrases)


def _for_postgres(phrases: Collection[tuple[list[str], bool]]) -> str:
    written = (
        " <-> ".join(f"'{token}'" for token in tokens) + (":*" if open_end else "") for tokens, open_end in phrases
    )
    return " & ".join(f"({one})" for one in written)
