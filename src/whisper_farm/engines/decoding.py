"""Windows of sound to timed text with faster-whisper (CTranslate2): whole batches through encoder and decoder at once.

Differs from the library's own batched pipeline where that loses text or quality: windows are decoded with time stamps,
so that they become phrases; a window whose text looks wrong, and only that one, is decoded again at higher
temperatures; one that holds no speech is dropped; languages may differ within a batch. Knows no chunks: `hearing`
says which windows a chunk is heard in.

A window's words depend on it and the options alone, with two exceptions: the shape of a batch changes the rounding of
sums, which can tip the scales between two equally likely words; and text at a temperature above 0 is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import (
    WhisperModel,
    get_compression_ratio,
    get_ctranslate2_storage,
    get_suppressed_tokens,
)
from numpy.typing import NDArray

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines.windows import (
    REPEATED,
    TIME_STEP_SECONDS,
    Decoded,
    Phrase,
    best,
    goes_on,
    in_circles,
    language_of,
    mean_logprob,
    phrases_of,
    step,
)
from whisper_farm.engines.word_times import (
    FRAMES_A_SECOND,
    WINDOW_FRAMES,
    Drafts,
    align,
    bounded,
    drafts_of,
    keep_in_phrase,
    words_of,
)
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment

WINDOW_SAMPLES = 30 * SAMPLE_RATE
CANDIDATES = 5
"""Texts drawn at a temperature above 0, of which the likeliest counts."""

MOST_SAID = 40
"""So many tokens of what was said before are told to the model when it goes on."""

Features = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Window:
    """At most 30 seconds of a chunk to be heard. A language of "" is found out, and set here.

    An `expected` language is heard where another is not surely spoken.
    """

    audio: Waveform
    language: str
    last: bool
    """Whether nothing of the chunk follows it."""
    cancelled: Callable[[], bool]
    expected: str = ""
    language_probability: float = 1.0
    language_sure: bool = False

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.audio) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class WindowText:
    """What a window was decoded to. `next_seconds` is where the next window begins in it; None if there is no other."""

    decoded: Decoded
    segments: tuple[Segment, ...]
    next_seconds: float | None


class _Batch:
    """Windows with their features and the encoder's output, of which some can be taken."""

    def __init__(self, model: WhisperModel, features: Features) -> None:
        self._model, self._features = model, features
        self._on_processor = model.model.device == "cpu"
        # On a processor a batch is encoded no faster than its windows in turn, and attention in it takes their memory.
        self.encoded = self._one_by_one() if self._on_processor else model.encode(features)

    def only(self, rows: list[int]) -> Any:
        """The encoder's output of these windows."""
        if len(rows) == len(self._features):
            return self.encoded
        if not self._on_processor:  # cheaper than a way through the processor's memory
            return self._model.encode(self._features[rows])
        return get_ctranslate2_storage(np.asarray(self.encoded)[rows])

    def _one_by_one(self) -> Any:
        encoded = [np.asarray(self._model.encode(each)) for each in np.split(self._features, len(self._features))]
        return get_ctranslate2_storage(np.concatenate(encoded))


