"""A recording behind HTTP, read like a file: seekable, a block at a time, reading ahead.

The process that decodes it asks for blocks; the agent, which has the token, fetches them.

Promises: memory stays below `BLOCK_BYTES` × `KEPT_BLOCKS`. What is late, short or refused for a moment is asked for
again, with growing pauses, for the patience given. A refusal for good, or patience at its end, raises an error that no
reader of audio takes for a broken file.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from whisper_farm.protocol.jobs import Source
    from whisper_farm.worker.api import WorkerApi

BLOCK_BYTES = 1 << 20
KEPT_BLOCKS = 24
AHEAD = 2
PATIENCE_SECONDS = 300.0


class SourceReader(io.RawIOBase):
    """A recording of `size` bytes, unbuffered; wrap it in `io.BufferedReader`. `ask` is for a block by its number."""

    def __init__(self, size: int, ask: Callable[[int], Future[bytes]]) -> None:
        self._size, self._ask = size, ask
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
        """Stop reading ahead."""
        super().close()
        for block in list(self._blocks.values()):
            block.cancel()

    def _block(self, number: int) -> bytes:
        for each in range(number, number + 1 + AHEAD):
            if each * BLOCK_BYTES < self._size and each not in self._blocks:
                self._blocks[each] = self._ask(each)
        if self.closed:  # meanwhile: nobody cancels what was asked for since
            self.close()
        self._blocks.move_to_end(number)
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)[1].cancel()
        return self._blocks[number].result(timeout=2 * PATIENCE_SECONDS + 60)


async def fetch_block(api: WorkerApi, source: Source, number: int, patience_seconds: float = PATIENCE_SECONDS) -> bytes:
    """One block of a recording, from the farm or its object store."""
    first, last = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, source.size) - 1
    return await api.read(source.transfer, first, last, patience_seconds)
