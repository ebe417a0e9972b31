"""The cutter process: it reads one recording at a time, which the agent fetches for it block by block. It cuts it, or
makes what browsers play and draw.

Promises: memory is constant, for the pipe takes a chunk only when the agent has room for it. The rest of a recording
gives way to the beginning of others (Linux), and to recognition. An error nobody expected ends the process. So does a
recording that takes more processor time than any needs, to be opened or from one chunk to the next. It needs no
network, and no file but the copy that it is told to write.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path

from whisper_farm.audio.chunking import Chunking, ChunkingEnd
from whisper_farm.audio.listening import listen
from whisper_farm.audio.source import AudioSource
from whisper_farm.errors import AudioError, FarmError, TooLarge
from whisper_farm.protocol.jobs import ChunkResult, ChunkTask, PeaksTask
from whisper_farm.protocol.wire import MAX_COPY_BYTES
from whisper_farm.worker import pipe
from whisper_farm.worker.bounds import OPEN_SECONDS, STEP_SECONDS, bound_processor
from whisper_farm.worker.source_reader import SourceReader

BUFFER_BYTES = 1 << 17
NICENESS = 5
"""Beside busy slots such a thread has a seventh of a core. To fill their batches takes a twelfth; at 10 it had less."""
_MOST_DAMAGED = 1000


class CutterChild:
    """Serves one agent over its pipe."""

    def __init__(self, agent: pipe.AgentPipe) -> None:
        self._pipe = agent
        self._asks = count()
        self._wanted: dict[int, Future[bytes]] = {}

    def serve(self) -> None:
        """Cut what the agent names, one recording after the other, until it closes the pipe."""
        for message, body in self._pipe.received():
            match message:
                case pipe.ReadRecording():
                    self._wanted.clear()
                    if isinstance(message.task, PeaksTask):
                        give_way()
                    threading.Thread(target=pipe.or_crash(partial(self._do, message)), name="cut", daemon=True).start()
                case pipe.Block():
                    wanted = self._wanted.pop(message.ask, None)
                    if wanted and wanted.set_running_or_notify_cancel():
                        wanted.set_result(body)
                case _:
                    raise RuntimeError(f"A cutter does not understand {message!r}.")

    def _do(self, order: pipe.ReadRecording) -> None:
        try:
            with SourceReader(order.task.source.size, self._ask) as source:
                self._pipe.send(self._done(order, io.BufferedReader(source, BUFFER_BYTES)))
        except FarmError as error:
            permanent = isinstance(error, AudioError | TooLarge)
            self._pipe.send(pipe.CutFailed(code=error.code, message=error.message, permanent=permanent))

    def _ask(self, number: int) -> Future[bytes]:
        """A block of the recording that is being read. The agent answers each, or none any more."""
        ask, block = next(self._asks), Future[bytes]()
        self._wanted[ask] = block
        self._pipe.send(pipe.WantBlock(ask=ask, number=number))
        return block

    def _done(self, order: pipe.ReadRecording, file: io.BufferedReader) -> pipe.CutEnded | pipe.PeaksMade:
        if isinstance(order.task, ChunkTask):
            return pipe.CutEnded(result=ChunkResult(**asdict(self._send_chunks(order.task, file))))
        bound_processor(OPEN_SECONDS + STEP_SECONDS)
        task, copy = order.task, Path(order.copy_path)
        with AudioSource(file, task.source.name, track=task.track, raw=task.raw) as source:
            made = listen(source, copy, MAX_COPY_BYTES, self._went_on)
        return pipe.PeaksMade(duration_seconds=made.duration_seconds, peaks=made.peaks)

    def _went_on(self, seconds: float) -> None:
        bound_processor(STEP_SECONDS)
        self._pipe.send(pipe.PeaksGoOn(seconds=seconds))

    def _send_chunks(self, task: ChunkTask, file: io.BufferedReader) -> ChunkingEnd:
        bound_processor(OPEN_SECONDS)
        source = AudioSource(file, task.source.name, task.channel, task.track, task.raw)
        begin = task.chunk_seconds, task.resume_position, task.resume_seconds
        with Chunking(source, *begin, task.end_seconds) as chunking:
            bound_processor(STEP_SECONDS)
            for chunk in chunking:
                bound_processor(STEP_SECONDS)
                cut = pipe.CutChunk(
                    position=chunk.position,
                    start_seconds=chunk.start_seconds,
                    end_seconds=chunk.end_seconds,
                    speech_seconds=chunk.speech_seconds,
                    declared_seconds=chunking.expected_seconds,
                    tagged_language=chunking.facts.language,
                )
                self._pipe.send(cut, chunk.flac)
                if sys.platform == "linux" and chunk.position == task.resume_position:
                    give_way()
        assert chunking.end is not None
        return replace(chunking.end, damaged_seconds=chunking.end.damaged_seconds[:_MOST_DAMAGED])


def give_way() -> None:
    """From now on everything else on this machine goes first, where the system knows how.

    On Linux this is of one thread. So the beginning of the next recording goes before the rest of long ones.
    """
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
