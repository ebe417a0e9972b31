"""Whisper's recogniser: a chunk becomes windows full of speech, and what was heard is held against the speech in it.

What nobody speaks in is taken out before, and a chunk without speech goes to no model. Speech that got no words is
heard again: with the segments around it, which the new text replaces if it leaves less without words, then alone.
A chunk that got no words is heard in parts: a sentence that is said many times running looks like a text in circles.
Words that are improbable one after the other may be of another language than the rest of the window: they are heard
again by themselves, and replaced if another language is surely spoken and its words are more probable.
Words that nobody spoke are dropped; what is left over without words is named.
With `vad_filter` off, none of this is done: every window is heard as it is, and what the model writes stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import ctranslate2
import faster_whisper
from faster_whisper.transcribe import WhisperModel

from whisper_farm.audio.packing import Packing, packing_of
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.speech import normalised, speech_probabilities, stretches_above
from whisper_farm.engines.decoding import WINDOW_SAMPLES, Window, WindowDecoder, WindowText
from whisper_farm.engines.devices import device_for, usable_cores
from whisper_farm.engines.engine import ChunkAudio, EngineFacts, EngineSettings, Progress, Recognition
from whisper_farm.engines.hub import find_model
from whisper_farm.engines.trust import (
    LEAST_SPEECH_SECONDS,
    Span,
    at_onset,
    echoes,
    improbable,
    in_parts,
    nobody_speaks,
    overlap,
    speaks_another,
    where_spoken,
    without_words,
)
from whisper_farm.errors import EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.models import can_translate, cannot_translate
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word, length_of

VERSION = f"{faster_whisper.__version__}+ctranslate2-{ctranslate2.__version__}"
SPEECH, SPEECH_GOES_ON = 0.5, 0.35
"""Speech reaches the first probability and lasts while it does not fall below the second."""
LEAD_SECONDS = 0.2
"""Speech that is heard again is heard from so much earlier on."""
MOST_ROUNDS = 4
"""What was heard in part is heard again as long as that helps, but not more often."""
WIDEST_TRIAL = 0.7
"""A larger share of a window is not decoded again as a whole: it would give the same text."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """A stretch that is heard again, and the segments that its new text would replace."""

    span: Span
    before: tuple[Segment, ...]
    foreign: bool = False
    """Whether it is heard again because it may be of another language."""


@dataclass(slots=True, eq=False)
class _Hearing:
    """How far the recognition of one chunk is. All times and samples are those of the packed sound."""

    index: int
    audio: Waveform
    packing: Packing
    speech: list[Span] | None
    """Where somebody speaks; None where that is not asked."""
    language: str
    told: tuple[str | None, ...]
    """What the model is told before."""
    expected_language: str = ""
    language_probability: float = 1.0
    language_sure: bool = False
    language_given: bool = False
    spans: list[tuple[int, int]] = field(default_factory=list)
    """What is still to be heard, as samples."""
    segments: list[Segment] = field(default_factory=list)
    rounds: int = 0
    """How often everything that was to be heard was heard."""
    trials: list[_Trial] = field(default_factory=list)
    """What is heard again now."""
    fresh: list[Segment] = field(default_factory=list)
    """What was heard in this round."""

    def window(self, cancelled: Callable[[int], bool]) -> Window:
        """The next window."""
        begin, end = self.spans[0]
        stop = min(end, begin + WINDOW_SAMPLES)
        index, anew = self.index, bool(self.rounds) and not self.language_given
        window = Window(self.audio[begin:stop], "" if anew else self.language, stop >= end, lambda: cancelled(index))
        window.expected = self.language if anew else self.expected_language
        window.language_probability, window.language_sure = self.language_probability, self.language_sure
        return window

    def take(self, window: Window, text: WindowText) -> None:
        """Keep what was heard in the next window, and go on behind it."""
        begin, end = self.spans.pop(0)
        if not self.rounds:
            self.language, self.language_probability = window.language, window.language_probability
            self.language_sure = window.language_sure
        for segment in text.segments:
            placed = segment.shifted(begin / SAMPLE_RATE)
            echo = any(echoes(placed.text, told) for told in self.told)
            if self.speech is None or not nobody_speaks((placed.start, placed.end), self.speech, text.decoded, echo):
                self.fresh.append(self._where_spoken(placed))
        if text.next_seconds is not None:
            begin += round(text.next_seconds * SAMPLE_RATE)
            if begin < end:
                self.spans.insert(0, (begin, end))
        if not self.spans:
            self._end_round()

    def unheard(self, segments: Sequence[Segment]) -> list[Span]:
        """Speech that has no words in these segments."""
        if self.speech is None:
            return []
        spoken = [(word.start, word.end) for segment in segments for word in segment.words or (segment,)]
        return without_words(self.speech, spoken)

    @property
    def recognition(self) -> Recognition:
        """What was heard, in the chunk's time."""
        segments = sorted(self.segments, key=lambda segment: segment.start)
        return Recognition(
            segments=tuple(_unpacked(segment, self.packing) for segment in segments),
            language=self.language,
            language_probability=self.language_probability,
            language_sure=self.language_sure,
            unheard=tuple(_span_unpacked(span, self.packing) for span in self.unheard(self.segments)),
        )

    def _where_spoken(self, segment: Segment) -> Segment:
        """A segment whose words begin and end where somebody speaks."""
        if self.speech is None or not segment.words:
            return segment
        words: list[Word] = []
        for word in segment.words:
            start, end = where_spoken((word.start, word.end), self.speech)
            earlier = words[-1].end if words else self.fresh[-1].end if self.fresh else 0.0
            words.append(replace(word, start=at_onset(start, earlier, self.speech), end=end))
        return replace(segment, start=words[0].start, end=words[-1].end, words=tuple(words))

    def _end_round(self) -> None:
        """Keep what was heard; what replaces other text only if less speech is without words then."""
        if not self.rounds:
            self.segments = self.fresh
        unfinished: list[Span] = []
        for trial in self.trials:
            others = [segment for segment in self.segments if segment not in trial.before]
            begin, end = trial.span
            new = [one for one in self.fresh if begin <= (one.start + one.end) / 2 <= end]
            better = others + new
            if trial.foreign:
                self.segments = better if speaks_another(new, trial.before) else self.segments
                continue
            helps = length_of(self.unheard(better)) < length_of(self.unheard(self.segments))
            self.segments = better if helps else self.segments
            if helps or trial.before:
                unfinished.append(trial.span)
        self.fresh, self.trials = [], []
        self.rounds += 1
        holes = self.unheard(self.segments)
        if self.rounds == 1:
            self._try_again(holes)
            self._try_other_languages()
        elif self.rounds < MOST_ROUNDS:
            self.trials = [_Trial(hole, ()) for hole in holes if overlap(hole, unfinished)]
        whole, lead = len(self.audio), LEAD_SECONDS
        for start, end in (trial.span for trial in self.trials):
            self.spans.append(
                (max(0, round((start - lead) * SAMPLE_RATE)), min(whole, round((end + lead) * SAMPLE_RATE)))
            )

    def _try_again(self, holes: Sequence[Span]) -> None:
        """Speech without words is to be heard with the segments around it; where that is too long, alone.

        Where nothing at all got words, it is heard in parts: as a whole it would give the same text.
        """
        longest = WIDEST_TRIAL * min(len(self.audio), WINDOW_SAMPLES) / SAMPLE_RATE
        for span, before in self._around(holes):
            if span[1] - span[0] <= longest:
                self.trials.append(_Trial(span, before))
            else:
                alone = [hole for hole in holes if overlap(hole, [span])]
                parts = alone if self.segments else in_parts(span, self.speech or ())
                self.trials += [_Trial(part, ()) for part in parts]

    def _try_other_languages(self) -> None:
        """Segments of improbable words are to be heard again by themselves, unless the language was given."""
        tried = {segment for trial in self.trials for segment in trial.before}
        known = [segment for segment in self.segments if segment not in tried]
        for before in () if self.language_given else improbable(known):
            self.trials.append(_Trial((before[0].start, before[-1].end), before, foreign=True))

    def _around(self, holes: Sequence[Span]) -> list[tuple[Span, tuple[Segment, ...]]]:
        """The holes with the segments that reach into them; holes in one segment are one stretch."""
        stretches: list[tuple[Span, tuple[Segment, ...]]] = []
        for hole in holes:
            inside = tuple(one for one in self.segments if overlap(hole, [(one.start, one.end)]))
            span = min([hole[0], *(one.start for one in inside)]), max([hole[1], *(one.end for one in inside)])
            if stretches and overlap(span, [stretches[-1][0]]):
                before_span, before = stretches.pop()
                span = min(span[0], before_span[0]), max(span[1], before_span[1])
                inside = tuple(dict.fromkeys([*before, *inside]))
            stretches.append((span, inside))
        return stretches


