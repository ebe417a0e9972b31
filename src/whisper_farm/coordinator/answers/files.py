"""Stored files as answers: streamed, whole or the one range that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from whisper_farm.coordinator.answers.errors import body_response
from whisper_farm.coordinator.ranges import Span, span_of
from whisper_farm.errors import BlobMissing, SourceUnreadable
from whisper_farm.store.blobs import Blobs

BLOCK_BYTES = 1 << 20
OCTETS = "application/octet-stream"


async def serve_blob(request: Request, blobs: Blobs, key: str, size: int, media_type: str = OCTETS) -> Response:
    """A blob of a known size."""
    span = span_of(request.headers.get("Range"), size)
    if span is None:
        return _not_in_file(size)
    if request.method == "HEAD":
        return _answer(span, None, media_type)
    return _answer(span, await blobs.get_range(key, span.start, span.end), media_type)


async def serve_file(request: Request, path: Path, size: int) -> Response:
    """A file of this machine that had `size` bytes when it was submitted."""
    try:
        actual = (await asyncio.to_thread(path.stat)).st_size
    except OSError as error:
        raise BlobMissing(f"{path} cannot be read any more: {error.strerror}.") from error
    if actual != size:
        raise SourceUnreadable(f"{path} has changed since it was submitted: {size} bytes then, {actual} now.")
    span = span_of(request.headers.get("Range"), size)
    if span is None:
        return _not_in_file(size)
    if request.method == "HEAD":
        return _answer(span, None, OCTETS)
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read: {error.strerror}.") from error
    return _answer(span, _file_blocks(file, span), OCTETS)


def _answer(span: Span, content: AsyncIterator[bytes] | None, media_type: str) -> Response:
    status = 206 if span.partial else 200
    if content is None:
        return Response(status_code=status, headers=span.headers(), media_type=media_type)
    return StreamingResponse(content, status, span.headers(), media_type)


def _not_in_file(size: int) -> Response:
    message = f"The file has {size} bytes; none of the range lies in it."
    return body_response(416, "invalid_request", message, {"size": size}, {"Content-Range": f"bytes */{size}"})


async def _file_blocks(file: BinaryIO, span: Span) -> AsyncIterator[bytes]:
    left = span.length
    try:
        await asyncio.to_thread(file.seek, span.start)
        while left and (block := await asyncio.to_thread(file.read, min(BLOCK_BYTES, left))):
            left -= len(block)
            yield block
    finally:
        await asyncio.to_thread(file.close)
