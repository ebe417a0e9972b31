"""The cutter: chunks tile the sound, are never too long, end in pauses, and depend on nothing but the sound."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.recordings import babble, decoded, noise, silence, speech, talk

from whisper_farm.audio import cuts
from whisper_farm.audio import speech as speech_module
from whisper_farm.audio.cuts import cut, cut_point, shortest_tail
from whisper_farm.audio.sound import HOP, SAMPLE_RATE, Waveform, decibels, powers, samples_of

KINDS: dict[str, Callable[[float, int], Waveform]] = {
    "talk": talk,
    "babble": babble,
    "silence": lambda seconds, seed: silence(seconds),
    "noise": lambda seconds, seed: noise(seconds, 0.02, seed),
    "noisy talk": lambda seconds, seed: talk(seconds, seed) + noise(seconds, 0.1, seed)[: round(seconds * SAMPLE_RATE)],
}
PIECES = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.floats(0.01, 6), st.integers(0, 99)), min_size=0, max_size=8
)
MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sound_of(pieces: list[tuple[str, float, int]]) -> Waveform:
    parts = [KINDS[kind](seconds, seed) for kind, seconds, seed in pieces]
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)


def blocks_of(sound: Waveform, sizes: list[int]) -> list[Waveform]:
    blocks: list[Waveform] = []
    start = 0
    while start < len(sound):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(sound[start : start + size])
        start += size
    return blocks


@MANY
@given(PIECES, st.lists(st.integers(1, 50_000), min_size=1, max_size=5), st.sampled_from([1.0, 2.5, 7.0]))
def test_chunks_hold_every_sample_exactly_once_and_never_exceed_the_window(
    pieces: list[tuple[str, float, int]], sizes: list[int], chunk_seconds: float
) -> None:
    sound = sound_of(pieces)
    sizes = [max(size, len(sound) // 500 + 1) for size in sizes]
    chunks = list(cut(blocks_of(sound, sizes), chunk_seconds))
    assert np.array_equal(np.concatenate([np.zeros(0, np.float32), *chunks]), sound)
    assert all(0 < len(chunk) <= samples_of(chunk_seconds) for chunk in chunks)


@MANY
@given(PIECES, st.lists(st.integers(1_000, 50_000), min_size=1, max_size=5))
def test_cuts_do_not_depend_on_how_the_sound_arrives(pieces: list[tuple[str, float, int]], sizes: list[int]) -> None:
    sound = sound_of(pieces)
    lengths = [len(chunk) for chunk in cut(blocks_of(sound, sizes), 2.5)]
    assert lengths == [len(chunk) for chunk in cut([sound], 2.5)]


@MANY
@given(PIECES, st.data())
def test_cutting_from_the_end_of_any_chunk_gives_the_same_chunks(
    pieces: list[tuple[str, float, int]], data: st.DataObject
) -> None:
    sound = sound_of(pieces)
    lengths = [len(chunk) for chunk in cut([sound], 2.5)]
    done = data.draw(st.integers(0, len(lengths)))
    assert [len(chunk) for chunk in cut([sound[sum(lengths[:done]) :]], 2.5)] == lengths[done:]


@MANY
@given(st.floats(0.1, 100), st.integers(0, 99))
def test_nothing_but_a_whole_recording_is_shorter_than_the_shortest_tail(seconds: float, seed: int) -> None:
    lengths = [len(chunk) for chunk in cut([talk(seconds, seed)], 10)]
    assert len(lengths) == 1 or min(lengths) >= shortest_tail(samples_of(10))


def test_a_recording_that_fits_the_window_is_one_chunk() -> None:
    assert len(list(cut([talk(30)], 30))) == 1
    assert len(list(cut([talk(30.1)], 30))) == 2


def test_no_sound_is_no_chunk() -> None:
    assert list(cut([], 30)) == []


@pytest.mark.parametrize("pause_at", [24.5, 26.0, 29.3])
def test_a_pause_in_the_last_fifth_is_cut_in_its_middle(pause_at: float) -> None:
    sound = np.concatenate([babble(pause_at), silence(0.5), babble(40)])
    assert cut_point(sound[: samples_of(33)], samples_of(30)) / SAMPLE_RATE == pytest.approx(pause_at + 0.25, abs=0.02)


def test_an_earlier_pause_is_left_alone_when_there_is_one_in_the_last_fifth() -> None:
    sound = np.concatenate([babble(18), silence(2), babble(6), silence(0.3), babble(10)])
    assert cut_point(sound[: samples_of(33)], samples_of(30)) / SAMPLE_RATE == pytest.approx(26.15, abs=0.02)


def test_without_a_pause_in_the_last_fifth_the_one_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "speech_probabilities", lambda sound: np.ones(-(-len(sound) // 512), np.float32))
    sound = np.concatenate([babble(18), silence(0.4), babble(20)])
    assert cut_point(sound[: samples_of(33)], samples_of(30)) / SAMPLE_RATE == pytest.approx(18.2, abs=0.02)


def test_the_longest_of_several_pauses_wins_not_the_faintest() -> None:
    gap, sentence = noise(0.25, 0.0005, 1), noise(0.7, 0.0007, 2)
    sound = np.concatenate([babble(25), gap, babble(1), sentence, babble(20)])
    assert cut_point(sound[: samples_of(33)], samples_of(30)) / SAMPLE_RATE == pytest.approx(26.6, abs=0.05)


def test_a_long_silence_is_cut_near_its_end_so_that_chunks_are_full() -> None:
    sound = np.concatenate([babble(10), silence(30)])
    assert cut_point(sound[: samples_of(33)], samples_of(30)) / SAMPLE_RATE == pytest.approx(29.5, abs=0.02)


def test_where_every_pause_is_noisy_the_speech_model_is_asked_for_one() -> None:
    voice = speech()[: samples_of(33)]
    quiet = np.repeat(decibels(powers(voice)) < -40, HOP)
    clatter = noise(33, 0.05)[: len(quiet)] * quiet
    noisy = voice[: len(quiet)] + clatter
    point = cut_point(noisy, samples_of(30))
    around = decibels(powers(voice[point - 800 : point + 800]))
    assert around.max() < -40, "nobody speaks at the cut"


def test_without_the_speech_model_the_quietest_place_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_model", lambda: None)
    sound = babble(40)
    sound[samples_of(22) : samples_of(22.3)] *= 0.5
    assert cut_point(sound[: samples_of(33)], samples_of(30)) / SAMPLE_RATE == pytest.approx(22.15, abs=0.1)


@pytest.mark.parametrize("chunk_seconds", [10.0, 30.0])
def test_no_cut_goes_through_a_word_of_the_podcast(chunk_seconds: float) -> None:
    assert_cuts_are_quiet(speech(), chunk_seconds)


@pytest.mark.parametrize("chunk_seconds", [10.0, 30.0])
def test_no_cut_goes_through_a_word_of_a_real_reader(chunk_seconds: float) -> None:
    folder = os.environ.get("WHISPER_FARM_REAL_AUDIO")
    if not folder:
        pytest.skip("WHISPER_FARM_REAL_AUDIO names no folder of recordings")
    for file in sorted(Path(folder).glob("*.wav")) + sorted(Path(folder).glob("*.flac")):
        assert_cuts_are_quiet(decoded(file.read_bytes()), chunk_seconds)


def assert_cuts_are_quiet(sound: Waveform, chunk_seconds: float) -> None:
    chunks = list(cut([sound], chunk_seconds))
    loud = np.percentile(decibels(powers(sound)), 90)
    for end in np.cumsum([len(chunk) for chunk in chunks])[:-1]:
        around = decibels(powers(sound[end - 800 : end + 800])).max()
        assert around < loud - 20, f"the sound at {end / SAMPLE_RATE:.2f} s is too loud to be a pause"