class WhisperEngine:
    """A loaded Whisper model. `recognise` may be called from as many threads as it has slots."""

    def __init__(self, decoder: WindowDecoder, facts: EngineFacts) -> None:
        self.facts = facts
        self._decoder = decoder

    def recognise(
        self,
        chunks: Sequence[ChunkAudio],
        options: RecognitionOptions,
        cancelled: Callable[[int], bool],
    ) -> Iterator[tuple[int, Recognition]]:
        """All chunks as one batch, window by window; see the contract in `engine.Engine`."""
        self._refuse_what_it_cannot(chunks, options)
        hearings = [self._hearing(index, chunk, options) for index, chunk in enumerate(chunks)]
        while hearings := [each for each in hearings if not cancelled(each.index)]:
            for each in hearings:
                if not each.spans:
                    yield each.index, each.recognition
            hearings = [each for each in hearings if each.spans and not cancelled(each.index)]
            if hearings:
                windows = [each.window(cancelled) for each in hearings]
                texts = self._decoder.hear(windows, options)
                for each, window, text in zip(hearings, windows, texts, strict=True):
                    each.take(window, text)

    def _hearing(self, index: int, chunk: ChunkAudio, options: RecognitionOptions) -> _Hearing:
        """A chunk that is packed and ready to be heard; one that holds next to no speech has nothing to be heard."""
        language = chunk.language or options.language or ("" if self._decoder.multilingual else "en")
        told = options.initial_prompt, options.hotwords
        audio = normalised(chunk.audio)  # the model, too, understands quiet speech better when it is louder
        probabilities = speech_probabilities(audio) if options.vad_filter else None
        if probabilities is None:
            whole = Packing(((0, len(chunk.audio)),) if len(chunk.audio) and chunk.audio.any() else ())
            hearing = _Hearing(index, chunk.audio, whole, None, language, told)
        else:
            packing = packing_of(probabilities, len(chunk.audio))
            packed = (packing.packed(*stretch) for stretch in stretches_above(probabilities, SPEECH, SPEECH_GOES_ON))
            speech = [(span[0] / SAMPLE_RATE, span[1] / SAMPLE_RATE) for span in packed if span]
            if sum(end - start for start, end in speech) < LEAST_SPEECH_SECONDS:
                packing = Packing(())
            hearing = _Hearing(index, packing.pack(audio), packing, speech, language, told)
        hearing.expected_language, hearing.language_given = chunk.expected_language or "", bool(language)
        if hearing.packing.length:
            hearing.spans.append((0, hearing.packing.length))
        elif not language:
            hearing.language, hearing.language_probability = "en", 0.0
        return hearing

    def _refuse_what_it_cannot(self, chunks: Sequence[ChunkAudio], options: RecognitionOptions) -> None:
        if options.task == "translate" and not (self._decoder.multilingual and can_translate(self.facts.model)):
            raise cannot_translate(self.facts.model)
        for language in {options.language, *(chunk.language for chunk in chunks)}:
            if language is not None and not self._decoder.knows(language):
                raise OptionUnsupported(f"The model {self.facts.model} does not know the language {language!r}.")


def load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> WhisperEngine:
    """Load the model that `options` name on the device that `settings` name; fetch it first where it is missing."""
    device = device_for(settings.device)
    found = find_model(options.model, settings, progress, options.revision)
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
        known = ", ".join(sorted(ctranslate2.get_supported_compute_types(device)))
        raise EngineUnavailable(
            f"faster-whisper cannot use {device} with {compute_type} here ({problem}); it can with {known}."
        ) from problem
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
    return WhisperEngine(WindowDecoder(model), facts)


def _unpacked(segment: Segment, packing: Packing) -> Segment:
    """A segment in the chunk's time."""
    words = []
    for word in segment.words:
        start, end = packing.unpacked(word.start, word.end)
        words.append(replace(word, start=start, end=end))
    start, end = (words[0].start, words[-1].end) if words else _span_unpacked((segment.start, segment.end), packing)
    return replace(segment, start=start, end=max(start, end), words=tuple(words))


def _span_unpacked(span: Span, packing: Packing) -> Span:
    """A span that may reach over seams: each end is taken on its inner side."""
    inner = min(0.02, (span[1] - span[0]) / 2)
    return packing.unpacked(span[0], span[0] + inner)[0], packing.unpacked(span[1] - inner, span[1])[1]
