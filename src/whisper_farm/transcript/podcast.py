"""Transcripts as the Podcasting 2.0 namespace wants them: its JSON, and cues of short lines.

Promises: no line is longer than its width, no cue has more lines than it may, and cues follow each other in time. No
word is lost; one that is longer than a line goes on in the next. Speakers are named where they are known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from whisper_farm.transcript.cues import readable

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Segment, Transcript

SRT_WIDTH, SRT_LINES = 32, 2
VTT_WIDTH, VTT_LINES = 65, 1

Line = tuple[float, float, str]
"""Start, end and text."""


def short_cues(segment: Segment, width: int, lines: int, before: str = "") -> Iterator[Line]:
    """The cues of a segment; `before` is said before the first word. Their lines are divided by line breaks."""
    for number, cue in enumerate(readable(segment)):
        made = list(_lines(cue, width, before if number == 0 else ""))
        for first in range(0, len(made), lines):
            group = made[first : first + lines]
            yield group[0][0], max(group[0][0], group[-1][1]), "\n".join(text for _, _, text in group)


def podcast_json(transcript: Transcript) -> str:
    """Version 1.0.0: a phrase each, with its speaker."""
    segments = []
    for one in transcript.segments:
        spoken: dict[str, object] = {} if one.speaker is None else {"speaker": one.speaker}
        spoken |= {"startTime": round(one.start, 3), "endTime": round(one.end, 3), "body": one.text.strip()}
        segments.append(spoken)
    return json.dumps({"version": "1.0.0", "segments": segments})


def _lines(segment: Segment, width: int, before: str) -> Iterator[Line]:
    start, end, text = segment.start, segment.start, before
    for word_start, word_end, word in _words(segment):
        if text and len((text + word).strip()) > width:
            yield start, end, text.strip()
            text = ""
        if not text.strip() or text == before:
            start = word_start
        text += word.lstrip() if text in ("", before) else word
        end = word_end
        while len(text.strip()) > width:
            yield start, end, text.strip()[:width].rstrip()
            text = text.strip()[width:]
            start = word_start
    if text.strip():
        yield start, end, text.strip()


def _words(segment: Segment) -> Iterator[Line]:
    """Words with their times; those of a segment without any share its time by their letters."""
    if words := segment.spelled_words:
        for word in words:
            yield word.start, word.end, " " * word.text[:1].isspace() + " ".join(word.text.split())
        return
    parts, at = segment.text.split(), segment.start
    pace = (segment.end - segment.start) / max(1, sum(map(len, parts)))
    for part in parts:
        yield at, at + pace * len(part), f" {part}"
        at += pace * len(part)
