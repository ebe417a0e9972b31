"""Readable cues: a segment that is too long to be read at a glance is split between words, whatever engine wrote it.

Promises: no cue with word times is longer than `MOST_CHARACTERS` or `MOST_SECONDS`, single words apart; none goes on
over a long pause; the words and their times are the same as before, none lost and none added. A segment that is short
enough stays as it is, and so does one without word times. Breaks are made at the ends of sentences first, then of
clauses, then at pauses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from whisper_farm.transcript.transcript import Segment, Word

MOST_CHARACTERS = 84
"""Two lines of 42, as subtitlers have it."""
MOST_SECONDS = 7.0
LONG_PAUSE_SECONDS = 2.0
"""No cue goes on over such a pause."""
SHORT_CHARACTERS = 20
"""A shorter cue is only made where a sentence ends."""

_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
_CLAUSE_ENDS = (",", ";", ":", "–", "—", "、", "，", "；", "：")
_PAUSE_SECONDS = 0.3
_CLOSING = "\"'”’»)]』」"


def readable(segment: Segment) -> Iterator[Segment]:
    """The segment, or the cues that it is split into."""
    words = segment.words
    if not words or "".join(word.text for word in words).strip() != segment.text.strip():
        yield segment
        return
    runs = list(_between_pauses(words))
    if len(runs) == 1 and _fits(words):
        yield segment
        return
    for run in runs:
        for cue in [run] if _fits(run) else _split(run):
            text = "".join(word.text for word in cue)
            yield replace(segment, start=cue[0].start, end=cue[-1].end, text=text, words=tuple(cue))


def _between_pauses(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The runs of words with no long pause in them."""
    begin = 0
    for at in range(1, len(words)):
        if words[at].start - words[at - 1].end >= LONG_PAUSE_SECONDS:
            yield words[begin:at]
            begin = at
    yield words[begin:]


def _split(words: Sequence[Word]) -> list[Sequence[Word]]:
    """The cheapest way to break the words into cues that fit: by the cost of each cue and of the break after it."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(words) + 1):
        choices = []
        for begin in range(end - 1, -1, -1):
            cue = words[begin:end]
            if end - begin > 1 and not _fits(cue):
                break
            choices.append((best[begin][0] + _cost(cue, words[end] if end < len(words) else None), begin))
        best.append(min(choices))
    cues: list[Sequence[Word]] = []
    end = len(words)
    while end:
        begin = best[end][1]
        cues.append(words[begin:end])
        end = begin
    return cues[::-1]


def _fits(words: Sequence[Word]) -> bool:
    return (
        len("".join(word.text for word in words).strip()) <= MOST_CHARACTERS
        and words[-1].end - words[0].start <= MOST_SECONDS
    )


def _cost(cue: Sequence[Word], following: Word | None) -> float:
    """What a cue costs: one, a little for its length so that cues are alike, and more for a bad break after it."""
    characters = len("".join(word.text for word in cue).strip())
    length = 1.0 + 0.5 * (characters / MOST_CHARACTERS) ** 2
    last = cue[-1].text.rstrip().rstrip(_CLOSING)
    if following is None or last.endswith(_SENTENCE_ENDS):
        return length
    clause = last.endswith(_CLAUSE_ENDS) or following.start - cue[-1].end >= _PAUSE_SECONDS
    return length + (0.3 if clause else 1.0) + (1.0 if characters < SHORT_CHARACTERS else 0.0)