class WindowDecoder:
    """A loaded Whisper model that hears windows. Threads may use it at the same time."""

    def __init__(self, model: WhisperModel) -> None:
        self.model = model
        self.multilingual = bool(model.model.is_multilingual)
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}

    def knows(self, language: str) -> bool:
        """Whether the model has this language."""
        known = self.model.hf_tokenizer.token_to_id(f"<|{language}|>") is not None
        return language in self.model.supported_languages and (known or not self.multilingual)

    def hear(self, windows: Sequence[Window], options: RecognitionOptions) -> list[WindowText]:
        """All windows as one batch."""
        batch = _Batch(self.model, np.stack([self._features(each.audio) for each in windows]))
        guessed = [row for row, each in enumerate(windows) if not each.language]
        self._guess_languages(guessed, windows, batch)
        decoded = self._decode_well(list(range(len(windows))), windows, batch, options)
        self._doubt_languages(guessed, decoded, windows, batch, options)
        self._to_the_end(windows, decoded, batch, options)
        phrases, steps = [], []
        for each, one in zip(windows, decoded, strict=True):
            tokenizer = self._tokenizer(each.language, options)
            tokens, forth = step(one, tokenizer.timestamp_begin, each.seconds, each.last)
            if one.silent(options) or one.worthless(options):
                tokens, forth = (), None if each.last else each.seconds
            phrases.append(phrases_of(tokens, tokenizer.timestamp_begin, tokenizer.eot, each.seconds))
            steps.append(forth)
        words = self._words(windows, phrases, batch, options)
        return [
            WindowText(one, tuple(self._segments(each, one, its_phrases, its_words, options)), forth)
            for each, one, its_phrases, its_words, forth in zip(windows, decoded, phrases, words, steps, strict=True)
        ]

    def _features(self, audio: Waveform) -> Features:
        """The log-mel spectrogram of a window that is filled up with silent audio, as Whisper was trained."""
        padded = np.pad(audio, (0, WINDOW_SAMPLES - len(audio)))
        return cast(Features, self.model.feature_extractor(padded)[..., :WINDOW_FRAMES])

    def _guess_languages(self, rows: list[int], windows: Sequence[Window], batch: _Batch) -> None:
        """The likeliest language of these windows; the expected one where that may be and none is surely spoken."""
        if not rows:
            return
        found = self.model.model.detect_language(batch.only(rows))
        for window, guesses in zip([windows[row] for row in rows], found, strict=True):
            likely = {token[2:-2]: float(probability) for token, probability in guesses}
            window.language, window.language_sure = language_of(likely, window.expected)
            window.language_probability = likely.get(window.language, 0.0)

    def _doubt_languages(
        self,
        guessed: list[int],
        decoded: list[Decoded],
        windows: Sequence[Window],
        batch: _Batch,
        options: RecognitionOptions,
    ) -> None:
        """A language is as sure as the text in it. Where it is not, the expected one is tried; the likelier is kept."""
        unsure = [row for row in guessed if not decoded[row].sure]
        for row in unsure:
            windows[row].language_sure = False
        rows = [row for row in unsure if windows[row].expected not in ("", windows[row].language)]
        heard = [windows[row].language for row in rows]
        for row in rows:
            windows[row].language = windows[row].expected
        again = self._decode_well(rows, windows, batch, options)
        for row, language, one in zip(rows, heard, again, strict=True):
            if one.avg_logprob > decoded[row].avg_logprob and not one.repeats(options):
                decoded[row], windows[row].language_probability = one, 1 - windows[row].language_probability
            else:
                windows[row].language, windows[row].language_sure = language, True

    def _decode_well(
        self, rows: list[int], windows: Sequence[Window], batch: _Batch, options: RecognitionOptions
    ) -> list[Decoded]:
        """Decode these windows; those whose text looks wrong again, hotter each time."""
        tries: dict[int, list[Decoded]] = {row: [] for row in rows}
        for temperature in options.temperature if rows else ():
            prompts = [self._prompt(windows[row].language, options) for row in rows]
            again = self._decode(batch.only(rows), prompts, options, temperature)
            for row, one in zip(rows, again, strict=True):
                tries[row].append(one)
            rows = [row for row in rows if not tries[row][-1].acceptable(options) and not windows[row].cancelled()]
            if not rows:
                break
        return [best(each, options) for each in tries.values()]

    def _to_the_end(
        self, windows: Sequence[Window], decoded: list[Decoded], batch: _Batch, options: RecognitionOptions
    ) -> None:
        """Go on with texts that end early: in a full window the last words look as if they were cut off.

        The rest is decoded from the last time stamp on, of the same sound, with the text before it for a prompt.
        """
        stamp, end_of_text = self._any_tokenizer.timestamp_begin, self._any_tokenizer.eot
        begun: dict[int, tuple[tuple[int, ...], list[int]]] = {}
        for row, (window, one) in enumerate(zip(windows, decoded, strict=True)):
            tokens, forth = step(one, stamp, window.seconds, window.last)
            if window.last and forth is not None and one.sure and one.acceptable(options):
                said = [token for token in tokens if token < end_of_text][-MOST_SAID:]
                begun[row] = tokens, [*self._prompt(window.language, options, said), one.tokens[len(tokens)]]
        prompts = [prompt for _, prompt in begun.values()]
        rests = self._decode(batch.only(list(begun)), prompts, options, 0.0) if begun else []
        for (row, (tokens, _)), rest in zip(begun.items(), rests, strict=True):
            if goes_on(rest, stamp, windows[row].seconds):
                one, mean = decoded[row], mean_logprob(decoded[row], rest)
                decoded[row] = self._judged(tokens + rest.tokens, rest.ended, mean, one.no_speech_prob, 0.0)

    def _decode(
        self, encoded: Any, prompts: list[list[int]], options: RecognitionOptions, temperature: float
    ) -> list[Decoded]:
        if temperature > 0:
            search = {"beam_size": 1, "num_hypotheses": CANDIDATES, "sampling_topk": 0}
        else:
            search = {"beam_size": options.beam_size}
        room = self.model.max_length - len(prompts[0])
        limit = min(room, options.max_new_tokens or room)
        results = self.model.model.generate(
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
        return [
            self._judged(
                tuple(tokens := result.sequences_ids[0]),
                len(tokens) < limit,
                float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
                float(result.no_speech_prob),
                temperature,
            )
            for result in results
        ]

    def _judged(
        self, tokens: tuple[int, ...], ended: bool, avg_logprob: float, no_speech_prob: float, temperature: float
    ) -> Decoded:
        words = self._any_tokenizer
        ratio = float(get_compression_ratio(words.decode(tokens).strip()))
        phrases = phrases_of(tokens, words.timestamp_begin, words.eot, WINDOW_FRAMES / FRAMES_A_SECOND)
        circles = any(in_circles(words.decode(phrase.tokens)) for phrase in phrases)
        return Decoded(tokens, ended, avg_logprob, no_speech_prob, ratio, temperature, circles, len(phrases))

    def _prompt(self, language: str, options: RecognitionOptions, said: Sequence[int] = ()) -> list[int]:
        tokenizer = self._tokenizer(language, options)
        told = tokenizer.encode(" " + options.initial_prompt.strip()) if options.initial_prompt else []
        return cast(list[int], self.model.get_prompt(tokenizer, [*told, *said], hotwords=options.hotwords))

    def _words(
        self, windows: Sequence[Window], phrases: list[list[Phrase]], batch: _Batch, options: RecognitionOptions
    ) -> list[Drafts]:
        """For every window its phrases as the library's dictionaries, timed by words if wanted."""
        drafts = [drafts_of(its_phrases) for its_phrases in phrases]
        if options.word_timestamps:
            for language in dict.fromkeys(each.language for each in windows):
                rows = [row for row, each in enumerate(windows) if each.language == language and drafts[row]]
                if rows:
                    theirs, samples = [drafts[row] for row in rows], [len(windows[row].audio) for row in rows]
                    align(self.model, self._tokenizer(language, options), batch.only(rows), theirs, samples)
        return drafts

    def _segments(
        self,
        window: Window,
        one: Decoded,
        phrases: list[Phrase],
        drafts: Drafts,
        options: RecognitionOptions,
    ) -> Iterator[Segment]:
        """The segments of one window, in its time."""
        tokenizer, limit = self._tokenizer(window.language, options), window.seconds
        for phrase, draft in zip(phrases, drafts, strict=True):
            if not (text := tokenizer.decode(phrase.tokens)).strip():
                continue
            if one.compression_ratio > REPEATED:
                keep_in_phrase(draft, phrase)
            yield Segment(
                *bounded(draft["start"], draft["end"], limit),
                text=text,
                words=words_of(draft, limit),
                avg_logprob=one.avg_logprob,
                no_speech_prob=one.no_speech_prob,
                compression_ratio=one.compression_ratio,
                temperature=one.temperature,
                language=window.language,
            )

    def _tokenizer(self, language: str, options: RecognitionOptions) -> Tokenizer:
        key = language, options.task
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(
                self.model.hf_tokenizer, self.multilingual, task=options.task, language=language
            )
        return self._tokenizers[key]

    @cached_property
    def _any_tokenizer(self) -> Tokenizer:
        """For what does not depend on the language."""
        return Tokenizer(self.model.hf_tokenizer, self.multilingual, task="transcribe", language="en")

    @cached_property
    def _suppressed(self) -> tuple[int, ...]:
        return cast(tuple[int, ...], get_suppressed_tokens(self._any_tokenizer, [-1]))
