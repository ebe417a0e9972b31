"""A transcription's row, as every room of the server reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from whisper_farm.errors import NotFound
from whisper_farm.protocol.client import TranscriptionState
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import transcriptions
from whisper_farm.transcript.options import RecognitionOptions


@dataclass(frozen=True, slots=True)
class TranscriptionRow:
    """One row of `transcriptions`; `source` is `blob:KEY` or `file:PATH`, JSON columns are as stored."""

    id: str
    owner: str
    name: str
    key: str | None
    state: TranscriptionState
    priority: int
    source: str
    source_size: int
    source_sha256: str | None
    chunk_seconds: float
    options: dict[str, Any]
    profile_id: str
    language: str | None
    revision: str | None
    duration_seconds: float | None
    declared_seconds: float | None
    damaged_packets: int
    damaged: list[list[float]] | None
    chunking_done: bool
    chunks: int
    chunks_done: int
    chunks_failed: int
    cut_seconds: float
    done_seconds: float
    next_turn: int
    transcript_key: str | None
    transcript_size: int | None
    coverage: dict[str, Any] | None
    error_code: str | None
    error_message: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def recognition(self) -> RecognitionOptions:
        """The options every chunk is recognised with, language and revision as pinned by now."""
        return pinned(self.options, self.language, self.revision)

    @property
    def source_key(self) -> str | None:
        """The blob that holds the recording; None when the source is a file of this machine."""
        return self.source[5:] if self.source.startswith("blob:") else None


def pinned(options: dict[str, Any], language: str | None, revision: str | None) -> RecognitionOptions:
    """Options with the language and revision the recording is held to."""
    return RecognitionOptions.model_validate(options | {"language": language, "revision": revision})


def find(tx: Transaction, transcription_id: str) -> TranscriptionRow:
    """The row of that id; raises `NotFound`."""
    row = tx.first(_ONE, {"id": transcription_id})
    if row is None:
        raise NotFound(f"There is no transcription {transcription_id}.")
    return TranscriptionRow(*row)


def find_by_key(tx: Transaction, owner: str, key: str) -> TranscriptionRow | None:
    """What this owner submitted under that key before."""
    row = tx.first(_BY_KEY, {"owner": owner, "key": key})
    return None if row is None else TranscriptionRow(*row)


_ONE = Prepared(select(transcriptions).where(transcriptions.c.id == bindparam("id")))
_BY_KEY = Prepared(
    select(transcriptions).where(transcriptions.c.owner == bindparam("owner"), transcriptions.c.key == bindparam("key"))
)
