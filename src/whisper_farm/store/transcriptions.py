"""Transcriptions as every room of the server reads them: one, a page of them, those that are old."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from whisper_farm.errors import FarmError, every_error
from whisper_farm.protocol.client import ListOrder, TranscriptionState
from whisper_farm.protocol.events import TranscriptionRenamed
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.feeds import OF_FEED
from whisper_farm.store.search import fold
from whisper_farm.store.statements import Change, Query, columns
from whisper_farm.transcript.options import RecognitionOptions


@dataclass(frozen=True, slots=True)
class Usage:
    """What one owner has here: transcriptions under way, bytes of all recordings, seconds cut and not recognised.

    `flows` counts how many queues those under way make: one for each label and model.
    """

    unfinished: int
    flows: int
    stored_bytes: int
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which transcriptions are listed: of one owner, in some states, with these words in their name; by which order.

    Of one feed those of its episodes.
    """

    owner: str | None = None
    states: Collection[TranscriptionState] = ()
    title: str = ""
    order: ListOrder = "newest"
    feed: str | None = None


@dataclass(frozen=True, slots=True)
class TranscriptionRow:
    """One row of `transcriptions`; `source` is `blob:KEY`, `file:PATH` or `link:URL`, JSON columns are as stored."""

    id: str
    owner: str
    name: str
    key: str | None
    label: str
    state: TranscriptionState
    priority: int
    source: str
    source_size: int
    source_sha256: str | None
    chunk_seconds: float
    options: dict[str, Any]
    profile_id: str
    language: str | None
    tagged_language: str | None
    revision: str | None
    duration_seconds: float | None
    declared_seconds: float | None
    damaged_packets: int
    damaged: list[list[float]] | None
    remarks: list[str] | None
    chunking_done: bool
    chunks: int
    chunks_done: int
    chunks_failed: int
    cut_seconds: float
    done_seconds: float
    next_turn: int
    peaks: bool
    transcript_key: str | None
    transcript_size: int | None
    transcript_sha256: str | None
    coverage: dict[str, Any] | None
    without_speakers: str | None
    error_code: str | None
    error_message: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def multilingual(self) -> bool:
        """Whether every chunk has a language of its own."""
        return bool(self.options.get("multilingual"))

    @property
    def recognition(self) -> RecognitionOptions:
        """The options every chunk is recognised with, language and revision as pinned by now."""
        return pinned(self.options, self.language, self.revision)

    @property
    def link(self) -> str | None:
        """Where the recording is to be fetched from, until it is."""
        return self.source[5:] if self.source.startswith("link:") else None

    @property
    def source_key(self) -> str | None:
        """The blob that holds the recording; None when the source is a file of this machine, or not fetched yet."""
        return self.source[5:] if self.source.startswith("blob:") else None

    @property
    def mendable(self) -> bool:
        """Whether another try may end otherwise: not where the recording, or what is asked of it, is at fault."""
        if self.state == "failed":
            return self.link is not None or not every_error().get(self.error_code or "", FarmError).lasting
        if self.state == "incomplete":
            return self.chunks_failed > 0 or not self.chunking_done
        return self.state == "cancelled"


MOST_COMPARED = 255
"""Letters of a folded name."""
ROW = f"SELECT {columns(TranscriptionRow)} FROM transcriptions"
FIND = Query[TranscriptionRow](f"{ROW} WHERE id = :id")
BY_KEY = Query[TranscriptionRow](f"{ROW} WHERE owner = :owner AND key = :key")
ORDERS: dict[ListOrder, tuple[str, str, str | float]] = {
    "newest": ("created_at", "DESC", float("inf")),
    "oldest": ("created_at", "ASC", 0.0),
    "name": ("folded_name", "ASC", ""),
    "longest": ("coalesce(duration_seconds, 0)", "DESC", float("inf")),
}
"""What each order of a list compares, and the value that stands before the first."""


def _pages(of_owner: str) -> dict[ListOrder, Query[TranscriptionRow]]:
    return {
        order: Query[TranscriptionRow](
            f"""
            {ROW} WHERE {of_owner} ({value}, id) {"<" if way == "DESC" else ">"} (:value, :id)
                    AND state IN :states AND folded_name LIKE :title AND {OF_FEED}
            ORDER BY {value} {way}, id {way} LIMIT :limit
            """
        )
        for order, (value, way, _) in ORDERS.items()
    }


