"""The cutter process: it reads one recording at a time over HTTP, cuts it, and hands on chunk after chunk.

Promises: memory is constant, for the pipe takes a chunk only when the agent has room for it. A source that cannot be
reached is never reported as one that is no audio. An error nobody expected ends the process. So does a
recording that takes more processor time than any needs, to be opened or from one chunk to the next.
"""

from __future__ import annotations

import io
import threading
from dataclasses import asdict, replace
from functools import partial

from whisper_farm.audio.chunking import ChunkingEnd, chunks
from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.errors import AudioError, FarmError
from whisper_farm.protocol.worker import ChunkResult, ChunkTask
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.bounds import OPEN_SECONDS, STEP_SECONDS, bound_processor
from whisper_farm.worker.pipe import AgentPipe, Cut, CutChunk, CutEnded, CutFailed, or_crash
from whisper_farm.worker.source_reader import SourceReader

BUFFER_BYTES = 1 << 17
_MOST_DAMAGED = 1000


class CutterChild:
    """Serves one agent over its pipe."""

    def __init__(self, pipe: AgentPipe) -> None:
        self._pipe = pipe

    def serve(self) -> None:
        """Cut what the agent names, one recording after the other, until it closes the pipe."""
        for message, _ in self._pipe.received():
            if not isinstance(message, Cut):
                raise RuntimeError(f"A cutter does not understand {message!r}.")
            threading.Thread(target=or_crash(partial(self._cut, message)), name="cut", daemon=True).start()

    def _cut(self, order: Cut) -> None:
        loop = LoopThread("source")
        api = WorkerApi(order.server, order.token, order.timeout_seconds)
        try:
            with SourceReader(loop, api, order.task.source) as source:
                end = self._send_chunks(order.task, io.BufferedReader(source, BUFFER_BYTES))
            self._pipe.send(CutEnded(result=ChunkResult(**asdict(end))))
        except FarmError as error:
            permanent = isinstance(error, AudioError)
            self._pipe.send(CutFailed(code=error.code, message=error.message, permanent=permanent))
        finally:
            loop.run(api.close())
            loop.close()

    def _send_chunks(self, task: ChunkTask, file: io.BufferedReader) -> ChunkingEnd:
        bound_processor(OPEN_SECONDS)
        with chunks(file, task.source.name, task.chunk_seconds, task.resume_position, task.resume_seconds) as chunking:
            bound_processor(STEP_SECONDS)
            for chunk in chunking:
                bound_processor(STEP_SECONDS)
                cut = CutChunk(
                    position=chunk.position,
                    start_seconds=chunk.start_seconds,
                    end_seconds=chunk.end_seconds,
                    speech_seconds=chunk.speech_seconds,
                    declared_seconds=chunking.facts.duration_seconds,
                )
                self._pipe.send(cut, chunk.flac)
        assert chunking.end is not None
        return replace(chunking.end, damaged_seconds=chunking.end.damaged_seconds[:_MOST_DAMAGED])
