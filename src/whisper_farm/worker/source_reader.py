"""A recording behind HTTP, read like a file: seekable, a block at a time, reading ahead.

Promises: memory stays below `BLOCK_BYTES` × `KEPT_BLOCKS`; what is late, short or refused for a moment is asked for
again, with growing pauses, for `PATIENCE_SECONDS`; a refusal for good, or patience at its end, raises an error that no
reader of audio takes for a broken file. Does not follow redirects: the headers may hold a token.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from whisper_farm.errors import (
    BlobMissing,
    FarmError,
    InvalidRequest,
    ObjectStoreRefused,
    ServerUnreachable,
    every_error,
)
from whisper_farm.protocol.wire import ErrorBody

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 20
KEPT_BLOCKS = 24
AHEAD = 2
PATIENCE_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_PASSING = (408, 425, 429)


class _TryAgainError(Exception):
    """This went wrong, but may not go wrong again."""


class SourceReader(io.RawIOBase):
    """A file of known size behind a URL that answers Range requests, unbuffered; wrap it in `io.BufferedReader`."""

    def __init__(
        self,
        client: httpx.Client,
        url: str,
        headers: Mapping[str, str],
        size: int,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._client = client
        self._url = url
        self._headers = dict(headers)
        self._size = size
        self._patience_seconds = patience_seconds
        self._at = 0
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._closing = threading.Event()
        self._fetching = ThreadPoolExecutor(AHEAD, "source")

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the place of the next read; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, into: WriteableBuffer) -> int:
        """Fill the buffer with the next bytes, as far as one block has them; 0 at the end."""
        view = memoryview(into).cast("B")
        number, offset = divmod(self._at, BLOCK_BYTES)
        if not len(view) or self._at >= self._size:
            return 0
        part = self._block(number)[offset : offset + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Stop reading ahead, and wait for what is under way: it holds a connection."""
        self._closing.set()
        self._fetching.shutdown(wait=True, cancel_futures=True)
        super().close()

    def _block(self, number: int) -> bytes:
        for each in range(number, number + 1 + AHEAD):
            if each * BLOCK_BYTES < self._size and each not in self._blocks:
                self._blocks[each] = self._fetching.submit(self._fetch, each)
        self._blocks.move_to_end(number)
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)[1].cancel()
        return self._blocks[number].result(timeout=2 * self._patience_seconds + 60)

    def _fetch(self, number: int) -> bytes:
        first = number * BLOCK_BYTES
        last = min(first + BLOCK_BYTES, self._size) - 1
        give_up_at, pause = time.monotonic() + self._patience_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._range(first, last)
            except _TryAgainError as error:
                if time.monotonic() + pause > give_up_at:
                    raise ServerUnreachable(f"The source cannot be read: {error}") from error
                if self._closing.wait(pause * random.uniform(0.5, 1)):
                    raise ServerUnreachable("The source is closed.") from error
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _range(self, first: int, last: int) -> bytes:
        """Bytes first to last, and never more than those in memory, whatever the server sends."""
        wanted = last - first + 1
        headers = {**self._headers, "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        try:
            with self._client.stream("GET", self._url, headers=headers) as answer:
                body = self._at_most(answer, wanted)
        except (httpx.InvalidURL, httpx.LocalProtocolError, ValueError, OverflowError) as error:
            raise InvalidRequest(f"No request can be made to {self._url!r}: {error}") from error
        except (httpx.HTTPError, OSError) as error:
            raise _TryAgainError(str(error) or type(error).__name__) from error
        whole = answer.status_code == httpx.codes.OK and wanted == self._size
        if (answer.status_code == httpx.codes.PARTIAL_CONTENT or whole) and len(body) == wanted:
            return body
        if answer.is_client_error and answer.status_code not in _PASSING:
            raise _refusal(answer.status_code, body, foreign="Authorization" not in self._headers)
        raise _TryAgainError(f"bytes {first} to {last} answered with status {answer.status_code}, {len(body)} bytes")

    def _at_most(self, answer: httpx.Response, limit: int) -> bytes:
        """The body, cut off just beyond the limit (an error's is small enough, or not understood)."""
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > limit or self._closing.is_set():
                break
        return bytes(body)


def _refusal(status: int, body: bytes, foreign: bool) -> FarmError:
    """What a refusal means. A `foreign` address is one of an object store: ours goes with a token."""
    try:
        error = ErrorBody.read(body).error
    except ValidationError:
        if status in (404, 410):
            return BlobMissing(f"The source was refused with status {status}.")
        if foreign:
            return ObjectStoreRefused(f"The object store where the farm keeps the source refused with status {status}.")
        return ServerUnreachable(f"The source was refused with status {status}.")
    return every_error().get(error.code, FarmError)(error.message)
