"""What speaker models hear: the logarithm of the power in 80 bands of the mel scale, every 10 ms, as Kaldi has it.

Frames of 25 ms, without their mean, with the highs lifted, in Povey's window; no dither. Only whole frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform

BANDS = 80
FRAMES_PER_SECOND = 100
_STEP = SAMPLE_RATE // FRAMES_PER_SECOND
_FRAME = 25 * SAMPLE_RATE // 1000
_FFT = 512
_LOWEST_HERTZ = 20.0
_EMPHASIS = 0.97
_AT_ONCE = 6000
"""Frames worked on together: a minute takes some thirty megabytes."""
Features = NDArray[np.float32]
"""A row for each frame, a column for each band."""


def filter_banks(audio: Waveform) -> Features:
    """The bands of each whole frame in one channel."""
    if len(audio) < _FRAME:
        return np.zeros((0, BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[::_STEP]
    return np.concatenate([_bands(frames[first : first + _AT_ONCE]) for first in range(0, len(frames), _AT_ONCE)])


def _bands(frames: NDArray[np.float32]) -> Features:
    level = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([level[:, :1], level[:, :-1]], axis=1)
    spectrum = np.fft.rfft((level - np.float32(_EMPHASIS) * before) * _window(), _FFT)[:, : _FFT // 2]
    power = np.square(np.abs(spectrum)).astype(np.float32) @ _triangles()
    bands: Features = np.log(np.maximum(power, np.finfo(np.float32).eps))
    return bands


@cache
def _window() -> NDArray[np.float32]:
    """Povey's: a raised cosine to the power of 0.85."""
    return np.asarray(np.hanning(_FRAME) ** 0.85, np.float32)


@cache
def _triangles() -> NDArray[np.float32]:
    """How much of each line of the spectrum is in each band: triangles that are equally wide in mel."""
    edges = np.linspace(_mel(_LOWEST_HERTZ), _mel(SAMPLE_RATE / 2), BANDS + 2)
    lines = _mel(np.arange(_FFT // 2) * SAMPLE_RATE / _FFT)[:, None]
    rise = (lines - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - lines) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)


def _mel(hertz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)
