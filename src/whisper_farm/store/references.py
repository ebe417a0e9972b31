"""Which blobs the database names. What it does not name belongs to nobody, and is swept once it is old."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from whisper_farm.store.database import Transaction
from whisper_farm.store.fetches import FetchRow
from whisper_farm.store.statements import Query, columns


@dataclass(frozen=True, slots=True)
class AnnouncedSize:
    """How large the file behind a key was announced to be."""

    key: str
    size: int


ANNOUNCED = Query[AnnouncedSize]("SELECT key, size FROM uploads WHERE state = 'open' AND key IN :keys")
UPLOADS = Query[str]("SELECT key FROM uploads WHERE key IN :keys")
SOURCES = Query[str]("SELECT substr(source, 6) AS key FROM transcriptions WHERE source IN :sources")
TRANSCRIPTS = Query[str]("""
    SELECT transcript_key AS key FROM transcriptions WHERE id IN :transcriptions AND transcript_key IS NOT NULL
""")
CHUNKS = Query[str](
    "SELECT audio_key AS key FROM jobs WHERE transcription_id IN :transcriptions AND audio_key IN :keys"
)
RESULTS = Query[str](
    "SELECT result_key AS key FROM jobs WHERE transcription_id IN :transcriptions AND result_key IN :keys"
)
PARTS = Query[FetchRow](f"SELECT {columns(FetchRow)} FROM fetches WHERE transcription_id IN :transcriptions")


def named_blobs(tx: Transaction, keys: Collection[str], transcription_ids: Collection[str]) -> set[str]:
    """Those of these blobs that must stay. The ids are those of the transcriptions that the keys belong to."""
    sources = [f"blob:{key}" for key in keys]
    wanted = {"keys": list(keys), "sources": sources, "transcriptions": list(transcription_ids)}
    parts = {key for row in tx.rows(PARTS, wanted) for key, _ in row.parts}
    return parts | {key for query in (UPLOADS, SOURCES, TRANSCRIPTS, CHUNKS, RESULTS) for key in tx.rows(query, wanted)}


def overfull_uploads(tx: Transaction, sizes: Mapping[str, int]) -> set[str]:
    """Those of these blobs that are larger than their upload was announced, and were not submitted.

    A presigned URL takes any number of bytes. Who sends too many is found out here, or with the submission.
    """
    return {row.key for row in tx.rows(ANNOUNCED, {"keys": list(sizes)}) if sizes[row.key] > row.size}
