"""Which blobs the database names, which farm they belong to, and the trash.

What the database does not name belongs to nobody. It waits in the trash, for a backup may know it, and is swept then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from whisper_farm.store.database import Transaction
from whisper_farm.store.fetches import fetches_of
from whisper_farm.store.statements import Change, Query

ANNOUNCED = Query[tuple[str, int]]("SELECT key, size FROM uploads WHERE state = 'open' AND key IN :keys")
NAMED = Query[str]("""
    SELECT key FROM uploads WHERE key IN :keys
     UNION SELECT key FROM upload_parts WHERE key IN :keys
     UNION SELECT key FROM feeds WHERE key IN :keys
     UNION SELECT substr(source, 6) FROM transcriptions WHERE source IN :sources
     UNION SELECT transcript_key FROM transcriptions WHERE id IN :transcriptions AND transcript_key IS NOT NULL
     UNION SELECT audio_key FROM jobs WHERE transcription_id IN :transcriptions AND audio_key IN :keys
     UNION SELECT result_key FROM jobs WHERE transcription_id IN :transcriptions AND result_key IN :keys
""")
EVERY_BLOB = Query[tuple[str, str, str | None]]("""
    SELECT id, transcript_key AS key, transcript_sha256 AS sha256 FROM transcriptions
        WHERE transcript_key IS NOT NULL
    UNION ALL SELECT id, substr(source, 6) AS key, source_sha256 AS sha256 FROM transcriptions
        WHERE substr(source, 1, 5) = 'blob:'
    UNION ALL SELECT transcription_id AS id, audio_key AS key, audio_sha256 AS sha256 FROM jobs
        WHERE audio_key IS NOT NULL
    UNION ALL SELECT transcription_id AS id, result_key AS key, result_digest AS sha256 FROM jobs
        WHERE result_key IS NOT NULL
""")
ID = Query[str]("SELECT farm_id FROM identity")
SET_ID = Change("INSERT INTO identity (id, farm_id) VALUES (1, :farm_id) ON CONFLICT (id) DO NOTHING")
KNOWS_BLOBS = Query[bool](
    "SELECT EXISTS (SELECT 1 FROM transcriptions) OR EXISTS (SELECT 1 FROM uploads) AS knows_blobs"
)
NOTE = Change("INSERT INTO trash (key, found_at) VALUES (:key, :now) ON CONFLICT (key) DO NOTHING")
RIPE = Query[str]("SELECT key FROM trash WHERE key IN :keys AND found_at <= :before")
EMPTY = Change("DELETE FROM trash WHERE key IN :keys")


def named_blobs(tx: Transaction, keys: Collection[str], transcription_ids: Collection[str]) -> set[str]:
    """Those of these blobs that must stay. The ids are those of the transcriptions that the keys belong to."""
    sources, transcriptions = [f"blob:{key}" for key in keys], list(transcription_ids)
    wanted = {"keys": list(keys), "sources": sources, "transcriptions": transcriptions}
    parts = {key for row in fetches_of(tx, transcriptions).values() for key, _ in row.parts}
    return parts | set(tx.rows(NAMED, wanted))


def every_blob(tx: Transaction) -> list[tuple[str, str, str | None]]:
    """Every blob that transcriptions need: the id of the transcription, the key, and the SHA-256 where it is known."""
    return tx.rows(EVERY_BLOB)


def overfull_uploads(tx: Transaction, sizes: Mapping[str, int]) -> set[str]:
    """Those of these blobs that are larger than their upload was announced, and were not submitted.

    A presigned URL takes any number of bytes. Who sends too many is found out here, or with the submission.
    """
    return {key for key, size in tx.rows(ANNOUNCED, {"keys": list(sizes)}) if sizes[key] > size}


def farm_id(tx: Transaction) -> str | None:
    """The id of the farm whose database this is; None before its first start."""
    return tx.first(ID)


def set_farm_id(tx: Transaction, wanted: str) -> str:
    """Give the database this id, unless it has one; returns the one it has."""
    tx.change(SET_ID, {"farm_id": wanted})
    return tx.first(ID) or wanted


def knows_blobs(tx: Transaction) -> bool:
    """Whether the database has anything that was uploaded or submitted."""
    return bool(tx.first(KNOWS_BLOBS))


def note_trash(tx: Transaction, keys: Collection[str], before: float) -> list[str]:
    """Note that no row names these blobs; returns those of which that was noted before that time already."""
    tx.change(NOTE, [{"key": key} for key in sorted(keys)])
    return tx.rows(RIPE, {"keys": sorted(keys), "before": before})


def empty_trash(tx: Transaction, keys: Collection[str]) -> None:
    """Forget these blobs: they are deleted, or a row names them after all."""
    tx.change(EMPTY, {"keys": sorted(keys)})
