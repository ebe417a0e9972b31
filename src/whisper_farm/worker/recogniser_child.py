"""The recogniser process: one engine with one model. Batches come in, each result goes out as soon as it is known.

Promises: the pipe is read all the while, so cancels arrive between windows. Results carry the times of the recording.
An `EngineError` ends the batch with its code. Any other error ends the process, and the agent finds the guilty chunk.
The process loads one model in its life.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial

from whisper_farm.audio.flac import decode_flac
from whisper_farm.engines.devices import device_of, division_for
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineFacts, EngineSettings, FetchProgress, Recognition
from whisper_farm.engines.registry import engine_traits, library_version
from whisper_farm.errors import AudioError, EngineError
from whisper_farm.protocol.worker import TranscribeResult
from whisper_farm.worker import apart
from whisper_farm.worker.pipe import (
    AgentPipe,
    BatchChunk,
    BatchEnded,
    Cancel,
    Capability,
    Fetching,
    Load,
    LookAround,
    Ready,
    Recognise,
    Recognised,
    Refused,
    Unavailable,
    or_crash,
)

_NEWS_SECONDS = 0.2


class RecogniserChild:
    """Serves one agent over its pipe."""

    def __init__(self, pipe: AgentPipe) -> None:
        self._pipe = pipe
        self._order = LookAround(engine="")
        self._engine: Engine | None = None
        self._slots = ThreadPoolExecutor(1, "slot")
        self._chunks: defaultdict[int, list[tuple[BatchChunk, bytes]]] = defaultdict(list)
        self._cancelled: set[tuple[int, int]] = set()

    def serve(self) -> None:
        """Do what the agent says until it closes the pipe. The work itself happens in the threads of the slots."""
        for message, body in self._pipe.received():
            match message:
                case LookAround():
                    self._order = message
                    self._in_slot(self._look_around)
                case Load():
                    self._slots = ThreadPoolExecutor(message.slots, "slot")
                    self._in_slot(partial(self._load, message))
                case BatchChunk():
                    self._chunks[message.batch].append((message, body))
                case Recognise():
                    self._in_slot(partial(self._recognise, message, self._chunks.pop(message.batch, [])))
                case Cancel():
                    self._cancelled.add((message.batch, message.index))
                case _:
                    raise RuntimeError(f"A recogniser does not understand {message!r}.")

    def _in_slot(self, work: Callable[[], None]) -> None:
        self._slots.submit(or_crash(work))

    def _look_around(self) -> None:
        try:
            self._pipe.send(capability(self._order))
        except EngineError as error:
            self._pipe.send(Unavailable(code=error.code, message=error.message))

    def _load(self, load: Load) -> None:
        order, news = self._order, _News(self._pipe)
        shared = order.model_dump(include=set(EngineSettings.__dataclass_fields__))
        settings = EngineSettings(**{**shared, "threads": load.threads, "slots": load.slots})
        try:
            self._engine = engine_traits(order.engine).load(load.options, settings, news)
        except EngineError as error:
            self._pipe.send(Unavailable(code=error.code, message=error.message))
        else:
            self._pipe.send(Ready(**asdict(self._engine.facts)))

    def _recognise(self, order: Recognise, chunks: list[tuple[BatchChunk, bytes]]) -> None:
        assert self._engine is not None
        batch, code, why = order.batch, None, None
        readable = self._decoded(batch, chunks)
        indexes = list(readable)
        gone = lambda place: (batch, indexes[place]) in self._cancelled  # noqa: E731
        answers = apart.recognise(self._engine, list(readable.values()), order.options, gone)
        began = time.monotonic()
        try:
            for place, recognition in answers:
                index, ended = indexes[place], time.monotonic()
                result = _result(recognition, chunks[index][0].start_seconds, self._engine.facts, ended - began)
                self._pipe.send(Recognised(batch=batch, index=index, result=result))
                began = ended
        except EngineError as error:
            code, why = error.code, error.message
        self._cancelled -= {(batch, index) for index in range(len(chunks))}
        self._pipe.send(BatchEnded(batch=batch, code=code, message=why))

    def _decoded(self, batch: int, chunks: list[tuple[BatchChunk, bytes]]) -> dict[int, ChunkAudio]:
        """The audio by index; what cannot be decoded is refused at once."""
        readable = {}
        for index, (chunk, flac) in enumerate(chunks):
            try:
                readable[index] = ChunkAudio(decode_flac(flac, chunk.seconds), chunk.language)
            except AudioError as error:
                self._pipe.send(Refused(batch=batch, index=index, code=error.code, message=error.message))
        return readable


class _News:
    """Passes the progress of a fetch on, a few times a second."""

    def __init__(self, pipe: AgentPipe) -> None:
        self._pipe = pipe
        self._told_at = 0.0

    def __call__(self, progress: FetchProgress) -> None:
        if time.monotonic() < self._told_at + _NEWS_SECONDS and progress.done_bytes != progress.total_bytes:
            return
        self._told_at = time.monotonic()
        model, done, total = progress.model, progress.done_bytes, progress.total_bytes
        self._pipe.send(Fetching(model=model, done_bytes=done, total_bytes=total))


def _result(heard: Recognition, start_seconds: float, facts: EngineFacts, work_seconds: float) -> TranscribeResult:
    """A recognition in file time, with what made it and the seconds since the result before it."""
    return TranscribeResult(
        segments=tuple(segment.shifted(start_seconds) for segment in heard.segments),
        unheard=tuple((start_seconds + start, start_seconds + end) for start, end in heard.unheard),
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


def capability(order: LookAround) -> Capability:
    """The engine's device, slots and batch here. What the owner set stands. EngineUnavailable if it cannot run."""
    traits = engine_traits(order.engine)
    version = library_version(traits)
    device = device_of(traits, order.device)
    division = division_for(traits, device, order.slots, batch=order.batch_size)
    return Capability(
        engine=traits.name,
        version=version,
        device=device,
        slots=division.slots,
        threads=order.threads or division.threads,
        batch=division.batch,
        shares_model=traits.shares_model,
        models=traits.models,
    )
