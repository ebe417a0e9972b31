"""The recogniser process: one engine with one model. Batches come in, each result goes out as soon as it is known.

Promises: the pipe is read all the while, so cancels arrive between windows. Results carry the times of the recording.
An `EngineError` ends the batch with its code. Any other error ends the process, and the agent finds the guilty chunk.
The process loads one model in its life. With that it gives up the network and programs, unless its engine needs them.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial

from whisper_farm.audio.flac import decode_flac
from whisper_farm.audio.sound import either
from whisper_farm.engines.devices import device_of, division_for, usable_cores
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineFacts, EngineSettings, FetchProgress, Recognition
from whisper_farm.engines.registry import engine_traits, library_version
from whisper_farm.engines.voices import SpeakerModel, find_speaker_model, have_speaker_model
from whisper_farm.errors import AudioError, EngineError, ModelUnavailable, SpeakersUnavailable
from whisper_farm.protocol.jobs import ChunkVoices, TranscribeResult
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.speakers import Voices
from whisper_farm.transcript.transcript import Segment
from whisper_farm.worker import pipe, sandbox
from whisper_farm.worker.bounds import bound_processor, keep_memory

SPEAKERS = ("Left", "Right")
_NEWS_SECONDS = 0.2


class RecogniserChild:
    """Serves one agent over its pipe."""

    def __init__(self, agent: pipe.AgentPipe) -> None:
        self._pipe = agent
        self._order = pipe.LookAround(engine="")
        self._engine: Engine | None = None
        self._speakers: SpeakerModel | None = None
        self._slots = ThreadPoolExecutor(1, "slot")
        self._chunks: defaultdict[int, list[tuple[pipe.BatchChunk, bytes]]] = defaultdict(list)
        self._cancelled: set[tuple[int, int]] = set()

    def serve(self) -> None:
        """Do what the agent says until it closes the pipe. The work itself happens in the threads of the slots."""
        for message, body in self._pipe.received():
            match message:
                case pipe.LookAround():
                    self._order = message
                    self._in_slot(partial(capability, message))
                case pipe.Fetch():
                    self._in_slot(partial(self._fetch, message))
                case pipe.Load():
                    self._slots = ThreadPoolExecutor(message.slots, "slot")
                    self._in_slot(partial(self._load, message))
                case pipe.BatchChunk():
                    self._chunks[message.batch].append((message, body))
                case pipe.Recognise():
                    self._in_slot(partial(self._recognise, message, self._chunks.pop(message.batch, [])))
                case pipe.Cancel():
                    self._cancelled.add((message.batch, message.index))
                case _:
                    raise RuntimeError(f"A recogniser does not understand {message!r}.")

    def _in_slot(self, work: Callable[[], pipe.PipeMessage]) -> None:
        """Do this in a thread of the slots, and send what comes of it."""

        def run() -> None:
            try:
                answer = work()
            except EngineError as error:
                answer = pipe.Unavailable(code=error.code, message=error.message)
            self._pipe.send(answer)

        self._slots.submit(pipe.or_crash(run))

    def _fetch(self, fetch: pipe.Fetch) -> pipe.Fetched:
        self._order = fetch.order
        traits = engine_traits(self._order.engine)
        if traits.fetch is not None:
            traits.fetch(fetch.options, self._settings(), _news(self._pipe))
        if fetch.options.diarize:
            have_speaker_model(fetch.options.speaker_model, self._settings(), _news(self._pipe))
        return pipe.Fetched()

    def _settings(self, threads: int = 0, slots: int = 1) -> EngineSettings:
        shared = self._order.model_dump(include=set(EngineSettings.__dataclass_fields__))
        return EngineSettings(**{**shared, "threads": threads, "slots": slots})

    def _load(self, load: pipe.Load) -> pipe.Ready | pipe.Missing:
        settings = replace(self._settings(threads=load.threads, slots=load.slots), local_files_only=True)
        traits = engine_traits(self._order.engine)
        try:
            found = None
            if load.options.diarize:
                found = find_speaker_model(load.options.speaker_model, settings, _news(self._pipe))
            self._engine = traits.load(load.options, settings, _news(self._pipe))
        except ModelUnavailable as error:
            if traits.fetch is None and not isinstance(error, SpeakersUnavailable):
                raise
            return pipe.Missing(code=error.code, message=error.message)
        if found is not None:
            beside_gpu = self._engine.facts.device == "cuda"
            self._speakers = SpeakerModel(found, usable_cores() if beside_gpu else load.threads)
        keep_memory()
        sandbox.leave(traits.needs)
        return pipe.Ready(**asdict(self._engine.facts))

    def _recognise(self, order: pipe.Recognise, chunks: list[tuple[pipe.BatchChunk, bytes]]) -> pipe.BatchEnded:
        assert self._engine is not None
        if self._order.chunk_timeout_seconds is not None:
            bound_processor(math.ceil(self._order.chunk_timeout_seconds) * (os.cpu_count() or 1))
        batch, code, why = order.batch, None, None
        readable = self._decoded(batch, chunks)
        indexes = list(readable)
        began, whole = time.monotonic(), max(1, sum(len(chunk.audio) for chunk in readable.values()))
        answered, told_seconds = 0, 0.0
        try:
            answers = recognise_channels(
                self._engine,
                list(readable.values()),
                order.options,
                lambda place: (batch, indexes[place]) in self._cancelled,
            )
            for place, recognition in answers:
                index = indexes[place]
                start, voices = chunks[index][0].start_seconds, self._voices(readable[index], recognition, order)
                answered += len(readable[index].audio)
                share = max(0.0, (time.monotonic() - began) * answered / whole - told_seconds)
                told_seconds += share
                result = _result(recognition, start, self._engine.facts, share)
                result = result.model_copy(update={"voices": voices and _sent(voices, start)})
                self._pipe.send(pipe.Recognised(batch=batch, index=index, result=result))
        except EngineError as error:
            code, why = error.code, error.message
        self._cancelled -= {(batch, index) for index in range(len(chunks))}
        return pipe.BatchEnded(batch=batch, code=code, message=why)

    def _voices(self, chunk: ChunkAudio, heard: Recognition, order: pipe.Recognise) -> Voices | None:
        """Whose voices speak in a chunk, if somebody wants to know."""
        if self._speakers is None or not order.options.diarize:
            return None
        return self._speakers.voices(either(chunk.audio), heard.segments)

    def _decoded(self, batch: int, chunks: list[tuple[pipe.BatchChunk, bytes]]) -> dict[int, ChunkAudio]:
        """The audio by index; what cannot be decoded is refused at once."""
        readable = {}
        for index, (chunk, flac) in enumerate(chunks):
            try:
                audio = decode_flac(flac, chunk.seconds)
                readable[index] = ChunkAudio(audio, chunk.language, chunk.expected_language)
            except AudioError as error:
                self._pipe.send(pipe.Refused(batch=batch, index=index, code=error.code, message=error.message))
        return readable


def _news(agent: pipe.AgentPipe) -> Callable[[FetchProgress], None]:
    """Passes the progress of a fetch on, a few times a second."""
    told_at = 0.0

    def news(progress: FetchProgress) -> None:
        nonlocal told_at
        if time.monotonic() >= told_at + _NEWS_SECONDS or progress.done_bytes == progress.total_bytes:
            told_at = time.monotonic()
            agent.send(pipe.Fetching(**asdict(progress)))

    return news


def _result(heard: Recognition, start_seconds: float, facts: EngineFacts, work_seconds: float) -> TranscribeResult:
    """A recognition in file time, with what made it and its share of the time that its batch took."""
    return TranscribeResult(
        segments=tuple(_without_nul(segment).shifted(start_seconds) for segment in heard.segments),
        unheard=tuple((start_seconds + start, start_seconds + end) for start, end in heard.unheard),
        language=heard.language,
        language_probability=heard.language_probability,
        language_sure=heard.language_sure,
        engine=facts.engine,
        engine_version=facts.version,
        model=facts.model,
        revision=facts.revision,
        device=facts.device,
        compute_type=facts.compute_type,
        work_seconds=work_seconds,
    )


def _sent(voices: Voices, start_seconds: float) -> ChunkVoices:
    spans = tuple((start_seconds + start, start_seconds + end) for start, end in voices.spans)
    return ChunkVoices(model=voices.model, spans=spans, vectors=voices.packed(), narrow=voices.narrow)


def _without_nul(segment: Segment) -> Segment:
    """The segment as the farm takes it: PostgreSQL keeps no NUL, and models have a token for it."""
    if "\0" not in segment.text + "".join(word.text for word in segment.words):
        return segment
    words = (replace(word, text=word.text.replace("\0", "")) for word in segment.words)
    return replace(segment, text=segment.text.replace("\0", ""), words=tuple(word for word in words if word.text))


def recognise_channels(
    engine: Engine, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
) -> Iterator[tuple[int, Recognition]]:
    """As `Engine.recognise`, for chunks of one channel or of two.

    Two are recognised as a chunk each, and their speakers named after them. What comes back is in order of time. A
    chunk of one channel comes back as the engine gave it.
    """
    parts = [(index, speaker, part) for index, chunk in enumerate(chunks) for speaker, part in _channels(chunk)]
    heard: dict[int, dict[str | None, Recognition]] = {}
    answers = engine.recognise([part for *_, part in parts], options, lambda place: cancelled(parts[place][0]))
    for place, recognition in answers:
        index, speaker, _ = parts[place]
        both = heard.setdefault(index, {})
        both[speaker] = recognition
        if speaker is None:
            yield index, recognition
        elif len(both) == len(SPEAKERS):
            yield index, _together(both)


def _channels(chunk: ChunkAudio) -> Iterator[tuple[str | None, ChunkAudio]]:
    if chunk.audio.ndim == 1:
        yield None, chunk
    else:
        for number, speaker in enumerate(SPEAKERS):
            yield speaker, replace(chunk, audio=chunk.audio[:, number].copy())


def _together(heard: Mapping[str | None, Recognition]) -> Recognition:
    """Both in one: what whoever speaks more speaks is the language of the chunk."""
    most = max(heard.values(), key=lambda one: sum(len(segment.text) for segment in one.segments))
    said = [replace(segment, speaker=speaker) for speaker, one in heard.items() for segment in one.segments]
    unheard = sorted(stretch for one in heard.values() for stretch in one.unheard)
    return replace(most, segments=tuple(sorted(said, key=lambda segment: segment.start)), unheard=tuple(unheard))


def capability(order: pipe.LookAround) -> pipe.Capability:
    """The engine's device, slots and batch here. What the owner set stands. EngineUnavailable if it cannot run."""
    traits = engine_traits(order.engine)
    version = library_version(traits)
    device = device_of(traits, order.device)
    division = division_for(traits, device, order.slots, batch=order.batch_size)
    return pipe.Capability(
        engine=traits.name,
        version=version,
        device=device,
        slots=division.slots,
        threads=order.threads or division.threads,
        batch=division.batch,
        shares_model=traits.shares_model,
        models=traits.models,
        options=tuple(sorted(traits.options)),
    )
