"""Readable cues: a segment that is too long to be read at a glance is split between words, whatever engine wrote it.

Promises: no cue with word times is longer than `MOST_CHARACTERS` or `MOST_SECONDS`, single words apart. None goes on
over a long pause. The words and their times are the same as before, none lost and none added. A segment that is short
enough stays as it is, and so does one without word times. Breaks are made at the ends of sentences first, then of
clauses, then at pauses. A layout may ask for more: lines of so many characters or words, so many lines. They are
broken at the same places; a cue has the fewest lines it can have. Loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from whisper_farm.errors import InvalidRequest

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Segment, Word

MOST_CHARACTERS = 84
"""Two lines of 42, as subtitlers have it."""
MOST_SECONDS = 7.0
LONG_PAUSE_SECONDS = 2.0
"""No cue goes on over such a pause."""
SHORT_SHARE = 0.25
"""A cue with a smaller share of the characters it may have is only made where a sentence ends."""
WHISPERS_WIDTH = 1000
"""Of a line, where no other is asked for."""

MUCH = 100.0
"""What a line costs: no break is so bad that one more line is better."""

SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
_CLAUSE_ENDS = (",", ";", ":", "–", "—", "、", "，", "；", "：")
_PAUSE_SECONDS = 0.3
_CLOSING = "\"'”’»)]』」"

MOST_OF_LAYOUT = {"max_line_width": 1000, "max_line_count": 100, "max_words_per_line": 1000}
"""The largest value of each."""


@dataclass(frozen=True, slots=True)
class CueLayout:
    """How the cues of subtitles are laid out, where segments have word times. Names are openai/whisper's.

    A cue never grows by it: it is broken into lines, and split where it has too many of them.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    """Without a width or a count every cue is one such line."""
    highlight_words: bool = False
    """Each word underlined while it is spoken: a cue a word."""

    def __post_init__(self) -> None:
        for name, most in MOST_OF_LAYOUT.items():
            if (value := getattr(self, name)) is not None and not 1 <= value <= most:
                raise InvalidRequest(f"{name} is a whole number from 1 to {most}.")
        if self.max_line_count is not None and self.max_line_width is None and self.max_words_per_line is None:
            raise InvalidRequest("max_line_count needs max_line_width.")


PLAIN = CueLayout()
"""Nothing is asked for."""


Fits = Callable[[Sequence["Word"]], bool]


def readable(segment: Segment, layout: CueLayout = PLAIN) -> Iterator[Segment]:
    """The segment, or the cues that it is split into."""
    words = segment.spelled_words
    if not words:
        yield segment
        return
    fits = _cue_fits(layout)
    runs = list(_between_pauses(words))
    if len(runs) == 1 and fits(words):
        yield segment
        return
    for run in runs:
        for cue in [run] if fits(run) else _split(run, fits, MOST_CHARACTERS, 1.0):
            text = "".join(word.text for word in cue)
            yield replace(segment, start=cue[0].start, end=cue[-1].end, text=text, words=tuple(cue))


def lines_of(words: Sequence[Word], layout: CueLayout) -> list[Sequence[Word]]:
    """The words of a cue in as few lines as the layout allows."""
    fits = _line_fits(layout)
    if fits(words):
        return [words]
    return _split(words, fits, layout.max_line_width or WHISPERS_WIDTH, MUCH)


def _line_fits(layout: CueLayout) -> Fits:
    width, most = layout.max_line_width or WHISPERS_WIDTH, layout.max_words_per_line
    return lambda words: _length(words) <= width and (most is None or len(words) <= most)


def _cue_fits(layout: CueLayout) -> Fits:
    most_lines, line_fits = layout.max_line_count, _line_fits(layout)
    if layout.max_line_width is None and most_lines is None:
        most_lines = 1

    def fits(words: Sequence[Word]) -> bool:
        if _length(words) > MOST_CHARACTERS or words[-1].end - words[0].start > MOST_SECONDS:
            return False
        return most_lines is None or line_fits(words) or _count(words, line_fits) <= most_lines

    return fits


def _count(words: Sequence[Word], fits: Fits) -> int:
    count = begin = 0
    for end in range(1, len(words) + 1):
        if end == len(words) or not fits(words[begin : end + 1]):
            count, begin = count + 1, end
    return count


def _length(words: Sequence[Word]) -> int:
    return len("".join(word.text for word in words).strip())


def _between_pauses(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    begin = 0
    for at in range(1, len(words)):
        if words[at].start - words[at - 1].end >= LONG_PAUSE_SECONDS:
            yield words[begin:at]
            begin = at
    yield words[begin:]


def _split(words: Sequence[Word], fits: Fits, characters: int, piece: float) -> list[Sequence[Word]]:
    """The cheapest way to break the words into pieces that fit: by the cost of each piece and of the break after it."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(words) + 1):
        choices = []
        for begin in range(end - 1, -1, -1):
            cue = words[begin:end]
            if end - begin > 1 and not fits(cue):
                break
            following = words[end] if end < len(words) else None
            choices.append((best[begin][0] + piece + _cost(cue, following, characters), begin))
        best.append(min(choices, key=lambda choice: (round(choice[0], 6), -choice[1])))
    cues: list[Sequence[Word]] = []
    end = len(words)
    while end:
        begin = best[end][1]
        cues.append(words[begin:end])
        end = begin
    return cues[::-1]


def _cost(cue: Sequence[Word], following: Word | None, most: int) -> float:
    """What a piece costs beside what each costs: a little for its length, so that all are alike, and a bad break."""
    characters = _length(cue)
    length = 0.5 * (characters / most) ** 2
    last = cue[-1].text.rstrip().rstrip(_CLOSING)
    if following is None or last.endswith(SENTENCE_ENDS):
        return length
    clause = last.endswith(_CLAUSE_ENDS) or following.start - cue[-1].end >= _PAUSE_SECONDS
    return length + (0.3 if clause else 1.0) + (1.0 if characters < SHORT_SHARE * most else 0.0)
