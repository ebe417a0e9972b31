"""Packing takes out what nobody speaks in, and every time is mapped back to the sample it came from."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.audio.packing import LEAST_GAP_SECONDS, MARGIN_SECONDS, Packing, packing_around
from whisper_farm.audio.sound import SAMPLE_RATE

SECOND = SAMPLE_RATE
LENGTH = 30 * SECOND
stretches = st.lists(st.integers(0, LENGTH), max_size=20, unique=True).map(
    lambda edges: list(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)


def test_a_long_silence_is_taken_out_and_a_short_one_stays() -> None:
    speech = [(5 * SECOND, 8 * SECOND), (round(8.9 * SECOND), 10 * SECOND), (20 * SECOND, 21 * SECOND)]
    packing = packing_around(speech, LENGTH)
    assert packing.kept == (
        (round(4.6 * SECOND), round(10.4 * SECOND)),
        (round(19.6 * SECOND), round(21.4 * SECOND)),
    )


def test_a_span_over_a_seam_stays_on_the_side_of_its_middle() -> None:
    packing = Packing(((0, SECOND), (10 * SECOND, 12 * SECOND)))
    assert packing.unpacked(0.2, 0.6) == (0.2, 0.6)
    assert packing.unpacked(0.7, 1.1) == (0.7, 1.0)
    assert packing.unpacked(0.9, 1.5) == (10.0, 10.5)
    assert packing.unpacked(2.9, 3.0) == (11.9, 12.0)


@given(stretches)
def test_what_is_packed_is_the_kept_sound_to_the_sample_and_every_sample_is_found_again(
    speech: list[tuple[int, int]],
) -> None:
    packing = packing_around(speech, LENGTH)
    numbers = np.arange(LENGTH, dtype=np.float32)
    packed = packing.pack(numbers)
    assert len(packed) == packing.length
    assert all(begin < end for begin, end in packing.kept)
    assert all(one[1] < other[0] for one, other in zip(packing.kept, packing.kept[1:], strict=False))
    for begin, end in packing.kept:
        span = packing.packed(begin, end)
        assert span is not None
        assert packed[span[0] : span[1]].tolist() == numbers[begin:end].tolist()
        for sample in {span[0], (span[0] + span[1]) // 2, span[1] - 1}:
            seconds = sample / SAMPLE_RATE
            assert round(packing.unpacked(seconds, seconds)[0] * SAMPLE_RATE) == int(packed[sample])


@given(stretches)
def test_no_speech_and_no_short_gap_is_taken_out(speech: list[tuple[int, int]]) -> None:
    packing = packing_around(speech, LENGTH)
    kept = np.zeros(LENGTH, np.bool_)
    for begin, end in packing.kept:
        kept[begin:end] = True
    assert all(kept[begin:end].all() for begin, end in speech)
    gaps = [(one[1], other[0]) for one, other in itertools.pairwise(speech)]
    for begin, end in gaps:
        if end - begin < LEAST_GAP_SECONDS * SAMPLE_RATE:
            assert kept[begin:end].all()
    assert all(
        other[0] - one[1] >= (LEAST_GAP_SECONDS - 2 * MARGIN_SECONDS) * SAMPLE_RATE - 2
        for one, other in zip(packing.kept, packing.kept[1:], strict=False)
    )


@given(stretches, st.floats(0, 30), st.floats(0, 30))
def test_a_span_of_the_packed_sound_lies_in_what_was_kept_in_order(
    speech: list[tuple[int, int]], one: float, other: float
) -> None:
    packing = packing_around(speech, LENGTH)
    if not packing.length:
        return
    whole = packing.length / SAMPLE_RATE
    start, end = sorted((min(one, whole), min(other, whole)))
    begin, stop = packing.unpacked(start, end)
    assert begin <= stop
    samples = round(begin * SAMPLE_RATE), round(stop * SAMPLE_RATE)
    assert any(first <= samples[0] and samples[1] <= last for first, last in packing.kept)
