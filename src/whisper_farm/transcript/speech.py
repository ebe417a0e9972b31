"""The smallest pieces of a transcript: words and segments.

Times are seconds. Inside an engine they count from the start of the chunk; everywhere else they
count from the start of the recording (`shifted` is the one place that turns the one into the other).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Word:
    """One word as spoken. `text` keeps its leading space where the language has spaces, as Whisper does."""

    start: float
    end: float
    text: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A phrase: a run of words with one pair of times, and what the recogniser said of its own certainty."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    temperature: float | None = None

    def shifted(self, seconds: float) -> Segment:
        """The same segment `seconds` later, words included."""
        words = tuple(replace(w, start=w.start + seconds, end=w.end + seconds) for w in self.words)
        return replace(self, start=self.start + seconds, end=self.end + seconds, words=words)
