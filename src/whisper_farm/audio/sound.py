"""What sound is in this project: 16 kHz, one channel, 32-bit floats in [-1, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Samples a second."""

Waveform = NDArray[np.float32]


def samples_of(seconds: float) -> int:
    """The sample nearest to a time; the inverse of `seconds_of` for every sample number."""
    return round(seconds * SAMPLE_RATE)


def seconds_of(samples: int) -> float:
    """The time of a sample."""
    return samples / SAMPLE_RATE
