"""The text of a recording in order, while its chunks are finished out of order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_farm.coordinator.pieces import read_pieces
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.leases.transcriptions import DoneChunk
from whisper_farm.protocol.client import FINISHED, SegmentPage
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import chunks_after
from whisper_farm.store.transcriptions import find
from whisper_farm.transcript.stitch import ChunkText, stitch

CHUNKS = 50
"""Chunks in one page."""
ENDED = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks that have ended, following each other without a hole."""

    chunks: Sequence[DoneChunk]
    last: int
    finished: bool


async def segment_page(store: StoreThreads, blobs: Blobs, transcription_id: str, after: int) -> SegmentPage:
    """The finished chunks after position `after`, up to the first that is not finished. Gaps are passed over."""
    run = await store.read(lambda tx: _run(tx, transcription_id, after))
    pieces: list[ChunkText] = [piece async for _, piece in read_pieces(blobs, run.chunks) if piece is not None]
    return SegmentPage(segments=stitch(pieces), next=run.last, finished=run.finished)


def _run(tx: Transaction, transcription_id: str, after: int) -> Run:
    recording = find(tx, transcription_id)
    done: list[DoneChunk] = []
    last = after
    for row in chunks_after(tx, transcription_id, after, CHUNKS):
        if row.state not in ENDED or row.position != last + 1:
            break
        last = row.position
        if row.state == "done":
            done.append((row.position, row.start_seconds, row.end_seconds, row.result_key))
    nothing_follows = recording.chunking_done or recording.state in FINISHED | {"assembling"}
    return Run(done, last, nothing_follows and last >= recording.chunks - 1)
