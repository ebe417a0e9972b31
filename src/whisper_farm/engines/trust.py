"""Speech and text held against each other: which speech has no words, and which words nobody spoke.

Pure. Speech is what the speech model hears; all thresholds stand here. Times are seconds.

They were chosen on half of the recordings in `docs/QUALITY.md` and hold on the others. Every invented segment that was
seen has a share of speech near 0, and real ones have 0.28 and more; text that is sure of itself stays all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from whisper_farm.engines.windows import REPEATED, Decoded
from whisper_farm.transcript.transcript import Segment

Span = tuple[float, float]
_WORD = re.compile(r"\w+")

LEAST_SPEECH_SECONDS = 0.25
"""A chunk with less speech goes to no recogniser."""
LONGEST_WORD_SECONDS = 1.0
"""A word counts as so much speech at most: times of words are stretched over what was not understood."""
NEAR_WORD_SECONDS = 0.25
"""Speech so near to a word is that word."""
SLACK_SECONDS = 0.1
"""Edges of speech are known no better than this."""
PAUSE_SECONDS = 0.5
"""Nobody pauses so long inside a word."""
LATE_SECONDS = 0.5
"""A first word that is told to begin so much after the onset of speech, or less, begins at the onset."""
UNHEARD_SECONDS = 1.0
"""So much speech without words is heard again."""
PART_SECONDS = 8.0
"""Speech that got no words as a whole is heard again in parts of about this length."""
SPOKEN_SHARE = 0.1
"""Text with a smaller share of speech under it was spoken by nobody, unless it is sure of itself."""
SURE_NO_SPEECH = 0.6
IMPROBABLE = 0.72
"""Segments whose words have a smaller mean probability may be of another language."""
LEAST_FOREIGN_SECONDS = 1.5
"""Less than this is not heard again: a language is not known from a word."""


def overlap(span: Span, spans: Iterable[Span]) -> float:
    """How many seconds of a span lie in others, which do not overlap each other."""
    return sum(max(0.0, min(span[1], end) - max(span[0], start)) for start, end in spans)


def without_words(speech: Sequence[Span], words: Iterable[Span]) -> list[Span]:
    """The stretches of speech that hold at least `UNHEARD_SECONDS` of it and no word."""
    covered = sorted(
        (start - NEAR_WORD_SECONDS, min(end, start + LONGEST_WORD_SECONDS) + NEAR_WORD_SECONDS) for start, end in words
    )
    holes: list[Span] = []
    for start, end in _between(covered):
        inside = [(max(start, one), min(end, other)) for one, other in speech if max(start, one) < min(end, other)]
        if sum(other - one for one, other in inside) >= UNHEARD_SECONDS:
            holes.append((inside[0][0], inside[-1][1]))
    return holes


def in_parts(span: Span, speech: Sequence[Span]) -> list[Span]:
    """A span as parts that are cut in pauses of the speech in it."""
    parts: list[Span] = []
    for start, end in speech:
        start, end = max(start, span[0]), min(end, span[1])
        if start < end and parts and end - parts[-1][0] <= PART_SECONDS:
            parts[-1] = parts[-1][0], end
        elif start < end:
            parts.append((start, end))
    return parts


def where_spoken(span: Span, speech: Sequence[Span]) -> Span:
    """The times of a word without the silence that they were stretched over; a word outside all speech keeps them.

    Of a word that is stretched over a pause, the side counts on which it is spoken longest.
    """
    start, end = span
    inside = [(max(start, one), min(end, other)) for one, other in speech if max(start, one) < min(end, other)]
    if not inside:
        return span
    most = max(inside, key=lambda one: one[1] - one[0])
    near = [one for one in inside if overlap(one, [(most[0] - PAUSE_SECONDS, most[1] + PAUSE_SECONDS)])]
    first, last = near[0][0], near[-1][1]
    return (
        first - SLACK_SECONDS if first - start > SLACK_SECONDS else start,
        last + SLACK_SECONDS if end - last > SLACK_SECONDS else end,
    )


def at_onset(start: float, earlier: float, speech: Sequence[Span]) -> float:
    """Where a word begins: at the onset of its stretch of speech, if that is near and all else ended `earlier`."""
    for onset, end in speech:
        if onset <= start <= end and earlier <= onset + SLACK_SECONDS and start - onset <= LATE_SECONDS:
            return onset
    return start


def echoes(text: str, told: str | None) -> bool:
    """Whether a text only repeats what the model was told before."""
    said = " ".join(_WORD.findall(text.casefold()))
    return bool(said and told) and f" {said} " in f" {' '.join(_WORD.findall((told or '').casefold()))} "


def nobody_speaks(span: Span, speech: Sequence[Span], decoded: Decoded, echo: bool = False) -> bool:
    """Whether a text has no speech under it, and is not sure of itself or repeats itself or what the model was told."""
    length = max(span[1] - span[0], 0.02)
    if overlap((span[0], span[0] + length), speech) >= SPOKEN_SHARE * length:
        return False
    doubtful = decoded.no_speech_prob > SURE_NO_SPEECH or decoded.compression_ratio > REPEATED
    return echo or doubtful or not decoded.sure


def improbable(segments: Sequence[Segment]) -> list[tuple[Segment, ...]]:
    """Neighbours whose words are improbable, each worth hearing again."""
    runs: list[list[Segment]] = [[]]
    for segment in sorted(segments, key=lambda one: one.start):
        if segment.words and _probability([segment]) < IMPROBABLE:
            runs[-1].append(segment)
        elif runs[-1]:
            runs.append([])
    return [tuple(run) for run in runs if run and run[-1].end - run[0].start >= LEAST_FOREIGN_SECONDS]


def speaks_another(new: Sequence[Segment], before: Sequence[Segment]) -> bool:
    """Whether a text in another language is the more probable one."""
    languages = {one.language for one in new}, {one.language for one in before}
    return bool(new) and languages[0].isdisjoint(languages[1]) and _probability(new) > _probability(before)


def _probability(segments: Sequence[Segment]) -> float:
    words = [word.probability or 0.0 for one in segments for word in one.words]
    return sum(words) / len(words) if words else 0.0


def _between(covered: list[Span]) -> Iterable[Span]:
    reached = float("-inf")
    for start, end in covered:
        if start > reached:
            yield reached, start
        reached = max(reached, end)
    yield reached, float("inf")
