"""Grouping words into phrases of a readable length, for recognisers that give bare words."""

from __future__ import annotations

from collections.abc import Iterable

from whisper_farm.transcript.speech import Word

PAUSE_SECONDS = 0.5
"""A silence this long always ends a phrase."""
SHORT_PAUSE_SECONDS = 0.15
LONG_PHRASE_SECONDS = 6.0
"""A phrase that has lasted this long ends at the next short pause."""
LONGEST_PHRASE_SECONDS = 12.0


def phrases(words: Iterable[Word]) -> list[tuple[Word, ...]]:
    """The words, in order, in runs that end at pauses and last at most about twelve seconds."""
    runs: list[list[Word]] = []
    for word in words:
        if runs and not _ends(runs[-1], word):
            runs[-1].append(word)
        else:
            runs.append([word])
    return [tuple(run) for run in runs]


def _ends(run: list[Word], following: Word) -> bool:
    pause = following.start - run[-1].end
    lasted = run[-1].end - run[0].start
    if pause >= PAUSE_SECONDS or following.end - run[0].start > LONGEST_PHRASE_SECONDS:
        return True
    return pause >= SHORT_PAUSE_SECONDS and lasted >= LONG_PHRASE_SECONDS
