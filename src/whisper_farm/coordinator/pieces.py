"""Results of chunks read back from the blob store, in order, a few ahead of whoever uses them.

Memory holds a handful of chunks, however long the recording is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice

from pydantic import ValidationError

from whisper_farm.errors import BlobMissing, TooLarge
from whisper_farm.leases.transcriptions import DoneChunk
from whisper_farm.protocol.worker import TranscribeResult
from whisper_farm.store.blobs import Blobs
from whisper_farm.transcript.stitch import ChunkText

AHEAD = 8
"""Results fetched before they are needed."""
MAX_RESULT_BYTES = 64 << 20


async def read_pieces(blobs: Blobs, chunks: Iterable[DoneChunk]) -> AsyncIterator[tuple[DoneChunk, ChunkText | None]]:
    """Every chunk with its result, in the order given; None where the stored result is gone or damaged."""
    rest = iter(chunks)
    ahead: deque[tuple[DoneChunk, asyncio.Task[ChunkText | None]]] = deque()
    try:
        while True:
            for chunk in islice(rest, AHEAD - len(ahead)):
                ahead.append((chunk, asyncio.create_task(_read(blobs, chunk))))
            if not ahead:
                return
            chunk, task = ahead.popleft()
            yield chunk, await task
    finally:
        for _, task in ahead:
            task.cancel()


async def _read(blobs: Blobs, chunk: DoneChunk) -> ChunkText | None:
    position, start, end, key = chunk
    if key is None:
        return ChunkText(position, start, end, ())
    try:
        body = await blobs.get(key, limit=MAX_RESULT_BYTES)
        result = await asyncio.to_thread(TranscribeResult.model_validate_json, body)
    except (BlobMissing, TooLarge, ValidationError):
        return None
    return ChunkText(position, start, end, result.segments)
