"""Makes one run of segments from the results of many chunks.

Promises: the order is that of the chunks' positions, whatever the order they arrive in. Every time lies
inside its own chunk, and none is before the one that precedes it. Nothing without text is left. Times are
in seconds from the start of the recording already, so a result that needs no correction is not changed.
Does not change the words: chunks are cut at pauses and do not overlap. Where a chunk ends inside a sentence, a full
stop that was put there and a capital that follows are taken back (`joined`). Segments that are too long to be read
become several (`cues`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from whisper_farm.errors import PositionConflict
from whisper_farm.transcript.cues import readable
from whisper_farm.transcript.transcript import Segment, Word, bounded


@dataclass(frozen=True, slots=True)
class ChunkText:
    """What was heard in one chunk `[start, end)`, in seconds from the start of the recording."""

    position: int
    start: float
    end: float
    segments: tuple[Segment, ...]
    unheard: tuple[tuple[float, float], ...] = ()
    """Stretches of speech without words."""


def stitch(chunks: Iterable[ChunkText]) -> tuple[Segment, ...]:
    """All segments of a recording, in order of time. Raises `PositionConflict` for two results of one chunk."""
    stitched: list[Segment] = []
    previous: int | None = None
    reached: dict[str | None, float] = {}
    """Where each speaker's last segment ends: two may speak at once."""
    for chunk in sorted(chunks, key=lambda chunk: chunk.position):
        if chunk.position == previous:
            raise PositionConflict(f"There are two results for the chunk at position {chunk.position}.")
        previous = chunk.position
        cues: list[Segment] = []
        for segment in chunk.segments:
            if segment.text.strip():
                earliest = max(reached.get(segment.speaker, 0.0), chunk.start)
                cues += readable(_placed(segment, earliest, max(earliest, chunk.end)))
                reached[segment.speaker] = cues[-1].end
        stitched += sorted(cues, key=lambda cue: cue.start)
    return tuple(stitched)


def joined(before: ChunkText, after: ChunkText) -> tuple[ChunkText, ChunkText]:
    """Two chunks in turn, without the marks of a sentence that ends where only the chunk does.

    A full stop before a small letter is none. A capital inside a sentence is small if the word is so elsewhere nearby.
    """
    if after.position != before.position + 1 or not before.segments or not after.segments:
        return before, after
    last, first = before.segments[-1], after.segments[0]
    if last.speaker != first.speaker:
        return before, after
    if first.text.lstrip()[:1].islower() and _STOP.search(last.text):
        last = replace(last, text=_without_stop(last.text), words=_at(last.words, -1, _without_stop))
    elif last.text.rstrip()[-1:].isalpha() and _is_small_in(first.text, [*before.segments, *after.segments]):
        first = replace(first, text=_small(first.text), words=_at(first.words, 0, _small))
    return (
        replace(before, segments=(*before.segments[:-1], last)),
        replace(after, segments=(first, *after.segments[1:])),
    )


_STOP = re.compile(r"(?<=[^\W\d_])\.(?=\s*$)")
"""A full stop after a letter, at the end."""


def _is_small_in(text: str, segments: Iterable[Segment]) -> bool:
    """Whether the text begins with a capital, and its first word is found without one."""
    word = re.match(r"\s*(\w*)", text)
    capital = word[1] if word else ""
    small = capital[:1].lower() + capital[1:]
    return small != capital and any(small in re.findall(r"\w+", one.text) for one in segments)


def _small(text: str) -> str:
    start = len(text) - len(text.lstrip())
    return text[:start] + text[start : start + 1].lower() + text[start + 1 :]


def _without_stop(text: str) -> str:
    return _STOP.sub("", text)


def _at(words: tuple[Word, ...], place: int, change: Callable[[str], str]) -> tuple[Word, ...]:
    if not words:
        return words
    changed = list(words)
    changed[place] = replace(changed[place], text=change(changed[place].text))
    return tuple(changed)


def _placed(segment: Segment, earliest: float, latest: float) -> Segment:
    """The segment with all its times in order between the two bounds, and only finite scores."""
    start = heard = bounded(segment.start, earliest, latest)
    words: list[Word] = []
    for word in segment.words:
        if word.text.strip():
            begin = bounded(word.start, heard, latest)
            heard = bounded(word.end, begin, latest)
            words.append(Word(begin, heard, word.text, _finite(word.probability)))
    return replace(
        segment,
        start=start,
        end=bounded(segment.end, heard, latest),
        words=tuple(words),
        avg_logprob=_finite(segment.avg_logprob),
        no_speech_prob=_finite(segment.no_speech_prob),
        compression_ratio=_finite(segment.compression_ratio),
        temperature=_finite(segment.temperature),
    )


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
