"""Handing chunks in while a recording is being cut: upload each, then append them as one group.

Promises: groups are appended in order, and `position` and `end_seconds` say what is safe; an address that no longer
works is replaced by a new one; a lease that may have run out is asked about before anything is published.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence

from whisper_farm.errors import InvalidRequest, ServerUnreachable
from whisper_farm.protocol.worker import AppendRequest, ChunkTask, ChunkUpload, Claim, NewChunk, UploadRequest
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.heartbeats import Beats
from whisper_farm.worker.pipe import Piece

UPLOAD_TRIES = 3
PieceAudio = tuple[Piece, bytes]


class Appending:
    """The chunks of one recording, as far as they are safe."""

    def __init__(self, api: WorkerApi, worker_id: str, beats: Beats, claim: Claim, task: ChunkTask) -> None:
        self.position = task.resume_position
        self.end_seconds = task.resume_seconds
        self._api = api
        self._worker_id = worker_id
        self._beats = beats
        self.claim = claim
        self._token = claim.token

    async def append(self, group: Sequence[PieceAudio]) -> None:
        """Upload and append the next chunks."""
        await self._beats.sure_of([self._token])
        targets = await self._targets([piece.position for piece, _ in group])
        chunks = await _all([self._uploaded(piece, flac, targets[piece.position]) for piece, flac in group])
        last = group[-1][0]
        request = AppendRequest(
            worker_id=self._worker_id,
            token=self._token,
            chunks=tuple(chunks),
            duration_seconds=last.declared_seconds,
        )
        await self._api.append(request)
        self.position, self.end_seconds = last.position + 1, last.end_seconds

    async def _targets(self, positions: Sequence[int]) -> dict[int, ChunkUpload]:
        request = UploadRequest(worker_id=self._worker_id, token=self._token, positions=tuple(positions))
        targets = {upload.position: upload for upload in (await self._api.uploads(request)).uploads}
        if missing := set(positions) - set(targets):
            raise InvalidRequest(f"The farm did not say where the chunks {sorted(missing)} go.")
        return targets

    async def _uploaded(self, piece: Piece, flac: bytes, target: ChunkUpload) -> NewChunk:
        for tries_left in reversed(range(UPLOAD_TRIES)):
            try:
                await self._api.upload(target.transfer, flac)
                break
            except ServerUnreachable:
                if not tries_left:
                    raise
                target = (await self._targets([piece.position]))[piece.position]
        return NewChunk(
            position=piece.position,
            start_seconds=piece.start_seconds,
            end_seconds=piece.end_seconds,
            speech_seconds=piece.speech_seconds,
            key=target.key,
            size=len(flac),
            sha256=hashlib.sha256(flac).hexdigest(),
        )


async def _all(uploads: Sequence[Coroutine[None, None, NewChunk]]) -> list[NewChunk]:
    """All of them at once; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(upload) for upload in uploads]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
