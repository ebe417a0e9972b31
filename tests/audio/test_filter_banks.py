"""What a speaker model hears is what it was trained on: Kaldi's filter banks."""

from __future__ import annotations

import numpy as np

from whisper_farm.audio.filter_banks import filter_banks

ROWS, BANDS = (0, 23, 47), (0, 1, 7, 20, 40, 60, 79)
KALDI = (
    (-6.0931, -8.5925, 2.0183, -10.1452, -5.7826, -2.9648, -1.4529),
    (-6.0767, -8.9998, 2.0285, -0.5057, -6.2876, -2.8308, -1.4177),
    (-6.8494, -10.6062, 2.0279, -10.6522, -6.0978, -2.8705, -1.4285),
)
"""What `kaldi-native-fbank` 1.23 made of this sound: 80 bands from 20 Hz to the half of 16 kHz, no dither."""


def sound() -> np.ndarray:
    """Half a second: a tone, one that rises, and noise."""
    n = np.arange(8000)
    rising = np.sin(2 * np.pi * (300 * n / 16000 + 900 * (n / 16000) ** 2))
    noise = (n * 7919) % 1009 / 1009 - 0.5
    return (0.3 * np.sin(2 * np.pi * 220 * n / 16000) + 0.1 * rising + 0.05 * noise).astype(np.float32)


def test_filter_banks_are_those_of_kaldi() -> None:
    found = filter_banks(sound())
    assert found.shape == (48, 80)
    assert np.abs(found[np.ix_(ROWS, BANDS)] - np.array(KALDI)).max() < 0.01


def test_only_whole_frames_count_and_silence_is_a_number() -> None:
    assert [len(filter_banks(np.zeros(length, np.float32))) for length in (0, 399, 400, 559, 560)] == [0, 0, 1, 1, 2]
    assert np.isfinite(filter_banks(np.zeros(800, np.float32))).all()
