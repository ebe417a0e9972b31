"""whisper.cpp's family by transcribe.cpp: Whisper, Parakeet and others, on GPUs of AMD, Intel and Apple, on processors.

`pip install transcribe-cpp` brings it. A model is one file, `.gguf` or whisper.cpp's `.bin`: by its path, or by its
name in the worker's folder of models, as `small.gguf` or `ggml-small.bin`. None is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.engines.against_speech import AgainstSpeech
from whisper_farm.engines.cache import FoundModel, digest_of
from whisper_farm.engines.engine import (
    ChunkAudio,
    Engine,
    EngineFacts,
    EngineSettings,
    EngineTraits,
    Progress,
    Recognition,
)
from whisper_farm.engines.whisper_json import HeardDocument, HeardSegment, HeardWord, recognised
from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.models import may_be_folder
from whisper_farm.transcript.options import RecognitionOptions

if TYPE_CHECKING:
    from transcribe_cpp import Model, Result

NAMES = ("{}", "{}.gguf", "ggml-{}.bin", "{}.bin")
"""What the file of a model may be called."""
_LOOK_SECONDS = 0.2


class TranscribeCppEngine:
    """A loaded model. It recognises one chunk at a time."""

    def __init__(self, model: Model, facts: EngineFacts, threads: int) -> None:
        self.facts = facts
        self._model = model
        self._session = model.session(n_threads=threads)
        self._running = ThreadPoolExecutor(1, "transcribe-cpp")

    def recognise(
        self, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> Iterator[tuple[int, Recognition]]:
        """See the contract in `engine.Engine`."""
        for index, chunk in enumerate(chunks):
            if cancelled(index) or (result := self._run(chunk, options, partial(cancelled, index))) is None:
                continue
            heard, seconds = _document(result), len(chunk.audio) / SAMPLE_RATE
            language = self._language(chunk) or next(iter(self._model.capabilities.languages), None)
            yield index, recognised(heard, seconds, language, options.word_timestamps)

    def _language(self, chunk: ChunkAudio) -> str | None:
        """The language to be heard. The expected one is no more than expected: the model may not know it."""
        known = self._model.capabilities.languages
        if chunk.language and known and chunk.language not in known:
            raise OptionUnsupported(f"The model {self.facts.model} does not know the language {chunk.language!r}.")
        wanted = chunk.language or chunk.expected_language
        return wanted if not known or wanted in known else None

    def _run(self, chunk: ChunkAudio, options: RecognitionOptions, cancelled: Callable[[], bool]) -> Result | None:
        """What was heard; None if nobody wants it any more."""
        import transcribe_cpp as library

        kind = self._model.capabilities.max_timestamp_kind
        run = self._running.submit(
            self._session.run,
            chunk.audio.data,
            task=options.task,
            language=self._language(chunk),
            timestamps="none" if kind == "none" else "segment" if kind == "segment" else "word",
            prompt=options.initial_prompt,
            vocabulary=[options.hotwords] if options.hotwords else None,
        )
        while True:
            try:
                return run.result(_LOOK_SECONDS)
            except TimeoutError:
                if cancelled():
                    self._session.cancel()
            except library.Aborted:
                return None
            except library.OutputTruncated as cut:  # it went round in circles; what came before stands
                return cut.partial_result
            except library.UnsupportedRequest as refusal:
                raise OptionUnsupported(f"The model {self.facts.model} cannot do that: {refusal}") from refusal
            except library.TranscribeError as problem:
                raise EngineError(f"transcribe.cpp failed: {problem}") from problem


def _document(result: Result) -> HeardDocument:
    segments = [
        HeardSegment(
            start=one.t0_ms / 1000,
            end=one.t1_ms / 1000,
            text=one.text,
            words=[
                HeardWord(word=word.text, start=word.t0_ms / 1000, end=word.t1_ms / 1000)
                for word in result.words[one.first_word : one.first_word + one.n_words]
            ],
        )
        for one in result.segments
    ]
    return HeardDocument(text=result.text, language=result.language, segments=segments)


def _find(model: str, settings: EngineSettings) -> FoundModel:
    """The file of a model; ModelUnavailable if there is none."""
    folder = Path(settings.model_dir).expanduser() if settings.model_dir else None
    places = [Path(model).expanduser()] if may_be_folder(model) else []
    places += [folder / name.format(model) for name in NAMES] if folder and not may_be_folder(model) else []
    file = next((place.absolute() for place in places if place.is_file()), None)
    if file is None:
        raise ModelUnavailable(
            f"There is no model {model!r} for transcribe.cpp: give the path of a .gguf or .bin file with --model, "
            f"or put {model}.gguf into the folder that --model_dir names."
        )
    return FoundModel(model, file, digest_of(file))


def _load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    found = _find(options.model, settings)
    if options.revision not in (None, found.revision):
        raise ModelUnavailable(
            f"{found.path} is revision {found.revision}; this recording was begun with {options.revision}."
        )
    version = _version()
    import transcribe_cpp as library

    try:
        model = library.Model(found.path, backend=settings.device)
    except library.BackendError as problem:
        raise EngineUnavailable(f"transcribe.cpp cannot use {settings.device} here: {problem}") from problem
    except library.TranscribeError as problem:
        raise ModelUnavailable(f"The model in {found.path} cannot be loaded: {problem}") from problem
    facts = EngineFacts("transcribe-cpp", version, options.model, found.revision, model.backend.lower(), "default")
    return AgainstSpeech(TranscribeCppEngine(model, facts, settings.threads))


def _version() -> str:
    try:
        import transcribe_cpp
    except ImportError as problem:
        raise EngineUnavailable(
            f"The engine transcribe-cpp needs its library ({problem}): pip install transcribe-cpp"
        ) from problem
    return str(transcribe_cpp.__version__)


TRAITS = EngineTraits(
    name="transcribe-cpp",
    load=_load,
    version=_version,
    default_model=lambda device, task: "small",
    options=frozenset({"language", "task", "word_timestamps", "initial_prompt", "hotwords", "vad_filter"}),
    shares_model=False,
    slots=1,
    fetch=lambda options, settings, _: _find(options.model, settings),
)
