"""Stored files as answers: streamed, whole or the one range that was asked for (RFC 9110), for decoders that seek.

One that is read slowly holds a file and some megabytes. So they take turns, and nobody has more than half of those.

Several ranges in one header, or a unit other than bytes, are answered with the whole file, as the RFC allows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from whisper_farm.errors import BlobMissing, ServerBusy, SourceUnreadable
from whisper_farm.store.blobs import Blobs
from whisper_farm.to_the_end import to_the_end

BLOCK_BYTES = 1 << 20
TURN_SECONDS = 25.0
"""Longest wait until a file is sent."""
OCTETS = "application/octet-stream"
_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*$", re.IGNORECASE)


async def serve_blob(request: Request, blobs: Blobs, key: str, size: int, media_type: str = OCTETS) -> Response:
    """A blob of a known size."""
    return await _serve(request, size, media_type, lambda span: blobs.get_range(key, span.start, span.end))


async def serve_file(request: Request, path: Path, size: int) -> Response:
    """A file of this machine that had `size` bytes when it was submitted."""
    try:
        actual = (await asyncio.to_thread(path.stat)).st_size
    except OSError as error:
        raise BlobMissing(f"{path} cannot be read any more: {error.strerror}.") from error
    if actual != size:
        raise SourceUnreadable(f"{path} has changed since it was submitted: {size} bytes then, {actual} now.")

    async def blocks(span: Span) -> AsyncIterator[bytes]:
        try:
            first = await asyncio.to_thread(_read, path, span.start, min(BLOCK_BYTES, span.length))
            return _file_blocks(path, first, span)
        except OSError as error:
            raise SourceUnreadable(f"{path} cannot be read: {error.strerror}.") from error

    return await _serve(request, size, OCTETS, blocks)


async def serve_made(request: Request, make: Callable[[IO[bytes]], Awaitable[None]], media_type: str) -> Response:
    """A file that is made for this answer, has no name, and is gone at its end."""
    async with AsyncExitStack() as held:
        file = held.enter_context(TemporaryFile())  # noqa: SIM115 - it is closed
        await make(file)

        async def blocks(span: Span) -> AsyncIterator[bytes]:
            file.seek(span.start)
            return _open_blocks(file, span.length)

        answer = await _serve(request, file.seek(0, SEEK_END), media_type, blocks)
        if isinstance(answer, HeldStream):
            answer.hold(held.pop_all())
        return answer


async def _serve(
    request: Request, size: int, media_type: str, content: Callable[[Span], Awaitable[AsyncIterator[bytes]]]
) -> Response:
    span = span_of(request.headers.get("Range"), size)
    if span is None:
        message = f"The file has {size} bytes; none of the range lies in it."
        raise HTTPException(416, message, {"Content-Range": f"bytes */{size}"})
    status = 206 if span.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=span.headers(), media_type=media_type)
    async with AsyncExitStack() as held:
        turns = request.app.state.coordinator.downloads
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await held.enter_async_context(turns.one(request.state.caller.party))
        except TimeoutError:
            raise ServerBusy("Too many files are being sent; try again.") from None
        pieces = await content(span)
        return HeldStream(held.pop_all(), pieces, status, span.headers(), media_type)


class HeldStream(StreamingResponse):
    """A stream that holds something from before its first byte to its last."""

    def __init__(self, held: AsyncExitStack, *content: Any, **more: Any) -> None:
        super().__init__(*content, **more)
        self._held = held

    def hold(self, more: AsyncExitStack) -> None:
        """Hold this, too."""
        self._held.push_async_exit(more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _open_blocks(file: IO[bytes], left: int) -> AsyncIterator[bytes]:
    while block := await to_the_end(asyncio.to_thread(file.read, min(BLOCK_BYTES, left))):
        yield block
        left -= len(block)


async def _file_blocks(path: Path, first: bytes, span: Span) -> AsyncIterator[bytes]:
    """No file stays open between two blocks: a request may end at any moment."""
    block, at = first, span.start
    while block:
        yield block
        at += len(block)
        block = await asyncio.to_thread(_read, path, at, min(BLOCK_BYTES, span.end - at))


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[start, end)` of a file of `size` bytes. `partial` when a range was asked for."""

    start: int
    end: int
    size: int
    partial: bool

    @property
    def length(self) -> int:
        return self.end - self.start

    def headers(self) -> dict[str, str]:
        """The headers that describe this answer."""
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(self.length)}
        if self.partial:
            headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{self.size}"
        return headers


def span_of(header: str | None, size: int) -> Span | None:
    """What to send for a `Range` header. None when nothing of the file lies in it (answer 416)."""
    found = _ONE_RANGE.match(header) if header else None
    if found is None or found.groups() == ("", ""):
        return Span(0, size, size, partial=False)
    first, last = found.groups()
    if first == "":
        length = min(int(last), size)
        return Span(size - length, size, size, partial=True) if length else None
    start = int(first)
    end = size if last == "" else min(int(last) + 1, size)
    if last != "" and int(last) < start:
        return Span(0, size, size, partial=False)
    return Span(start, end, size, partial=True) if start < size else None
