"""Edits: what people change in a transcript, as a layer over the machine's output that is anchored in time.

An `Edit` is one entry of a numbered log. Its patches say what lies in a stretch of time from now on. Or it names a
speaker anew. Or it reverses earlier entries, which then do not count. The current text is the machine's text with the
entries that count laid over it in order (`laid`). So undo is exact, and a machine's text that changed does no harm.

Promises: words outside every patch are there exactly once, as the machine heard them. Segments stay in order of time,
and those that were apart from each other stay so. A segment that a patch cuts is parted between its words. Knows no
storage.
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from whisper_farm.transcript.fitting import fitted
from whisper_farm.transcript.transcript import Segment, Word, bounded, text_of

LOOK_BACK = 50
"""So many segments before a stretch may go over its beginning, where several people speak at once."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What lies in `[start, end)` becomes these segments; None puts back the machine's."""

    start: float
    end: float
    segments: tuple[Segment, ...] | None
    speakers: tuple[str | None, ...] | None = None
    """Only what they say: two may speak at once. None means everybody."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Every segment of this speaker gets another name; None means nobody."""

    speaker: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of the log."""

    number: int
    author: str
    patches: tuple[Patch, ...] = ()
    rename: Rename | None = None
    reverses: tuple[int, ...] = ()
    """Entries that do not count while this one does."""


@dataclass(frozen=True, slots=True)
class Splice:
    """A difference of two texts: from the segment `at` on, `removed` segments of the old one became these."""

    at: int
    removed: int
    segments: tuple[Segment, ...]


def counting(edits: Sequence[Edit]) -> list[Edit]:
    """The entries that are not reversed, in order."""
    reversed_ones: set[int] = set()
    found: list[Edit] = []
    for edit in reversed(edits):
        if edit.number not in reversed_ones:
            reversed_ones.update(edit.reverses)
            found.append(edit)
    return found[::-1]


def laid(
    machine: Sequence[Segment], edits: Sequence[Edit], start: float = -math.inf, end: float = math.inf
) -> list[Segment]:
    """The text with these edits. `machine` may be only what lies in `[start, end)`; then so is what comes out."""
    text = list(machine)
    for edit in counting(edits):
        text = _added(text, machine, edit, start, end)
    return text


def added(text: Sequence[Segment], machine: Sequence[Segment], edit: Edit) -> list[Segment]:
    """A text with one more entry, which must not reverse others; see `laid`."""
    return _added(list(text), machine, edit, -math.inf, math.inf)


def _added(text: list[Segment], machine: Sequence[Segment], edit: Edit, start: float, end: float) -> list[Segment]:
    for patch in edit.patches:
        if patch.segments is None:
            _lay(text, patch, within(machine, patch.start, patch.end, patch.speakers))
        else:
            _lay(text, patch, patch.segments if start <= patch.start < end else ())
    return renamed(text, [edit]) if edit.rename is not None else text


def renamed(segments: Iterable[Segment], edits: Iterable[Edit]) -> list[Segment]:
    """The segments with the speakers as these entries name them."""
    found = list(segments)
    for edit in edits:
        if (rename := edit.rename) is not None:
            found = [replace(one, speaker=rename.name) if one.speaker == rename.speaker else one for one in found]
    return found


def within(
    text: Sequence[Segment], start: float, end: float, speakers: Sequence[str | None] | None = None
) -> list[Segment]:
    """What these speakers say in `[start, end)`; of segments that go over its bounds, the words that have their middle
    in it."""
    said = [one for one in text[_touched(text, start, end)] if speakers is None or one.speaker in speakers]
    return [part for segment in said if (part := _parted(segment, start, end)[1]) is not None]


def _lay(text: list[Segment], patch: Patch, new: Sequence[Segment]) -> None:
    touched = _touched(text, patch.start, patch.end)
    before: list[Segment] = []
    after: list[Segment] = []
    for segment in text[touched]:
        if patch.speakers is not None and segment.speaker not in patch.speakers:
            before.append(segment)
            continue
        left, _, right = _parted(segment, patch.start, patch.end)
        before += [left] if left is not None else []
        after += [right] if right is not None else []
    text[touched] = [*before, *new, *after]
    until = touched.start + len(before) + len(after) + len(new) + 1
    if any(two.start < one.start for one, two in itertools.pairwise(text[touched.start : until])):
        text.sort(key=lambda segment: segment.start)


def _touched(text: Sequence[Segment], start: float, end: float) -> slice:
    """The segments that lie in a stretch, or go over its bounds."""
    first = bisect_left(text, start, key=lambda segment: segment.start)
    last = max(first, bisect_left(text, end, lo=first, key=lambda segment: segment.start))
    for index in range(first - 1, max(-1, first - 1 - LOOK_BACK), -1):
        if text[index].end > start:
            first = index
    return slice(first, last)


def _parted(segment: Segment, start: float, end: float) -> tuple[Segment | None, Segment | None, Segment | None]:
    """What of a segment is before a stretch, in it and after it. Without times of words it is not parted."""
    if start <= segment.start and segment.end <= end:
        return None, segment, None
    if segment.end <= start:
        return segment, None, None
    words = segment.spelled_words
    if not words:
        middle = segment.middle
        if middle < start:
            return replace(segment, end=min(segment.end, start)), None, None
        if middle >= end:
            return None, None, replace(segment, start=max(segment.start, end))
        return None, replace(segment, start=max(segment.start, start), end=min(segment.end, end)), None
    before = [word for word in words if word.middle < start]
    after = [word for word in words if word.middle >= end]
    inside = words[len(before) : len(words) - len(after)]
    return (
        _part(segment, before, segment.start, start),
        _part(segment, inside, max(start, segment.start), min(end, segment.end)),
        _part(segment, after, end, segment.end),
    )


def _part(segment: Segment, words: Sequence[Word], earliest: float, latest: float) -> Segment | None:
    if not words:
        return None
    kept = tuple(
        replace(w, start=bounded(w.start, earliest, latest), end=bounded(w.end, earliest, latest)) for w in words
    )
    begin = segment.start if words[0] is segment.words[0] else kept[0].start
    finish = segment.end if words[-1] is segment.words[-1] else kept[-1].end
    begin, finish = bounded(begin, earliest, latest), bounded(finish, earliest, latest)
    return replace(segment, start=begin, end=finish, text=text_of(words), words=kept)


def difference(old: Sequence[Segment], new: Sequence[Segment]) -> list[Splice]:
    """What makes the new text of the old one, in order; places are those of the old one."""
    found: list[Splice] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = i, j
        while (i < len(old) or j < len(new)) and not _same(old, i, new, j):
            if j == len(new) or (i < len(old) and old[i].start <= new[j].start):
                i += 1
            else:
                j += 1
        if (a, b) != (i, j):
            found.append(Splice(a, i - a, tuple(new[b:j])))
        while _same(old, i, new, j):
            i, j = i + 1, j + 1
    return found


def _same(old: Sequence[Segment], i: int, new: Sequence[Segment], j: int) -> bool:
    return i < len(old) and j < len(new) and (old[i] is new[j] or old[i] == new[j])


def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(re.escape(wanted), re.IGNORECASE)


def stands(wanted: str, text: str) -> int:
    """How often a text stands in another, whatever its capitals."""
    return sum(1 for _ in _pattern(wanted).finditer(text))


def replaced(text: Sequence[Segment], wanted: str, by: str) -> list[Patch]:
    """A patch for each segment in which a text stands, whatever its capitals; what is struck out is left alone."""
    pattern = _pattern(wanted)
    found: list[Patch] = []
    index = 0
    while index < len(text):
        first, index = index, _apart_until(text, index)
        had = text[first:index]
        if any(pattern.search(segment.text.strip()) for segment in had if not segment.struck):
            changed = [
                one if one.struck else replace(one, text=pattern.sub(lambda _: by, one.text.strip())) for one in had
            ]
            new = fitted([replace(one, words=()) for one in changed if one.text.strip()], had)
            start, end = had[0].start, max(one.end for one in had)
            speakers = tuple({one.speaker for one in had})
            alone = all(one.speaker in speakers for one in text[_touched(text, start, end)])
            found.append(Patch(start, end, new, None if alone else speakers))
    return found


def adoption(
    now: Sequence[Segment], adopted: Sequence[Segment], start: float, end: float, kept: Sequence[Edit] = ()
) -> list[Patch]:
    """What puts other segments into a stretch, each with the speaker of who spoke in its middle.

    What people have written in the entries `kept` stays as it is.
    """
    written = [(one.start, one.end) for edit in counting(kept) for one in edit.patches if one.segments is not None]
    found: list[Patch] = []
    for until, after in [*sorted(written), (end, end)]:
        if start < min(until, end):
            new = within(adopted, start, min(until, end))
            found.append(Patch(start, min(until, end), tuple(_spoken_by(segment, now) for segment in new)))
        start = max(start, after)
    return found


def _spoken_by(segment: Segment, now: Sequence[Segment]) -> Segment:
    middle = segment.middle
    there = next((one.speaker for one in now[_touched(now, middle, middle)] if one.end > middle), None)
    return segment if segment.speaker is not None or there is None else replace(segment, speaker=there)


def _apart_until(text: Sequence[Segment], first: int) -> int:
    """Where the segments end that begin with this one and that no patch could tell apart: mostly after itself.

    They have a stretch of time together that is not empty, and nobody goes on speaking who spoke in it.
    """
    last, end, speakers = first + 1, text[first].end, {text[first].speaker}
    while last < len(text):
        after = text[last]
        if not (end <= text[first].start or (after.start < end and after.speaker in speakers)):
            break
        last, end = last + 1, max(end, after.end)
        speakers.add(after.speaker)
    return last


def patches_of(edits: Sequence[Edit], numbers: Iterable[int]) -> list[Patch]:
    """The patches of these entries, those of what they reverse included. `edits` is the log from 1 on."""
    found: list[Patch] = []
    left, seen = list(numbers), set[int]()
    while left:
        edit = edits[left.pop() - 1]
        if edit.number not in seen:
            seen.add(edit.number)
            found += edit.patches
            left += edit.reverses
    return found


def names_after(speakers: Sequence[str | None] | None, edits: Iterable[Edit]) -> tuple[str | None, ...] | None:
    """What speakers are called when these entries have named them anew."""
    if speakers is None:
        return None
    names = list(speakers)
    for edit in edits:
        if (rename := edit.rename) is not None:
            names = [rename.name if name == rename.speaker else name for name in names]
    return tuple(names)


def next_steps(edits: Iterable[Edit], author: str) -> tuple[int | None, int | None]:
    """The entries of an author that undo and redo reverse next."""
    undo: list[int] = []
    redo: list[int] = []
    for edit in edits:
        if edit.author != author:
            continue
        if undo and edit.reverses == (undo[-1],):
            undo.pop()
            redo.append(edit.number)
        elif redo and edit.reverses == (redo[-1],):
            redo.pop()
            undo.append(edit.number)
        else:
            undo.append(edit.number)
            redo.clear()
    return (undo[-1] if undo else None), (redo[-1] if redo else None)
