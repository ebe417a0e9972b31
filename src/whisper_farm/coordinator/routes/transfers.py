"""Bytes to and from workers, where blobs are kept in a folder: recordings, chunks, and the audio of new chunks.

Everything is streamed, nothing is held in memory whole. The claim token in the path says what may be fetched; with
an object store claims carry presigned URLs instead, and none of this is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Security
from starlette.responses import Response

from whisper_farm.coordinator.answers.errors import ALWAYS_WORK, documented
from whisper_farm.coordinator.answers.files import OCTETS, serve_blob, serve_file
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.keys import chunk_key
from whisper_farm.coordinator.layers.auth import Worker, bearer
from whisper_farm.coordinator.routes.parameters import ClaimTokenInPath, PositionInPath
from whisper_farm.errors import BlobMissing, LeaseLost, PositionConflict, SourceUnreadable
from whisper_farm.protocol.wire import MAX_CHUNK_BYTES
from whisper_farm.store.jobs import held_job

FLAC = "audio/flac"

router = APIRouter(
    prefix="/api/work",
    tags=["work"],
    dependencies=[Security(bearer)],
    responses=documented(*ALWAYS_WORK, LeaseLost),
)


def binary(media_type: str) -> dict[str, Any]:
    """The OpenAPI description of bytes."""
    return {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}


def ranges(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a file that answers `Range`."""
    return {
        200: {"description": "All of it.", **binary(media_type)},
        206: {"description": "The range asked for.", **binary(media_type)},
        416: {"description": "`invalid_request`: nothing of the file lies in the range."},
    }


_SOURCE = {**documented(*ALWAYS_WORK, LeaseLost, BlobMissing, SourceUnreadable), **ranges(OCTETS)}
_AUDIO = {**documented(*ALWAYS_WORK, LeaseLost, BlobMissing), **ranges(FLAC)}


@router.get("/source/{token}", response_class=Response, responses=_SOURCE)
@router.head("/source/{token}", response_class=Response, include_in_schema=False)
async def source(token: ClaimTokenInPath, request: Request, caller: Worker, farm: Farm) -> Response:
    """The recording that a chunk job cuts. Answers `Range`."""
    held = await farm.store.read(lambda tx: held_job(tx, token, "chunk"))
    if held.source.startswith("file:"):
        return await serve_file(request, Path(held.source.removeprefix("file:")), held.source_size)
    return await serve_blob(request, farm.blobs, held.source.removeprefix("blob:"), held.source_size)


@router.get("/audio/{token}", response_class=Response, responses=_AUDIO)
@router.head("/audio/{token}", response_class=Response, include_in_schema=False)
async def audio(token: ClaimTokenInPath, request: Request, caller: Worker, farm: Farm) -> Response:
    """The audio of the chunk to recognise (FLAC). Answers `Range`."""
    held = await farm.store.read(lambda tx: held_job(tx, token, "transcribe"))
    assert held.audio_key is not None  # the table says so of every such job
    return await serve_blob(request, farm.blobs, held.audio_key, held.audio_size or 0, FLAC)


@router.put(
    "/uploads/{token}/{position}",
    status_code=204,
    openapi_extra={"requestBody": {"required": True, **binary(OCTETS)}},
    responses=documented(*ALWAYS_WORK, LeaseLost, PositionConflict),
)
async def upload_chunk(
    token: ClaimTokenInPath, position: PositionInPath, request: Request, caller: Worker, farm: Farm
) -> None:
    """The audio of a new chunk. Sent again, the newer bytes count, until they are appended; then none are taken."""
    held = await farm.store.read(lambda tx: held_job(tx, token, "chunk"))
    if position < held.chunks:
        raise PositionConflict(f"Chunk {position} of {held.source_name} is appended; its audio stays as it is.")
    key = chunk_key(held.transcription_id, token, position)
    farm.digests.note(key, await farm.blobs.put_stream(key, request.stream(), MAX_CHUNK_BYTES))
