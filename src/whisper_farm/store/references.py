"""Which blobs the recordings in the database refer to. What nothing refers to may be removed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import select

from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import jobs, transcriptions
from whisper_farm.store.transcriptions import find


def blob_keys_of(tx: Transaction, transcription_id: str) -> list[str]:
    """Every blob this recording refers to: source, chunks, results, transcript."""
    recording = find(tx, transcription_id)
    mine = select(jobs.c.audio_key, jobs.c.result_key).where(jobs.c.transcription_id == transcription_id)
    found = {key for row in tx.connection.execute(mine) for key in row}
    return sorted(key for key in found | {recording.source_key, recording.transcript_key} if key is not None)


def referenced(tx: Transaction, keys: Collection[str]) -> set[str]:
    """Those of these blob keys that some recording refers to; the others may be swept once they are old enough.

    Most keys hold the id of their recording as one part of their path, and are found by it. The rest is
    looked for everywhere: slow, but few, and never taken for an orphan by its name alone.
    """
    listed = sorted(set(keys))
    parts = {part for key in listed for part in key.split("/")}
    found: set[str] = set()
    for some in _batches(sorted(parts)):
        for column, owner in _REFERRING:
            found.update(key for key in tx.connection.scalars(select(column).where(owner.in_(some))) if key)
    for some in _batches([key for key in listed if key not in found]):
        for column, _ in _REFERRING:
            found.update(tx.connection.scalars(select(column).where(column.in_(some))))
        sources = select(transcriptions.c.source).where(transcriptions.c.source.in_([f"blob:{key}" for key in some]))
        found.update(source.removeprefix("blob:") for source in tx.connection.scalars(sources))
    return found.intersection(listed)


_REFERRING = (
    (jobs.c.audio_key, jobs.c.transcription_id),
    (jobs.c.result_key, jobs.c.transcription_id),
    (transcriptions.c.transcript_key, transcriptions.c.id),
)


def _batches(items: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
