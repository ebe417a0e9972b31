"""Packing: what nobody speaks in is taken out of a chunk, so that windows are full of speech; times are mapped back.

Pure and exact to the sample: the packed sound is the kept stretches joined, and a time in it means the sample that it
was taken from. What is between two words that are near each other is never taken out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.speech import stretches_above

MAYBE, MAYBE_GOES_ON = 0.35, 0.15
"""Of what may be speech, as its probabilities: all else is taken out."""
MARGIN_SECONDS = 0.4
"""So much before and after speech stays."""
LEAST_GAP_SECONDS = 1.0
"""A shorter stretch without speech stays whole."""


@dataclass(frozen=True)
class Packing:
    """The stretches of a chunk that are kept: samples `[begin, end)`, in order, none empty."""

    kept: tuple[tuple[int, int], ...]

    @cached_property
    def _starts(self) -> list[int]:
        """Where each kept stretch begins in the packed sound, and the end of the last."""
        return list(accumulate((end - begin for begin, end in self.kept), initial=0))

    @property
    def length(self) -> int:
        """Samples of the packed sound."""
        return self._starts[-1]

    def pack(self, audio: Waveform) -> Waveform:
        """The kept stretches, joined."""
        if len(self.kept) == 1 and self.kept[0] == (0, len(audio)):
            return audio
        return np.concatenate([audio[begin:end] for begin, end in self.kept] or [audio[:0]])

    def unpacked(self, start: float, end: float) -> tuple[float, float]:
        """Seconds of the chunk for a span of the packed sound. Across a seam it stays on the side of its middle."""
        first, middle, last = (round(seconds * SAMPLE_RATE) for seconds in (start, (start + end) / 2, end))
        number = min(max(0, bisect_right(self._starts, middle) - 1), len(self.kept) - 1)
        begin, stop = self.kept[number]
        shift = begin - self._starts[number]
        return max(begin, first + shift) / SAMPLE_RATE, min(max(begin, last + shift), stop) / SAMPLE_RATE

    def packed(self, begin: int, end: int) -> tuple[int, int] | None:
        """Samples of the packed sound for samples of the chunk; None if nothing of them is kept."""
        inside = [
            (max(begin, one) - one + start, min(end, other) - one + start)
            for (one, other), start in zip(self.kept, self._starts, strict=False)
            if max(begin, one) < min(end, other)
        ]
        return (inside[0][0], inside[-1][1]) if inside else None


def packing_of(probabilities: NDArray[np.float32], length: int) -> Packing:
    """What is kept of a chunk of `length` samples, whose frames are speech so probably."""
    return packing_around(stretches_above(probabilities, MAYBE, MAYBE_GOES_ON), length)


def packing_around(speech: Iterable[tuple[int, int]], length: int) -> Packing:
    """Keep these stretches of a chunk of `length` samples with a margin, and every gap between them that is short."""
    margin, least = round(MARGIN_SECONDS * SAMPLE_RATE), round(LEAST_GAP_SECONDS * SAMPLE_RATE)
    kept: list[tuple[int, int]] = []
    for begin, end in speech:
        begin, end = max(0, begin - margin), min(length, end + margin)
        if kept and begin - kept[-1][1] < least - 2 * margin:
            kept[-1] = kept[-1][0], max(kept[-1][1], end)
        elif begin < end:
            kept.append((begin, end))
    return Packing(tuple(kept))
