"""The cutter: chunks tile the sound, are never too long, end in pauses, and depend on nothing but the sound."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recordings import babble, decoded, noise, silence, speech, talk

from whisper_farm.audio import speech as speech_module
from whisper_farm.audio.cuts import cut, cut_point, shortest_tail
from whisper_farm.audio.packing import packing_of
from whisper_farm.audio.sound import HOP, SAMPLE_RATE, Waveform, decibels, powers, samples_of
from whisper_farm.audio.speech import FRAME, SpeechDetector
from whisper_farm.transcript.options import longest_seconds

KINDS: dict[str, Callable[[float, int], Waveform]] = {
    "talk": talk,
    "babble": babble,
    "speech": lambda seconds, seed: speech()[seed * SAMPLE_RATE // 3 :][: round(seconds * SAMPLE_RATE)],
    "silence": lambda seconds, seed: silence(seconds),
    "noise": lambda seconds, seed: noise(seconds, 0.02, seed),
    "noisy talk": lambda seconds, seed: talk(seconds, seed) + noise(seconds, 0.1, seed)[: round(seconds * SAMPLE_RATE)],
}
PIECES = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.floats(0.01, 6), st.integers(0, 99)), min_size=0, max_size=8
)
MANY = settings(max_examples=25)


def ends(sound: Waveform, chunk_seconds: float = 30) -> float:
    """Where the first chunk of a sound ends, in seconds."""
    window, longest = samples_of(chunk_seconds), samples_of(longest_seconds(chunk_seconds))
    return cut_point(lambda length: sound[:length], window, longest) / SAMPLE_RATE


def kept_seconds(chunk: Waveform) -> float:
    """What packing leaves of a chunk, as the recogniser packs it."""
    probabilities = speech_module.speech_probabilities(speech_module.normalised(chunk))
    assert probabilities is not None
    return packing_of(probabilities, len(chunk)).length / SAMPLE_RATE


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
@given(PIECES, st.lists(st.integers(1, 50_000), min_size=1, max_size=5), st.sampled_from([1.0, 2.5, 10.0]))
def test_chunks_hold_every_sample_exactly_once(
    pieces: list[tuple[str, float, int]], sizes: list[int], chunk_seconds: float
) -> None:
    sound = sound_of(pieces)
    sizes = [max(size, len(sound) // 500 + 1) for size in sizes]
    chunks = list(cut(blocks_of(sound, sizes), chunk_seconds))
    assert np.array_equal(np.concatenate([np.zeros(0, np.float32), *chunks]), sound)
    assert all(0 < len(chunk) <= samples_of(longest_seconds(chunk_seconds)) for chunk in chunks)


@MANY
@given(PIECES, st.sampled_from([10.0, 12.5]))
def test_chunks_of_ten_seconds_and_more_never_hold_more_than_a_window_of_speech(
    pieces: list[tuple[str, float, int]], chunk_seconds: float
) -> None:
    chunks = list(cut([sound_of(pieces)], chunk_seconds))
    assert all(len(chunk) <= samples_of(chunk_seconds) or kept_seconds(chunk) <= chunk_seconds for chunk in chunks)


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
    assert ends(sound) == pytest.approx(pause_at + 0.25, abs=0.02)


def test_an_earlier_pause_is_left_alone_when_there_is_one_in_the_last_fifth() -> None:
    sound = np.concatenate([babble(18), silence(2), babble(6), silence(0.3), babble(10)])
    assert ends(sound) == pytest.approx(26.15, abs=0.02)


def test_without_a_pause_in_the_last_fifth_the_one_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechDetector, "hear", lambda _, sound: np.ones(-(-len(sound) // FRAME), np.float32))
    sound = np.concatenate([babble(18), silence(0.4), babble(20)])
    assert ends(sound) == pytest.approx(18.2, abs=0.02)


def test_the_longest_of_several_pauses_wins_not_the_faintest() -> None:
    gap, sentence = noise(0.25, 0.0005, 1), noise(0.7, 0.0007, 2)
    sound = np.concatenate([babble(25), gap, babble(1), sentence, babble(20)])
    assert ends(sound) == pytest.approx(26.6, abs=0.05)


def test_a_long_silence_is_cut_near_its_end_so_that_chunks_are_full() -> None:
    sound = np.concatenate([babble(10), silence(30)])
    assert ends(sound) == pytest.approx(29.5, abs=0.02)


@pytest.mark.parametrize("between", [silence(7), noise(7, 0.003)], ids=["silence", "soft noise"])
def test_chunks_are_full_of_speech_however_long_the_pauses_between_sentences(between: Waveform) -> None:
    sentences = np.array_split(speech()[: samples_of(60)], 30)
    sound = np.concatenate([part for sentence in sentences for part in (sentence, between)])
    chunks = list(cut([sound], 10))
    kept = [kept_seconds(chunk) for chunk in chunks]
    assert max(kept) <= 10
    assert min(kept[:-1]) >= 8, "at least as full as the last fifth of the window allows"
    assert max(map(len, chunks)) > samples_of(15)


def test_a_chunk_spans_no_more_of_the_recording_than_it_may() -> None:
    sound = np.concatenate([speech()[: samples_of(8)], silence(200), speech()[: samples_of(8)]])
    assert ends(sound) == pytest.approx(longest_seconds(30), abs=1)
    assert ends(sound, 10) == pytest.approx(longest_seconds(10), abs=1)


@pytest.mark.parametrize("kind", ["noise", "silence", "babble"])
def test_where_nobody_is_heard_to_speak_the_clock_counts(kind: str) -> None:
    lengths = [len(chunk) for chunk in cut([KINDS[kind](100, 1)], 10)]
    assert max(lengths) <= samples_of(10)


def test_without_the_speech_model_the_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_model", lambda: None)
    sound = np.concatenate([speech()[: samples_of(8)], silence(30)] * 2)
    assert max(len(chunk) for chunk in cut([sound], 10)) <= samples_of(10)


def test_a_pause_that_the_search_begins_in_is_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, spoken = np.zeros(16, np.float32), np.ones(10_000, np.float32)
    begins = samples_of(27) // FRAME - 8  # the last tenth begins in the middle of it
    heard = np.concatenate([spoken[:begins], quiet, spoken])
    monkeypatch.setattr(SpeechDetector, "hear", lambda _, sound: heard[: -(-len(sound) // FRAME)])
    assert ends(babble(40)) * SAMPLE_RATE == pytest.approx((begins + 8) * FRAME, abs=FRAME)


def test_where_every_pause_is_noisy_the_speech_model_is_asked_for_one() -> None:
    voice = speech()[: samples_of(33)]
    quiet = np.repeat(decibels(powers(voice)) < -40, HOP)
    clatter = noise(33, 0.05)[: len(quiet)] * quiet
    noisy = voice[: len(quiet)] + clatter
    point = samples_of(ends(noisy))
    around = decibels(powers(voice[point - 800 : point + 800]))
    assert around.max() < -40, "nobody speaks at the cut"


def test_without_the_speech_model_the_quietest_place_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_model", lambda: None)
    sound = babble(40)
    sound[samples_of(22) : samples_of(22.3)] *= 0.5
    assert ends(sound) == pytest.approx(22.15, abs=0.1)


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
