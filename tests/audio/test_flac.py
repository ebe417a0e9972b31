"""FLAC: what is encoded comes back exactly, rounded to 16 bits, and nothing else is accepted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recordings import encoded, speech, talk

from whisper_farm.audio.flac import decode_flac, encode
from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.errors import AudioError


@settings(max_examples=50)
@given(st.integers(1, 20_000), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_sixteen_bit_samples_come_back_exactly(count: int, seed: int, level: float) -> None:
    whole = (np.random.default_rng(seed).uniform(-1, 1, count) * level * 32_767).astype(np.int16)
    samples = whole.astype(np.float32) / np.float32(32_768)
    assert np.array_equal(decode_flac(encode(samples)), samples)


def test_floats_are_rounded_and_what_is_too_loud_is_clipped_not_wrapped() -> None:
    back = decode_flac(encode(np.array([0.1, -0.1, 1.0, 1.5, -1.0, -7.0], np.float32)))
    assert back == pytest.approx([0.1, -0.1, 1.0, 1.0, -1.0, -1.0], abs=2**-15)


def test_speech_takes_about_half_the_room_of_plain_samples() -> None:
    samples = speech()[: 30 * SAMPLE_RATE]
    assert len(encode(samples)) < 0.6 * 2 * len(samples)


@pytest.mark.parametrize("damage", ["cut", "flipped", "nothing", "noise"])
def test_damaged_flac_is_refused(damage: str) -> None:
    data = encode(talk(5))
    broken = {
        "cut": data[:30],
        "flipped": bytes([data[0] ^ 0xFF]) + data[1:],
        "nothing": b"",
        "noise": np.random.default_rng(0).bytes(10_000),
    }[damage]
    with pytest.raises(AudioError, match="no readable FLAC"):
        decode_flac(broken)


def test_flac_of_another_rate_is_refused() -> None:
    with pytest.raises(AudioError, match="16000 Hz"):
        decode_flac(encoded(talk(1), "flac", "flac", 44_100))
