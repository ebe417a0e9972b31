"""The timeline: sound without a seam where timestamps agree, silence for holes, no way to be made wait for ever."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.audio.damage import MOST_STRETCHES, DamageLog, LostBytes
from whisper_farm.audio.decode import (
    LONGEST_HOLE_SECONDS,
    LONGEST_OVERLAP_SECONDS,
    MOST_SILENCE_SECONDS,
    Timeline,
)


def test_the_first_frame_is_at_zero_when_the_container_says_nothing() -> None:
    assert Timeline(None).silence_before(1234.5, 0.0) == 0.0


def test_sound_that_begins_after_the_container_keeps_its_lateness() -> None:
    assert Timeline(10.0).silence_before(12.5, 0.0) == pytest.approx(2.5)


def test_a_frame_before_the_start_of_the_container_moves_the_start() -> None:
    timeline = Timeline(10.0)
    assert timeline.silence_before(9.0, 0.0) == 0.0
    assert timeline.silence_before(14.0, 1.0) == pytest.approx(4.0)


def test_rounded_timestamps_make_no_silence() -> None:
    timeline = Timeline(0.0)
    assert all(timeline.silence_before(round(n * 0.02133, 3), n * 0.02133) == 0 for n in range(1000))


def test_a_hole_becomes_silence_of_its_length() -> None:
    assert Timeline(0.0).silence_before(8.0, 5.0) == pytest.approx(3.0)


def test_after_damage_even_a_short_hole_counts() -> None:
    assert Timeline(0.0).silence_before(5.02, 5.0, tolerance=0.0) == pytest.approx(0.02)
    assert Timeline(0.0).silence_before(5.02, 5.0) == 0.0


def test_an_overlap_costs_no_sound_and_the_next_hole_pays_for_it() -> None:
    timeline = Timeline(0.0)
    assert timeline.silence_before(4.0, 5.0) == 0.0
    assert timeline.silence_before(8.0, 6.0) == pytest.approx(2.0)


def test_a_clock_that_starts_again_goes_on_without_a_seam() -> None:
    timeline = Timeline(0.0)
    assert timeline.silence_before(0.0, LONGEST_OVERLAP_SECONDS + 90) == 0.0
    assert timeline.silence_before(1.0, LONGEST_OVERLAP_SECONDS + 91) == 0.0
    assert timeline.silence_before(3.0, LONGEST_OVERLAP_SECONDS + 92) == pytest.approx(1.0)


def test_a_jump_that_no_recording_makes_is_no_silence() -> None:
    timeline = Timeline(0.0)
    assert timeline.silence_before(LONGEST_HOLE_SECONDS + 1, 0.0) == 0.0
    assert timeline.silence_before(LONGEST_HOLE_SECONDS + 6, 4.0) == pytest.approx(1.0)


@given(st.lists(st.floats(0, 1e9), max_size=200))
def test_no_timestamps_ask_for_more_than_a_day_of_silence(stamps: list[float]) -> None:
    timeline, position = Timeline(0.0), 0.0
    total = 0.0
    for stamp in stamps:
        silence = timeline.silence_before(stamp, position)
        assert 0 <= silence <= LONGEST_HOLE_SECONDS
        total += silence
        position += silence + 0.02
    assert total <= MOST_SILENCE_SECONDS


def test_damage_near_other_damage_is_one_stretch_and_every_packet_counts() -> None:
    log = DamageLog()
    for start in (1.0, 1.02, 1.04, 5.0):
        log.add(start, start + 0.02)
    assert log.packets == 4
    assert list(itertools.chain(*log.seconds(60))) == pytest.approx([1.0, 1.06, 5.0, 5.02])


def test_damage_never_reaches_beyond_the_end() -> None:
    log = DamageLog()
    log.add(9.0, 12.0)
    log.add(20.0, 21.0)
    assert log.seconds(10.0) == ((9.0, 10.0), (10.0, 10.0))


def test_a_file_that_is_damaged_all_over_needs_no_more_memory() -> None:
    log = DamageLog()
    for number in range(5 * MOST_STRETCHES):
        log.add(number, number + 0.02)
    assert log.packets == 5 * MOST_STRETCHES
    assert len(log.seconds(1e6)) == MOST_STRETCHES
    assert log.seconds(1e6)[-1][1] == 5 * MOST_STRETCHES - 1 + 0.02


def test_lost_bytes_last_as_long_as_equally_many_good_ones() -> None:
    lost = LostBytes()
    assert lost.lasted(500, otherwise=0.02) == 0.02
    for _ in range(100):
        lost.decoded(200, 0.025)
    assert lost.lasted(3000) == pytest.approx(0.375)
