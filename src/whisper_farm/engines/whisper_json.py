"""Whisper's JSON, as other programs and servers write it, made a recognition. Nothing in it is taken on trust.

Promises: every time lies inside the chunk, every score is finite. Words have the spaces and marks of the text around
them, also where whoever wrote them left these out. Where words and text do not match, the text stands without words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, ValidationError

from whisper_farm.engines.engine import Recognition
from whisper_farm.errors import EngineError
from whisper_farm.transcript.languages import code_of
from whisper_farm.transcript.transcript import Segment, Word, bounded

MOST_BYTES = 16 << 20
"""Of what was heard in one chunk."""
UNSPACED = ("zh", "ja", "yue", "th", "lo", "my", "km", "bo")
"""Languages that are written without spaces between words."""

Score = Annotated[
    float | None, AfterValidator(lambda score: score if score is not None and math.isfinite(score) else None)
]


class HeardWord(BaseModel):
    """A word; whisperX calls its probability a score, and may have no times for it."""

    word: str
    start: float | None = None
    end: float | None = None
    probability: Score = Field(default=None, validation_alias=AliasChoices("probability", "score"))


class HeardSegment(BaseModel):
    """A segment, with its words where they are not apart."""

    start: float
    end: float
    text: str
    words: list[HeardWord] = []
    avg_logprob: Score = None
    no_speech_prob: Score = None
    compression_ratio: Score = None
    temperature: Score = None


class HeardDocument(BaseModel):
    """What Whisper, whisperX and OpenAI's `verbose_json` have in common."""

    text: str = ""
    language: str | None = None
    segments: list[HeardSegment] = Field(default=[], max_length=10_000)
    words: list[HeardWord] = Field(default=[], max_length=100_000)


def recognition_of(document: bytes, who: str, seconds: float, language: str | None, words: bool = True) -> Recognition:
    """What `who` wrote of a chunk, as `recognised`; EngineError if that is no such document."""
    try:
        heard = HeardDocument.model_validate_json(document)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "all of it"
        raise EngineError(f"{who} wrote something that is not Whisper's JSON ({where})") from None
    return recognised(heard, seconds, language, words)


def recognised(heard: HeardDocument, seconds: float, language: str | None, words: bool = True) -> Recognition:
    """The recognition of a chunk of so many seconds. `language` is what it is taken for where none is named."""
    found = _code(heard.language) or language or "en"
    segments = heard.segments
    if not segments and heard.text.strip():
        segments = [HeardSegment(start=0, end=seconds, text=heard.text)]
    made = (
        _segment(one, own if words else (), seconds, found)
        for one, own in zip(segments, _shared_out(heard.words, segments), strict=True)
        if one.text.strip()
    )
    return Recognition(tuple(sorted(made, key=lambda one: one.start)), found)


def _code(language: str | None) -> str | None:
    try:
        return code_of(language or "")
    except ValueError:
        return None


def _shared_out(words: Sequence[HeardWord], segments: Sequence[HeardSegment]) -> Iterator[Sequence[HeardWord]]:
    """The words of each segment: its own, or those that lie in it."""
    rest = list(words)
    for number, one in enumerate(segments):
        following = segments[number + 1].start if number + 1 < len(segments) else math.inf
        count = sum(1 for word in rest if ((word.start or 0) + (word.end or 0)) / 2 < following)
        yield one.words or rest[:count]
        rest = rest[count:]


def _segment(one: HeardSegment, words: Sequence[HeardWord], seconds: float, language: str) -> Segment:
    text = one.text if one.text[:1].isspace() or language in UNSPACED else f" {one.text}"
    start = bounded(one.start, 0.0, seconds)
    return Segment(
        start=start,
        end=bounded(one.end, start, seconds),
        text=text,
        words=tuple(_spelled(text, words, seconds)),
        avg_logprob=one.avg_logprob,
        no_speech_prob=one.no_speech_prob,
        compression_ratio=one.compression_ratio,
        temperature=one.temperature,
    )


def _spelled(text: str, words: Sequence[HeardWord], seconds: float) -> list[Word]:
    """The words as they are written in the text; none if one of them is not there."""
    cuts, at = [0], 0
    for word in words:
        bare = word.word.strip()
        begin = text.find(bare, at)
        if begin < 0 or word.start is None or word.end is None:
            return []
        if at:
            space = next((place for place in range(begin - 1, at - 1, -1) if text[place].isspace()), begin)
            cuts.append(space)
        at = begin + len(bare)
    made: list[Word] = []
    for word, begin, end in zip(words, cuts, [*cuts[1:], len(text)], strict=bool(words)):
        start = bounded(word.start or 0.0, made[-1].end if made else 0.0, seconds)
        made.append(Word(start, bounded(word.end or 0.0, start, seconds), text[begin:end], word.probability))
    return made
