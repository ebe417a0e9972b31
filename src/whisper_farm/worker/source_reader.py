"""A recording behind HTTP, read like a file: seekable, a block at a time, reading ahead.

Promises: memory stays below `BLOCK_BYTES` × `KEPT_BLOCKS`. What is late, short or refused for a moment is asked for
again, with growing pauses, for the patience given. A refusal for good, or patience at its end, raises an error that no
reader of audio takes for a broken file.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.protocol.worker import Source
from whisper_farm.worker.api import WorkerApi

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 20
KEPT_BLOCKS = 24
AHEAD = 2
PATIENCE_SECONDS = 300.0


class SourceReader(io.RawIOBase):
    """The recording of a chunk job, unbuffered; wrap it in `io.BufferedReader`. `api` lives in the loop."""

    def __init__(
        self, loop: LoopThread, api: WorkerApi, source: Source, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._loop = loop
        self._api = api
        self._source = source
        self._patience_seconds = patience_seconds
        self._at = 0
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()

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
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, into: WriteableBuffer) -> int:
        """Fill the buffer with the next bytes, as far as one block has them; 0 at the end."""
        view = memoryview(into).cast("B")
        number, offset = divmod(self._at, BLOCK_BYTES)
        if not len(view) or self._at >= self._source.size:
            return 0
        part = self._block(number)[offset : offset + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Stop reading ahead."""
        for block in self._blocks.values():
            block.cancel()
        super().close()

    def _block(self, number: int) -> bytes:
        for each in range(number, number + 1 + AHEAD):
            first, last = each * BLOCK_BYTES, min((each + 1) * BLOCK_BYTES, self._source.size) - 1
            if first <= last and each not in self._blocks:
                reading = self._api.read(self._source.transfer, first, last, self._patience_seconds)
                self._blocks[each] = self._loop.start(reading)
        self._blocks.move_to_end(number)
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)[1].cancel()
        return self._blocks[number].result(timeout=2 * self._patience_seconds + 60)
