"""Sends a file to where the farm wants it: to the farm itself part by part, or to its object store at once.

Promises: a file is streamed, never held in memory. After a break only what is missing is sent again. A farm that is
started anew meanwhile is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from whisper_farm import errors
from whisper_farm.client.calls import BUSY, Calls
from whisper_farm.client.transport import HttpRequest, Reply, understood
from whisper_farm.protocol.client import UploadProgress, UploadStart, UploadTarget
from whisper_farm.protocol.wire import Transfer

BLOCK_BYTES = 1 << 20
PART_BYTES = 8 << 20
"""What is sent again after a connection broke."""
PATIENCE_SECONDS = 300.0
"""An upload waits so long for a farm that was there: it may be started anew meanwhile."""
SILENCE_SECONDS = 300.0
"""An upload may be silent for this long: the server passes the file on before it answers."""
Progress = Callable[[int, int], None]
"""Told how many bytes were sent, and how many there are."""


def no_progress(sent: int, total: int) -> None:
    """For who does not want to know how far an upload is."""


def sendable(name: str) -> str:
    """A file's name as UTF-8 can carry it, within what the protocol allows."""
    return name.encode("utf-8", "replace").decode("utf-8")[-255:] or "recording"


async def upload(calls: Calls, path: Path, progress: Progress) -> str:
    """Send a file to the farm; returns the id under which it can be submitted."""
    try:
        size = (await asyncio.to_thread(path.stat)).st_size
    except OSError as error:
        raise errors.SourceMissing(f"{path}: cannot be read ({error.strerror}).") from error
    start = UploadStart(name=sendable(path.name), size=size)
    target = await calls.ask(UploadTarget, "POST", "/api/uploads", body=start, again=True)
    sending = _Sending(calls, target.transfer, path, size, progress)
    if calls.transport.is_own(target.transfer.url):
        await sending.to_farm()
    else:
        await sending.to_store()
    return target.upload_id


@dataclass(slots=True)
class _Sending:
    """One file on its way to where a transfer says."""

    calls: Calls
    transfer: Transfer
    path: Path
    size: int
    progress: Progress
    offset: int = 0
    """How much the farm has."""

    async def to_store(self) -> None:
        """The whole file at once."""
        store = f"The object store at {urlsplit(self.transfer.url).netloc}, where the farm keeps its files,"

        async def once() -> bytes:
            reply = await self._exchange(self.transfer.url, self.size)
            if not reply.succeeded and reply.status not in BUSY:
                raise errors.ObjectStoreRefused(f"{store} refused the upload: {reply.status} {reply.phrase}.")
            return self.calls.answered(reply, again=True)

        try:
            await self.calls.until_answered(once, float("inf"), again=True)
        except errors.ServerUnreachable as error:
            raise errors.StoreUnavailable(f"{store} does not answer ({error.__cause__}).") from error

    async def to_farm(self) -> None:
        """Part by part. After a break an empty part asks where to go on: a large one could break again."""
        sure = True

        async def once() -> bytes:
            nonlocal sure
            if not sure:
                await self._part(0)
            sure = False
            answer = await self._part(min(PART_BYTES, self.size - self.offset))
            sure = True
            return answer

        while True:
            try:
                answer = await self.calls.until_answered(once, PATIENCE_SECONDS, again=True, tries=None)
                self.offset = understood(UploadProgress, answer).received_bytes
            except errors.WrongState as refused:
                received = refused.details.get("received_bytes")
                if not isinstance(received, int) or received == self.offset:
                    raise
                self.offset, sure = received, True
                continue
            if self.offset >= self.size:
                return

    async def _part(self, length: int) -> bytes:
        reply = await self._exchange(f"{self.transfer.url}?offset={self.offset}", length)
        return self.calls.answered(reply, again=True)

    async def _exchange(self, url: str, length: int) -> Reply:
        headers = {"Content-Length": str(length), **self.transfer.headers}
        request = HttpRequest(self.transfer.method, url, headers=headers, content=self._blocks(length))
        return await self.calls.transport.exchange(request, max(self.calls.timeout, SILENCE_SECONDS))

    async def _blocks(self, length: int) -> AsyncIterator[bytes]:
        """The next bytes of the file, exactly as many as were announced."""
        start, sent = self.offset, 0
        try:
            file = await asyncio.to_thread(self.path.open, "rb")
            with file:
                file.seek(start)
                while sent < length and (block := await asyncio.to_thread(file.read, min(BLOCK_BYTES, length - sent))):
                    yield block
                    sent += len(block)
                    self.progress(start + sent, self.size)
        except OSError as error:
            raise errors.SourceUnreadable(f"{self.path}: cannot be read ({error.strerror}).") from error
        if sent < length:
            raise errors.SourceMissing(f"{self.path}: became shorter while it was sent; try again.")