PAGES = _pages("")
PAGES_OF_OWNER = _pages("owner = :owner AND")
FINISHED_BEFORE = Query[str](
    "SELECT id FROM transcriptions WHERE finished_at < :before ORDER BY finished_at LIMIT :limit"
)
UNFINISHED_SINCE = Query[str]("SELECT id FROM transcriptions WHERE finished_at IS NULL AND created_at < :before")
USAGE = Query[Usage]("""
    SELECT count(*) AS unfinished, count(DISTINCT label || ' ' || engine || ' ' || model) AS flows,
           (SELECT CAST(coalesce(sum(source_size), 0) AS BIGINT) FROM transcriptions WHERE owner = :owner)
           AS stored_bytes, coalesce(sum(cut_seconds - done_seconds), 0) AS waiting_seconds
      FROM transcriptions JOIN profiles ON profiles.id = transcriptions.profile_id
     WHERE owner = :owner AND finished_at IS NULL
""")
RENAME = Change("UPDATE transcriptions SET name = :name, folded_name = :folded WHERE id = :id")
MOVE = Change("UPDATE transcriptions SET source = :source WHERE id = :id AND NOT chunking_done")


def pinned(options: dict[str, Any], language: str | None, revision: str | None) -> RecognitionOptions:
    """Options with the revision the transcription is held to, and the language, if it is held to one."""
    if options.get("multilingual"):
        language = options.get("language")
    return RecognitionOptions.model_validate(options | {"language": language, "revision": revision})


def find(tx: Transaction, transcription_id: str) -> TranscriptionRow:
    """The row of that id; raises `NotFound`."""
    return tx.one(FIND, {"id": transcription_id}, f"transcription {transcription_id}")


def find_by_key(tx: Transaction, owner: str, key: str) -> TranscriptionRow | None:
    """What this owner submitted under that key before."""
    return tx.first(BY_KEY, {"owner": owner, "key": key})


def list_transcriptions(
    tx: Transaction, wanted: Wanted, limit: int, after: tuple[str | float, str] | None = None
) -> list[TranscriptionRow]:
    """A page of transcriptions, `limit` at most; `after` is `place` and `id` of the last row of the page before."""
    value, last_id = after or (ORDERS[wanted.order][2], "")
    states = list(wanted.states or get_args(TranscriptionState))
    words = "%".join(["", *fold(wanted.title).split(), ""])
    pages = PAGES if wanted.owner is None else PAGES_OF_OWNER
    told = {"value": value, "id": last_id, "states": states, "title": words, "limit": limit}
    return tx.rows(pages[wanted.order], told | {"owner": wanted.owner, "feed": wanted.feed})


def compared(name: str) -> str:
    """A name as lists compare it. Folded, one letter may become eighteen: the place in a list must fit an address."""
    return fold(name)[:MOST_COMPARED]


def place(row: TranscriptionRow, order: ListOrder) -> str | float:
    """Where a row stands in an order."""
    match order:
        case "newest" | "oldest":
            return row.created_at
        case "name":
            return compared(row.name)
        case "longest":
            return row.duration_seconds or 0.0


def rename(tx: Transaction, row: TranscriptionRow, name: str) -> None:
    """Call it otherwise from now on."""
    tx.change(RENAME, {"id": row.id, "name": name, "folded": compared(name)})
    emit(tx, TranscriptionRenamed(name=name), row.id, row.owner)


def finished_before(tx: Transaction, before: float, limit: int) -> list[str]:
    """The transcriptions finished longest ago, before that time."""
    return tx.rows(FINISHED_BEFORE, {"before": before, "limit": limit})


def unfinished_since(tx: Transaction, before: float) -> list[str]:
    """Transcriptions that were submitted before that time and never finished."""
    return tx.rows(UNFINISHED_SINCE, {"before": before})


def usage(tx: Transaction, owner: str) -> Usage:
    """How much of the farm this owner has in use."""
    return tx.one(USAGE, {"owner": owner}, owner)


def move_source(tx: Transaction, transcription_id: str, path: Path) -> None:
    """Say where a recording that is not cut yet is found now: it may have been moved since it was submitted."""
    tx.change(MOVE, {"id": transcription_id, "source": f"file:{path}"})
