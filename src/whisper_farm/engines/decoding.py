"""Whisper's recogniser on faster-whisper (CTranslate2): whole batches of windows through encoder and decoder at once.

Differs from the library's own batched pipeline where that loses text or quality: windows are decoded with time
stamps, so that a chunk becomes phrases; a window whose text looks wrong, and only that one, is decoded again at
higher temperatures; one that holds no speech is dropped; a phrase that a window announces but does not write, and all
that a chunk has beyond 30 seconds, is heard in a further window; languages may differ within a batch.

A chunk's words depend on it and the options alone, with two exceptions: the shape of a batch changes the rounding of
sums, which can tip the scales between two equally likely words; and text at a temperature above 0 is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import ctranslate2
import faster_whisper
import numpy as np
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import (
    WhisperModel,
    get_compression_ratio,
    get_ctranslate2_storage,
    get_suppressed_tokens,
)
from numpy.typing import NDArray

from whisper_farm.engines.devices import device_for, usable_cores
from whisper_farm.engines.engine import (
    SAMPLE_RATE,
    Audio,
    ChunkAudio,
    EngineFacts,
    EngineSettings,
    Progress,
    Recognition,
)
from whisper_farm.engines.hub import find_model
from whisper_farm.engines.windows import TIME_STEP_SECONDS, Decoded, Phrase, best, phrases_of, step
from whisper_farm.errors import EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.models import can_translate, cannot_translate
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word

VERSION = f"{faster_whisper.__version__}+ctranslate2-{ctranslate2.__version__}"
WINDOW_SAMPLES = 30 * SAMPLE_RATE
WINDOW_FRAMES = 3000
FRAMES_A_SECOND = 100
CANDIDATES = 5
"""Texts drawn at a temperature above 0, of which the likeliest counts."""
SOFTEST = 1e-4
"""Audio that never is louder than this (of full scale 1) holds no speech; Whisper would make some up."""

_BEFORE, _AFTER = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"

Features = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Hearing:
    """How far the recognition of one chunk is. `at` is the first sample of its next window."""

    index: int
    audio: Audio
    language: str
    language_probability: float = 1.0
    at: int = 0
    segments: list[Segment] = field(default_factory=list)

    @property
    def window(self) -> Audio:
        return self.audio[self.at : self.at + WINDOW_SAMPLES]

    @property
    def last(self) -> bool:
        return self.at + WINDOW_SAMPLES >= len(self.audio)

    @property
    def recognition(self) -> Recognition:
        return Recognition(tuple(self.segments), self.language, self.language_probability)


class _Batch:
    """Windows with their features and the encoder's output, of which some can be taken."""

    def __init__(self, model: WhisperModel, features: Features) -> None:
        self._model, self._features = model, features
        self.encoded = model.encode(features)

    def only(self, rows: list[int]) -> Any:
        """The encoder's output of these windows."""
        if len(rows) == len(self._features):
            return self.encoded
        if self._model.model.device != "cpu":  # cheaper than a way through the processor's memory
            return self._model.encode(self._features[rows])
        return get_ctranslate2_storage(np.asarray(self.encoded)[rows])


