"""A stream of bytes on its way into a blob. It is counted, hashed and bounded, and it can be stopped from outside."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from whisper_farm.errors import TooLarge

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BlobFacts:
    size: int
    sha256: str


class Incoming:
    """The stream in larger pieces; raises `TooLarge` past its limit."""

    def __init__(self, source: AsyncIterator[bytes], limit: int) -> None:
        self._source, self._limit = source, limit
        self._digest = hashlib.sha256()
        self._head = b""
        self._reader: asyncio.Task[object] | None = None
        self._stopped = False
        self.size = 0
        """Bytes so far."""
        self.ended = False
        """Whether the source has nothing more."""
        self.error: Exception | None = None
        """What the source raised."""

    @property
    def facts(self) -> BlobFacts:
        return BlobFacts(self.size, self._digest.hexdigest())

    async def take(self, least: int) -> bytes:
        """The next bytes: `least` or a little more, fewer only at the end."""
        pieces: list[bytes] = []
        taken = 0
        while taken < least and not self.ended:
            try:
                piece = await anext(self._source)
            except StopAsyncIteration:
                self.ended = True
                break
            except Exception as error:
                self.error = error
                raise
            taken += len(piece)
            self._count(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def with_head(self, head: bytes) -> Incoming:
        """Put back what was taken, to be yielded first; returns itself."""
        self._head = head
        return self

    def stop(self) -> None:
        """Make the iterator raise, now if it is waiting for its source, else when it is next asked."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    def __aiter__(self) -> Incoming:
        return self

    async def __anext__(self) -> bytes:
        if self._stopped:
            raise asyncio.CancelledError
        self._reader = asyncio.current_task()
        try:
            head, self._head = self._head, b""
            piece = head or await self.take(PIECE_BYTES)
        finally:
            self._reader = None
        if not piece:
            raise StopAsyncIteration
        return piece

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            raise TooLarge(f"More than {self._limit} bytes were sent; that is the most accepted here.")
        self._digest.update(piece)
