"""A transcript and what it is made of: words, segments, what made it, and what it does and does not cover.

Times are seconds. Inside an engine they count from the start of the chunk. Everywhere else they count from the start
of the recording. `shifted` is the one place that turns the one into the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import FailFast

from whisper_farm.transcript.options import Task


@dataclass(frozen=True, slots=True)
class Word:
    """One word as spoken. `text` keeps its leading space where the language has spaces, as Whisper does."""

    start: float
    end: float
    text: str
    probability: float | None = None

    @property
    def middle(self) -> float:
        """Half-way between its beginning and its end."""
        return (self.start + self.end) / 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A phrase: a run of words with one pair of times, and what the recogniser said of its own certainty."""

    start: float
    end: float
    text: str
    words: Annotated[tuple[Word, ...], FailFast()] = ()
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    temperature: float | None = None
    speaker: str | None = None
    struck: bool = False
    """Left out of every file, by an edit."""
    language: str | None = None
    """That it was heard in, where the recogniser says so."""

    @property
    def middle(self) -> float:
        """Half-way between its beginning and its end."""
        return (self.start + self.end) / 2

    @property
    def spelled_words(self) -> tuple[Word, ...]:
        """Its words, where they are the whole of its text; else none."""
        return self.words if text_of(self.words).strip() == self.text.strip() else ()

    def shifted(self, seconds: float) -> Segment:
        """The same segment `seconds` later, words included."""
        words = tuple(replace(w, start=w.start + seconds, end=w.end + seconds) for w in self.words)
        return replace(self, start=self.start + seconds, end=self.end + seconds, words=words)


@dataclass(frozen=True, slots=True)
class Maker:
    """What recognised the recording."""

    engine: str
    version: str
    model: str
    revision: str
    devices: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()


NO_WORDS = "speech without words"
"""Why a stretch is missing in which somebody speaks: the recogniser made out no words."""


@dataclass(frozen=True, slots=True)
class MissingStretch:
    """Seconds of the recording that have no result, and why."""

    start: float
    end: float
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """The proof that nothing was lost in silence: chunks recognised, and every stretch that was not.

    `covered` and the stretches that are `missing`, overlaps counted once, make up the `duration`.
    """

    duration: float
    covered: float
    chunks: int
    missing: tuple[MissingStretch, ...] = ()
    damaged_packets: int = 0
    without_speakers: str | None = None
    """Why speakers were not told apart everywhere, though somebody asked for it."""

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def recognised(self) -> bool:
        """Whether all of the recording went through the recogniser, which may have made out no words in places."""
        return all(stretch.reason == NO_WORDS for stretch in self.missing)


def text_of(words: Iterable[Word]) -> str:
    """What words say together."""
    return "".join(word.text for word in words)


def bounded(time: float, earliest: float, latest: float) -> float:
    """The time within bounds."""
    # In this order of arguments a time that is not a number becomes the earliest.
    return max(earliest, min(time, latest))


def languages_of(segments: Iterable[Segment]) -> dict[str, float]:
    """Seconds of text in each language that the segments name; that with most first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        if segment.language is not None:
            seconds[segment.language] = seconds.get(segment.language, 0.0) + segment.end - segment.start
    return dict(sorted(seconds.items(), key=lambda one: -one[1]))


def length_of(stretches: Iterable[tuple[float, float]]) -> float:
    """How many seconds these stretches (start, end) take up together; overlaps count once."""
    total = reached = 0.0
    for start, end in sorted(stretches):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def damage_in_words(packets: int) -> str:
    """How much of a file could not be decoded."""
    return "1 packet of the file is damaged" if packets == 1 else f"{packets} packets of the file are damaged"


@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of a transcription; segments are in order of time."""

    segments: tuple[Segment, ...]
    language: str
    duration: float
    task: Task
    maker: Maker
    coverage: Coverage
    edits: int = 0
    """The number of the last edit that was laid over what the machine heard."""

    @property
    def languages(self) -> dict[str, float]:
        """Seconds of text in each language; that with most first."""
        return languages_of(self.segments)

    @property
    def text(self) -> str:
        """Everything said that is not struck out, as one string."""
        return "".join(segment.text for segment in self.segments if not segment.struck).strip()
