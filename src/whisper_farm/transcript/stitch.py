"""Makes one run of segments from the results of many chunks.

Promises: the order is that of the chunks' positions, whatever the order they arrive in; every time lies
inside its own chunk and none is before the one that precedes it; nothing without text is left. Times are
in seconds from the start of the recording already, so a result that needs no correction is not changed.
Does not change the words: chunks are cut at pauses and do not overlap. Segments that are too long to be read become
several (`cues`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from whisper_farm.errors import PositionConflict
from whisper_farm.transcript.cues import readable
from whisper_farm.transcript.transcript import Segment, Word


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


def _placed(segment: Segment, earliest: float, latest: float) -> Segment:
    """The segment with all its times in order between the two bounds, and only finite scores."""
    start = heard = _within(segment.start, earliest, latest)
    words: list[Word] = []
    for word in segment.words:
        if word.text.strip():
            begin = _within(word.start, heard, latest)
            heard = _within(word.end, begin, latest)
            words.append(Word(begin, heard, word.text, _finite(word.probability)))
    return replace(
        segment,
        start=start,
        end=_within(segment.end, heard, latest),
        words=tuple(words),
        avg_logprob=_finite(segment.avg_logprob),
        no_speech_prob=_finite(segment.no_speech_prob),
        compression_ratio=_finite(segment.compression_ratio),
        temperature=_finite(segment.temperature),
    )


def _within(time: float, earliest: float, latest: float) -> float:
    # In this order of arguments a time that is not a number becomes the earliest.
    return max(earliest, min(time, latest))


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
