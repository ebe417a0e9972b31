"""What another recogniser heard, held against the speech that is there. Engines that do not do so are put in it.

Promises: a chunk without speech goes to no recogniser. Text that nobody spoke is dropped, unless it is sure of itself.
Speech without words is told. With `vad_filter` off, all of it stands as it was heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.speech import normalised, speech_probabilities, stretches_above
from whisper_farm.engines.engine import ChunkAudio, Engine, Recognition
from whisper_farm.engines.trust import LEAST_SPEECH_SECONDS, SPOKEN_SHARE, Span, overlap, without_words
from whisper_farm.engines.windows import SURE_LOGPROB
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, length_of

SPEECH, SPEECH_GOES_ON = 0.5, 0.35
"""Speech reaches the first probability and lasts while it does not fall below the second."""


class AgainstSpeech:
    """An engine whose text is held against the speech."""

    def __init__(self, engine: Engine) -> None:
        self.facts = engine.facts
        self.engine = engine

    def recognise(
        self, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> Iterator[tuple[int, Recognition]]:
        """See the contract in `engine.Engine`."""
        speech = {index: _speech(one.audio) if options.vad_filter else None for index, one in enumerate(chunks)}
        worth = [index for index, spans in speech.items() if spans is None or length_of(spans) >= LEAST_SPEECH_SECONDS]
        for index in speech.keys() - worth:
            yield index, Recognition((), chunks[index].language or "en", 1.0 if chunks[index].language else 0.0)
        asked = self.engine.recognise([chunks[index] for index in worth], options, lambda one: cancelled(worth[one]))
        for one, heard in asked:
            spans = speech[worth[one]]
            yield worth[one], heard if spans is None else _checked(heard, spans)


def _speech(audio: Waveform) -> list[Span] | None:
    """Where somebody speaks; None where that cannot be known."""
    probabilities = speech_probabilities(normalised(audio))
    if probabilities is None:
        return None
    found = stretches_above(probabilities, SPEECH, SPEECH_GOES_ON)
    return [(first / SAMPLE_RATE, last / SAMPLE_RATE) for first, last in found]


def _checked(heard: Recognition, speech: Sequence[Span]) -> Recognition:
    segments = tuple(one for one in heard.segments if _is_spoken(one, speech))
    unheard = without_words(speech, [span for one in segments for span in _covered(one)])
    return replace(heard, segments=segments, unheard=tuple(unheard))


def _covered(segment: Segment) -> list[Span]:
    """Where the words of a segment are; without any, all of it, by the second."""
    if segment.words:
        return [(word.start, word.end) for word in segment.words]
    seconds = range(math.ceil(segment.end - segment.start))
    return [(segment.start + one, min(segment.end, segment.start + one + 1)) for one in seconds]


def _is_spoken(segment: Segment, speech: Sequence[Span]) -> bool:
    length = max(segment.end - segment.start, 0.02)
    if overlap((segment.start, segment.start + length), speech) >= SPOKEN_SHARE * length:
        return True
    return segment.avg_logprob is not None and segment.avg_logprob >= SURE_LOGPROB