class WhisperEngine:
    """A loaded Whisper model. `recognise` may be called from as many threads as it has slots."""

    def __init__(self, model: WhisperModel, facts: EngineFacts) -> None:
        self.facts = facts
        self._model = model
        self._multilingual = bool(model.model.is_multilingual)
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}

    def recognise(
        self,
        chunks: Sequence[ChunkAudio],
        options: RecognitionOptions,
        cancelled: Callable[[int], bool],
    ) -> Iterator[tuple[int, Recognition]]:
        """All chunks as one batch, window by window; see the contract in `engine.Engine`."""
        self._refuse_what_it_cannot(chunks, options)
        hearings = []
        for index, chunk in enumerate(chunks):
            language = chunk.language or options.language or ("" if self._multilingual else "en")
            if np.abs(chunk.audio).max(initial=0.0) > SOFTEST:
                hearings.append(_Hearing(index, chunk.audio, language))
            elif not cancelled(index):
                yield index, Recognition((), language or "en", 1.0 if language else 0.0)
        while hearings := [each for each in hearings if not cancelled(each.index)]:
            unfinished = self._round(hearings, options, cancelled)
            for each in hearings:
                if each not in unfinished and not cancelled(each.index):
                    yield each.index, each.recognition
            hearings = unfinished

    def _round(
        self, hearings: list[_Hearing], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> list[_Hearing]:
        """Hear the next window of each; those that have another."""
        batch = _Batch(self._model, np.stack([self._features(each.window) for each in hearings]))
        self._guess_languages(hearings, batch)
        decoded = self._decode_well(hearings, batch, options, cancelled)
        kept, steps = [], []
        for each, one in zip(hearings, decoded, strict=True):
            tokenizer, seconds = self._tokenizer(each.language, options), len(each.window) / SAMPLE_RATE
            tokens, forth = step(one, tokenizer.timestamp_begin, seconds, each.last)
            if one.silent(options):
                tokens, forth = (), None if each.last else seconds
            kept.append(phrases_of(tokens, tokenizer.timestamp_begin, tokenizer.eot, seconds))
            steps.append(forth)
        words = self._words(hearings, kept, batch, options)
        for each, one, phrases, its_words in zip(hearings, decoded, kept, words, strict=True):
            each.segments += self._segments(each, one, phrases, its_words, options)
        return [each for each, forth in zip(hearings, steps, strict=True) if _move(each, forth)]

    def _features(self, audio: Audio) -> Features:
        """The log-mel spectrogram of a window that is filled up with silent audio, as Whisper was trained."""
        padded = np.pad(audio, (0, WINDOW_SAMPLES - len(audio)))
        return cast(Features, self._model.feature_extractor(padded)[..., :WINDOW_FRAMES])

    def _guess_languages(self, hearings: list[_Hearing], batch: _Batch) -> None:
        unknown = [row for row, each in enumerate(hearings) if not each.language]
        if not unknown:
            return
        for row, guesses in zip(unknown, self._model.model.detect_language(batch.only(unknown)), strict=True):
            token, probability = guesses[0]
            hearings[row].language, hearings[row].language_probability = token[2:-2], float(probability)

    def _decode_well(
        self, hearings: list[_Hearing], batch: _Batch, options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> list[Decoded]:
        """Decode all windows; those whose text looks wrong again, hotter each time."""
        tries: list[list[Decoded]] = [[] for _ in hearings]
        rows = list(range(len(hearings)))
        for temperature in options.temperature:
            prompts = [self._prompt(hearings[row].language, options) for row in rows]
            again = self._decode(batch.only(rows), prompts, options, temperature)
            for row, one in zip(rows, again, strict=True):
                tries[row].append(one)
            rows = [
                row for row in rows if not tries[row][-1].acceptable(options) and not cancelled(hearings[row].index)
            ]
            if not rows:
                break
        return [best(each, options) for each in tries]

    def _decode(
        self, encoded: Any, prompts: list[list[int]], options: RecognitionOptions, temperature: float
    ) -> list[Decoded]:
        if temperature > 0:
            search = {"beam_size": 1, "num_hypotheses": CANDIDATES, "sampling_topk": 0}
        else:
            search = {"beam_size": options.beam_size}
        room = self._model.max_length - len(prompts[0])
        limit = min(room, options.max_new_tokens or room)
        results = self._model.model.generate(
            encoded,
            prompts,
            max_length=len(prompts[0]) + limit,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=round(1 / TIME_STEP_SECONDS),
            sampling_temperature=temperature,
            **search,
        )
        return [self._judged(result, limit, temperature) for result in results]

    def _judged(self, result: Any, limit: int, temperature: float) -> Decoded:
        tokens = tuple(result.sequences_ids[0])
        text = self._any_tokenizer.decode(tokens).strip()
        return Decoded(
            tokens=tokens,
            ended=len(tokens) < limit,
            avg_logprob=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            no_speech_prob=float(result.no_speech_prob),
            compression_ratio=float(get_compression_ratio(text)),
            temperature=temperature,
        )

    def _prompt(self, language: str, options: RecognitionOptions) -> list[int]:
        tokenizer = self._tokenizer(language, options)
        before = tokenizer.encode(" " + options.initial_prompt.strip()) if options.initial_prompt else []
        return cast(list[int], self._model.get_prompt(tokenizer, before))

    def _words(
        self, hearings: list[_Hearing], phrases: list[list[Phrase]], batch: _Batch, options: RecognitionOptions
    ) -> list[list[dict[str, Any]]]:
        """For every window its phrases as the library's dictionaries, timed by words if wanted."""
        drafts = [
            [{"seek": 0, "start": p.start, "end": p.end, "tokens": list(p.tokens), "words": []} for p in its_phrases]
            for its_phrases in phrases
        ]
        if options.word_timestamps:
            for language in dict.fromkeys(each.language for each in hearings):
                rows = [row for row, each in enumerate(hearings) if each.language == language and drafts[row]]
                if rows:
                    self._time_words(rows, hearings, drafts, batch, self._tokenizer(language, options))
        return drafts

    def _time_words(
        self,
        rows: list[int],
        hearings: list[_Hearing],
        drafts: list[list[dict[str, Any]]],
        batch: _Batch,
        tokenizer: Tokenizer,
    ) -> None:
        """Align the windows of one language at once; then the library places the words of each as if it were alone."""
        texts = [[token for phrase in drafts[row] for token in phrase["tokens"]] for row in rows]
        frames = [min(WINDOW_FRAMES, 1 + len(hearings[row].window) * FRAMES_A_SECOND // SAMPLE_RATE) for row in rows]
        alignments = self._model.find_alignment(tokenizer, texts, batch.only(rows), frames)
        for row, alignment, count in zip(rows, alignments, frames, strict=True):
            alone = SimpleNamespace(
                find_alignment=lambda *_, alignment=alignment: [alignment], frames_per_second=FRAMES_A_SECOND
            )
            WhisperModel.add_word_timestamps(alone, [drafts[row]], tokenizer, None, count, _BEFORE, _AFTER, 0.0)

    def _segments(
        self,
        hearing: _Hearing,
        one: Decoded,
        phrases: list[Phrase],
        drafts: list[dict[str, Any]],
        options: RecognitionOptions,
    ) -> Iterator[Segment]:
        """The segments of one window, in the chunk's time and inside the window."""
        tokenizer = self._tokenizer(hearing.language, options)
        offset, limit = hearing.at / SAMPLE_RATE, len(hearing.window) / SAMPLE_RATE
        for phrase, draft in zip(phrases, drafts, strict=True):
            if not (text := tokenizer.decode(phrase.tokens)).strip():
                continue
            words = tuple(
                Word(*_bounded(word["start"], word["end"], limit), word["word"], float(word["probability"]))
                for word in draft["words"]
            )
            yield Segment(
                *_bounded(draft["start"], draft["end"], limit),
                text=text,
                words=words,
                avg_logprob=one.avg_logprob,
                no_speech_prob=one.no_speech_prob,
                compression_ratio=one.compression_ratio,
                temperature=one.temperature,
            ).shifted(offset)

    def _refuse_what_it_cannot(self, chunks: Sequence[ChunkAudio], options: RecognitionOptions) -> None:
        if options.task == "translate" and not (self._multilingual and can_translate(self.facts.model)):
            raise cannot_translate(self.facts.model)
        for language in {options.language, *(chunk.language for chunk in chunks)} - {None}:
            known = self._model.hf_tokenizer.token_to_id(f"<|{language}|>") is not None
            if language not in self._model.supported_languages or (self._multilingual and not known):
                raise OptionUnsupported(f"The model {self.facts.model} does not know the language {language!r}.")

    def _tokenizer(self, language: str, options: RecognitionOptions) -> Tokenizer:
        key = language, options.task
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(
                self._model.hf_tokenizer, self._multilingual, task=options.task, language=language
            )
        return self._tokenizers[key]

    @cached_property
    def _any_tokenizer(self) -> Tokenizer:
        """For what does not depend on the language."""
        return Tokenizer(self._model.hf_tokenizer, self._multilingual, task="transcribe", language="en")

    @cached_property
    def _suppressed(self) -> tuple[int, ...]:
        return cast(tuple[int, ...], get_suppressed_tokens(self._any_tokenizer, [-1]))


def load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> WhisperEngine:
    """Load the model that `options` name on the device that `settings` name; fetch it first where it is missing."""
    device = device_for(settings.device)
    found = find_model(options.model, settings, options.revision, progress)
    compute_type = settings.compute_type
    if compute_type in ("default", "auto"):
        compute_type = "float16" if device == "cuda" else "int8"
    try:
        model = WhisperModel(
            str(found.path),
            device=device,
            device_index=settings.device_index,
            compute_type=compute_type,
            cpu_threads=settings.threads or max(1, usable_cores() // settings.slots),
            num_workers=settings.slots,
        )
    except ValueError as problem:
        raise EngineUnavailable(f"faster-whisper cannot use {device} with {compute_type} here: {problem}") from problem
    except Exception as problem:  # the tokenizer's library raises bare Exceptions
        raise ModelUnavailable(f"The model in {found.path} cannot be loaded: {problem}") from problem
    facts = EngineFacts(
        engine="faster-whisper",
        version=VERSION,
        model=options.model,
        revision=found.revision,
        device=device,
        compute_type=str(model.model.compute_type),
    )
    return WhisperEngine(model, facts)


def _move(hearing: _Hearing, seconds: float | None) -> bool:
    """Go on to the next window; False if there is none."""
    if seconds is None:
        return False
    hearing.at += round(seconds * SAMPLE_RATE)
    return hearing.at < len(hearing.audio)


def _bounded(start: float, end: float, limit: float) -> tuple[float, float]:
    """Times inside the window, in order."""
    start = min(max(0.0, float(start)), limit)
    return start, min(max(start, float(end)), limit)
