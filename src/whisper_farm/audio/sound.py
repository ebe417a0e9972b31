"""What sound is in this project: 16 kHz, one channel, 32-bit floats in [-1, 1]; and how loud it is.

Loudness is in decibels below full scale, ten milliseconds at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Samples a second."""

HOP = SAMPLE_RATE // 100
"""Samples of one level."""
SILENT_DB = -92.0
"""Nothing but digital silence: less than a step of a 16-bit sample."""

Waveform = NDArray[np.float32]
"""One channel; or two, kept apart, as the columns."""
Levels = NDArray[np.float32]


def samples_of(seconds: float) -> int:
    """The sample nearest to a time; the inverse of `seconds_of` for every sample number."""
    return round(seconds * SAMPLE_RATE)


def seconds_of(samples: int) -> float:
    """The time of a sample."""
    return samples / SAMPLE_RATE


def either(audio: Waveform) -> Waveform:
    """One channel in which both are heard, whatever one does to the other: of each pair the larger sample."""
    if audio.ndim == 1:
        return audio
    left, right = audio.T
    louder: Waveform = np.where(np.abs(left) >= np.abs(right), left, right)
    return louder


def powers(audio: Waveform) -> Levels:
    """The mean square of every whole hop."""
    hops = audio[: len(audio) // HOP * HOP].reshape(-1, HOP)
    squares: Levels = np.einsum("ij,ij->i", hops, hops)
    return squares / np.float32(HOP)


def decibels(power: Levels) -> Levels:
    """Mean squares as decibels; digital silence is -120."""
    return 10 * np.log10(np.maximum(power, np.float32(1e-12)))
