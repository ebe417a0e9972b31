"""The recogniser's side of the pipe: one engine with one model, batches in, results out as soon as they are known.

Promises: the pipe is read all the while, so cancels arrive between windows; results carry file times; an `EngineError`
ends the batch with its code, any other error ends the process (the agent finds the guilty chunk). Loads one model in
its life.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from whisper_farm.audio.flac import decode_flac
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineFacts, EngineSettings, FetchProgress, Recognition
from whisper_farm.engines.registry import engine_traits
from whisper_farm.errors import AudioError, EngineError
from whisper_farm.protocol.worker import TranscribeResult
from whisper_farm.worker.ability import ability
from whisper_farm.worker.line import Line, crash
from whisper_farm.worker.pipe import (
    BatchEnded,
    Begin,
    Cancel,
    Chunk,
    Fetching,
    Heard,
    Load,
    Ready,
    Recognise,
    Refused,
    Unable,
)

_NEWS_SECONDS = 0.2


class RecogniserChild:
    """Serves one agent over its line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._begin = Begin(engine="")
        self._engine: Engine | None = None
        self._lanes = ThreadPoolExecutor(1, "lane")
        self._chunks: defaultdict[int, list[tuple[Chunk, bytes]]] = defaultdict(list)
        self._cancelled: set[tuple[int, int]] = set()

    def serve(self) -> None:
        """Do what the agent says until it closes the pipe; the work itself happens in the lanes."""
        for message, body in self._line.received():
            match message:
                case Begin():
                    self._begin = message
                    self._in_lane(self._look_around)
                case Load():
                    self._lanes = ThreadPoolExecutor(message.lanes, "lane")
                    self._in_lane(partial(self._load, message))
                case Chunk():
                    self._chunks[message.batch].append((message, body))
                case Recognise():
                    self._in_lane(partial(self._recognise, message, self._chunks.pop(message.batch, [])))
                case Cancel():
                    self._cancelled.add((message.batch, message.index))
                case _:
                    raise RuntimeError(f"A recogniser does not understand {message!r}.")

    def _in_lane(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException:
                crash()

        self._lanes.submit(run)

    def _look_around(self) -> None:
        try:
            self._line.send(ability(self._begin))
        except EngineError as error:
            self._line.send(Unable(code=error.code, message=error.message))

    def _load(self, load: Load) -> None:
        begin, news = self._begin, _News(self._line)
        settings = EngineSettings(
            device=begin.device,
            device_index=begin.device_index,
            compute_type=begin.compute_type,
            threads=load.threads,
            slots=load.lanes,
            model_dir=begin.model_dir,
            local_files_only=begin.local_files_only,
        )
        try:
            self._engine = engine_traits(begin.engine).load(load.options, settings, news)
        except EngineError as error:
            self._line.send(Unable(code=error.code, message=error.message))
            return
        facts = self._engine.facts
        self._line.send(
            Ready(
                engine=facts.engine,
                version=facts.version,
                model=facts.model,
                revision=facts.revision,
                device=facts.device,
                compute_type=facts.compute_type,
            )
        )

    def _recognise(self, order: Recognise, chunks: list[tuple[Chunk, bytes]]) -> None:
        assert self._engine is not None
        batch, code, why = order.batch, None, None
        readable = self._decoded(batch, chunks)
        indexes = list(readable)
        answers = self._engine.recognise(
            list(readable.values()), order.options, lambda place: (batch, indexes[place]) in self._cancelled
        )
        began = time.monotonic()
        try:
            for place, recognition in answers:
                index, ended = indexes[place], time.monotonic()
                result = _result(recognition, chunks[index][0].start_seconds, self._engine.facts, ended - began)
                self._line.send(Heard(batch=batch, index=index, result=result))
                began = ended
        except EngineError as error:
            code, why = error.code, error.message
        self._cancelled -= {(batch, index) for index in range(len(chunks))}
        self._line.send(BatchEnded(batch=batch, code=code, message=why))

    def _decoded(self, batch: int, chunks: list[tuple[Chunk, bytes]]) -> dict[int, ChunkAudio]:
        """The audio by index; what cannot be decoded is refused at once."""
        readable = {}
        for index, (chunk, flac) in enumerate(chunks):
            try:
                readable[index] = ChunkAudio(decode_flac(flac), chunk.language)
            except AudioError as error:
                self._line.send(Refused(batch=batch, index=index, code=error.code, message=error.message))
        return readable


class _News:
    """Passes the progress of a fetch on, a few times a second."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._told_at = 0.0

    def __call__(self, progress: FetchProgress) -> None:
        if time.monotonic() < self._told_at + _NEWS_SECONDS and progress.done_bytes != progress.total_bytes:
            return
        self._told_at = time.monotonic()
        model, done, total = progress.model, progress.done_bytes, progress.total_bytes
        self._line.send(Fetching(model=model, done_bytes=done, total_bytes=total))


def _result(heard: Recognition, start_seconds: float, facts: EngineFacts, work_seconds: float) -> TranscribeResult:
    """A recognition in file time, with what made it and the seconds since the result before it."""
    return TranscribeResult(
        segments=tuple(segment.shifted(start_seconds) for segment in heard.segments),
        language=heard.language,
        language_probability=heard.language_probability,
        engine=facts.engine,
        engine_version=facts.version,
        model=facts.model,
        revision=facts.revision,
        device=facts.device,
        compute_type=facts.compute_type,
        work_seconds=work_seconds,
    )
