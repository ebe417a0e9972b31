"""The words of a text that somebody typed: those that stayed keep their times, and the new ones get a share.

A text is compared with what lay there before, token by token: a word, or a letter where there are no spaces.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from whisper_farm.transcript.transcript import Segment, Word, bounded

MOST_COMPARED = 250_000
"""Pairs of words up to which two texts are compared; of longer ones only beginning and end are."""
UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
"""Letters of languages that are written without spaces."""
_TOKEN = re.compile(rf"\s*(?:[{UNSPACED}]|[^\s{UNSPACED}]+)")
_BEGINS_UNSPACED = re.compile(rf"[{UNSPACED}]")
_NOT_SPOKEN = re.compile(r"[^\w]+")


def fitted(new: Sequence[Segment], old: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments that have only text, with the words of what lay there before where they are the same.

    Words that were kept keep times and probability. New ones share the time of what they replace, or the gap that they
    stand in; nobody doubts them. Where the old segments have no words, the new ones get none.
    """
    tidied = [replace(segment, text=_tidy(segment.text)) for segment in new]
    had = [word for segment in old for word in segment.words]
    if not tidied or (old and not had):
        return tuple(tidied)
    tokens = [_TOKEN.findall(segment.text) for segment in tidied]
    timed = iter(_timed([token for each in tokens for token in each], had, new[0].start, new[-1].end))
    found = []
    for segment, own in zip(tidied, tokens, strict=True):
        words = _joined(list(itertools.islice(timed, len(own))), had)
        found.append(replace(segment, words=_in_order(words, segment.start, segment.end)))
    return tuple(found)


def _tidy(text: str) -> str:
    """One line, with a space before it where the language has spaces, as Whisper writes."""
    line = " ".join(text.split())
    return line if _BEGINS_UNSPACED.match(line) else f" {line}"


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of text as it is compared: a word, or a letter where there are no spaces; `word` is whose it was."""

    text: str
    start: float
    end: float
    word: int | None = None


def _timed(tokens: Sequence[str], had: Sequence[Word], start: float, end: float) -> list[_Token]:
    old = [
        replace(token, word=index)
        for index, word in enumerate(had)
        for token in _shared(_TOKEN.findall(word.text), word.start, word.end)
    ]
    found: list[_Token] = []
    for kind, a, b, c, d in _steps([_key(one.text) for one in old], [_key(token) for token in tokens]):
        if kind == "equal":
            found += [replace(was, text=now) for was, now in zip(old[a:b], tokens[c:d], strict=True)]
        elif kind == "replace":
            found += _shared(tokens[c:d], old[a].start, old[b - 1].end)
        elif kind == "insert":
            found += _shared(tokens[c:d], old[a - 1].end if a else start, old[a].start if a < len(old) else end)
    return found


def _key(token: str) -> str:
    """Capitals and marks do not make another word."""
    bare = token.strip().casefold()
    return _NOT_SPOKEN.sub("", bare) or bare


def _steps(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    head = _same_at_start(old, new)
    tail = _same_at_start(old[head:][::-1], new[head:][::-1])
    a, b = len(old) - tail, len(new) - tail
    yield "equal", 0, head, 0, head
    if head in (a, b) or (a - head) * (b - head) > MOST_COMPARED:
        yield "insert" if head == a else "delete" if head == b else "replace", head, a, head, b
    else:
        matcher = difflib.SequenceMatcher(None, old[head:a], new[head:b], autojunk=False)
        for kind, *places in matcher.get_opcodes():
            i, j, k, m = (place + head for place in places)
            yield kind, i, j, k, m
    yield "equal", a, len(old), b, len(new)


def _same_at_start(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _shared(tokens: Sequence[str], start: float, end: float) -> Iterator[_Token]:
    """The tokens one after the other in a stretch, by their letters."""
    letters = sum(len(token.strip()) for token in tokens)
    at, end, reached = start, max(start, end), 0
    for token in tokens:
        reached += len(token.strip())
        until = start + (end - start) * reached / letters
        yield _Token(token, at, until)
        at = until


def _joined(tokens: Sequence[_Token], had: Sequence[Word]) -> Iterator[Word]:
    """Words of tokens: those that were one word are one again, and the same as before if nothing of it changed."""
    for index, group in itertools.groupby(
        enumerate(tokens), lambda pair: -1 - pair[0] if pair[1].word is None else pair[1].word
    ):
        own = [token for _, token in group]
        text = "".join(token.text for token in own)
        was = had[index] if index >= 0 else None
        if was is not None and was.text.strip() == text.strip():
            yield replace(was, text=text)
        else:
            yield Word(own[0].start, own[-1].end, text)


def _in_order(words: Iterable[Word], earliest: float, latest: float) -> tuple[Word, ...]:
    found = []
    for word in words:
        start = bounded(word.start, earliest, latest)
        earliest = bounded(word.end, start, latest)
        found.append(replace(word, start=start, end=earliest))
    return tuple(found)
