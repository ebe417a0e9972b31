"""How loud sound is, in decibels below full scale, ten milliseconds at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform

HOP = SAMPLE_RATE // 100
"""Samples of one level."""
SILENT_DB = -75.0
"""Nothing a recogniser could hear: some six steps of a 16-bit sample."""

Levels = NDArray[np.float32]


def powers(audio: Waveform) -> Levels:
    """The mean square of every whole hop."""
    hops = audio[: len(audio) // HOP * HOP].reshape(-1, HOP)
    squares: Levels = np.einsum("ij,ij->i", hops, hops)
    return squares / np.float32(HOP)


def decibels(power: Levels) -> Levels:
    """Mean squares as decibels; digital silence is -120."""
    return 10 * np.log10(np.maximum(power, np.float32(1e-12)))
