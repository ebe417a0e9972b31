"""One recording that a cutter child reads: the agent tells it what to do, sends it blocks, and hears what it says.

Promises: the child learns no address and no token. It gets blocks of this recording and of no other, few at a time. A
child that gets no further for too long is killed; wanting blocks is no progress. A recording that cannot be fetched
raises why, and ends the child.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from whisper_farm.protocol.jobs import ChunkTask, PeaksTask
from whisper_farm.protocol.wire import Transfer
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.pipe import Block, PipeMessage, ReadRecording, WantBlock
from whisper_farm.worker.source_reader import AHEAD, BLOCK_BYTES, fetch_block
from whisper_farm.worker.tasks import ended, now

_NOWHERE = Transfer(url="", method="")


class Reading:
    """What one child reads. `close` it, and then do as you like with the child."""

    def __init__(self, child: Child, api: WorkerApi, task: ChunkTask | PeaksTask, silence_seconds: float) -> None:
        self._child, self._api, self._task, self._silence_seconds = child, api, task, silence_seconds
        self._room = asyncio.Semaphore(1 + AHEAD)
        self._sending: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None

    async def begin(self, copy: Path | None = None) -> None:
        """Tell the child what to do."""
        source = self._task.source.model_copy(update={"transfer": _NOWHERE})
        order = ReadRecording(task=self._task.model_copy(update={"source": source}), copy_path=str(copy or ""))
        await self._child.send(order)

    async def receive(self) -> tuple[PipeMessage, bytes]:
        """The next thing that the child says; ChildDiedError when there will be none."""
        until = now() + self._silence_seconds
        try:
            while True:
                message, body = await self._child.receive(max(0.0, until - now()))
                if not isinstance(message, WantBlock):
                    return message, body
                if message.number * BLOCK_BYTES >= self._task.source.size:
                    self._child.kill("was killed: it wanted what is not in its recording")
                await self._room.acquire()
                sending = asyncio.create_task(self._send(message), name="block for the cutter")
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)
        except ChildDiedError:
            if self._failure:
                raise self._failure from None
            raise

    async def close(self) -> None:
        """Send no more blocks."""
        await ended(*self._sending)

    async def _send(self, wanted: WantBlock) -> None:
        try:
            data = await fetch_block(self._api, self._task.source, wanted.number)
            await self._child.send(Block(ask=wanted.ask), data)
        except ChildDiedError:
            pass  # whoever listens to the child hears of it
        except Exception as error:
            self._failure = self._failure or error
            self._child.kill("was killed: its recording cannot be fetched")
        finally:
            self._room.release()
