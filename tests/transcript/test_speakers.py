"""Voices that are alike are one speaker; every word is given to one, and none is lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.spoken import segments

from whisper_farm.transcript.speakers import Speakers, Voices, speakers_of
from whisper_farm.transcript.transcript import Segment, Word, text_of

DIMENSIONS = 64


def voices(who: Sequence[int], start: float = 0.0, spread: float = 0.7, seed: int = 1, model: str = "m") -> Voices:
    """A window of 1.5 s every 0.75 s; two of one speaker have a cosine of some 0.65, of two speakers none."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(who), DIMENSIONS)) / DIMENSIONS**0.5
    spans = [(start + 0.75 * n, start + 0.75 * n + 1.5) for n in range(len(who))]
    made = Voices(model, spans, (np.eye(DIMENSIONS)[list(who)] + spread * noise).astype(np.float32))
    return Voices.unpacked(model, spans, made.packed())


def words(count: int, ends: Sequence[int] = ()) -> Segment:
    """A word every quarter of a second; a sentence ends with some of them."""
    said = [Word(n / 4, n / 4 + 0.2, f" w{n}" + ("." if n in ends else "")) for n in range(count)]
    return Segment(said[0].start, said[-1].end, text_of(said), tuple(said))


def names(found: Sequence[Segment]) -> list[str | None]:
    return [one.speaker for one in found]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_as_many_speakers_are_found_as_speak(count: int) -> None:
    chunks = [voices([(n + chunk) % count] * 12, 30.0 * chunk, seed=n) for chunk in range(4) for n in range(count)]
    assert len(speakers_of(chunks).means) == count


def test_bounds_are_heeded() -> None:
    chunks = [voices([who] * 20, seed=who) for who in range(4)]
    assert len(speakers_of(chunks, most=2).means) == 2
    assert len(speakers_of(chunks, least=6).means) >= 6
    assert len(speakers_of([voices([0] * 40)], least=2, most=2).means) == 2


def through(microphone: int, who: int) -> Voices:
    """Sixty windows of somebody: those through another microphone have a cosine of some 0.39, their means of 0.73."""
    heard = voices([who] * 60, 60.0 * microphone, spread=1.1, seed=10 * microphone + who)
    moved = heard.vectors * np.linalg.norm([1, 1.1]) + 0.6 * np.eye(DIMENSIONS)[10 + microphone]
    return Voices.unpacked("m", heard.spans, Voices("m", heard.spans, moved.astype(np.float32)).packed())


def test_who_speaks_through_two_microphones_is_one_speaker() -> None:
    chunks = [through(microphone, who) for microphone in (0, 1) for who in (0, 1)]
    assert len(speakers_of(chunks).means) == 2
    assert len(speakers_of(chunks, least=4).means) == 4


def test_by_telephone_one_whose_windows_differ_is_one_speaker() -> None:
    chunks = [replace(voices([0] * 20, 30.0 * n, spread=1.05, seed=n), narrow=True) for n in range(4)]
    assert len(speakers_of(chunks).means) == 1


def turn(number: int, who: int) -> Voices:
    """Twenty windows of somebody who sounds another way in each turn."""
    heard = voices([who] * 20, 15.0 * number, spread=0.9, seed=number)
    away = np.random.default_rng(number).normal(size=DIMENSIONS)
    moved = heard.vectors * np.linalg.norm([1, 0.9]) + 0.8 * away / np.linalg.norm(away)
    return Voices.unpacked("m", heard.spans, Voices("m", heard.spans, moved.astype(np.float32)).packed())


def test_two_who_sound_another_way_in_each_turn_of_a_long_recording_are_two() -> None:
    assert len(speakers_of([turn(n, n % 2) for n in range(120)]).means) == 2


def test_who_says_two_sentences_in_an_hour_is_a_speaker() -> None:
    hour = [voices([n % 2] * 30, 30.0 * n, seed=n) for n in range(120)]
    rare = [voices([0] * 26 + [2] * 4, 30.0 * n, seed=n) for n in (120, 121)]
    found = speakers_of([*hour, *rare])
    assert len(found.means) == 3
    first = Voices("m", [(n * 0.75, n * 0.75 + 1.5) for n in range(30)], rare[0].vectors)
    assert len(found.told_apart([words(94, ends=[79])], first)) == 2
    assert len(speakers_of([*hour, *rare], most=2).means) == 2
    assert len(speakers_of([*hour, *rare], least=3).means) == 3


def test_single_windows_here_and_there_are_no_speaker_in_an_hour() -> None:
    hour = [voices([n % 2] * 29 + [2 if n % 10 == 0 else n % 2], 30.0 * n, seed=n) for n in range(120)]
    assert len(speakers_of(hour).means) == 2


def test_a_few_windows_of_noise_are_no_speaker() -> None:
    assert len(speakers_of([voices([0] * 30 + [1] * 30 + [2, 3, 4, 5])]).means) == 2


def test_what_another_model_made_is_not_compared() -> None:
    found = speakers_of([voices([0] * 20), voices([1] * 20, seed=2), voices([2] * 5, model="other")])
    assert (found.model, len(found.means)) == ("m", 2)
    other = voices([2] * 5, model="other")
    assert names(found.told_apart([words(8)], other)) == [None]


def test_the_order_of_the_chunks_changes_nothing_but_the_numbers() -> None:
    chunks = [voices([who] * 20, seed=who) for who in (0, 1, 2)]
    first, again = speakers_of(chunks), speakers_of(chunks)
    assert np.array_equal(first.means, again.means)
    assert np.allclose(np.sort(first.means @ speakers_of(chunks[::-1]).means.T)[:, -1], 1, atol=1e-3)


def test_a_segment_is_cut_at_the_end_of_a_sentence_where_the_speaker_changes() -> None:
    heard = voices([0] * 5 + [1] * 6)
    found = speakers_of([heard]).told_apart([words(35, ends=[16])], heard)
    assert [one.text.split()[-1] for one in found] == ["w16.", "w34"]
    assert len(set(names(found))) == 2


def test_one_noisy_window_inside_a_phrase_changes_no_speaker() -> None:
    sure = speakers_of([voices([0] * 20), voices([1] * 20, seed=2)])
    found = sure.told_apart([words(30)], voices([0] * 4 + [1] + [0] * 5))
    assert len(found) == 1


def test_without_voices_nobody_is_named() -> None:
    none = Voices("m", [], np.zeros((0, DIMENSIONS), np.float32))
    assert len(speakers_of([]).means) == len(speakers_of([none]).means) == 0
    assert speakers_of([none]).told_apart([words(4)], none) == (words(4),)
    assert Voices.unpacked("m", [], none.packed()).spans == []


@given(segments(), st.lists(st.integers(0, 2), max_size=40), st.integers(0, 9))
def test_nothing_is_lost_or_added_by_cutting(said: tuple[Segment, ...], who: list[int], seed: int) -> None:
    sure = Speakers("m", np.eye(3, DIMENSIONS, dtype=np.float32))
    found = sure.told_apart(said, voices(who, said[0].start if said else 0.0, seed=seed))
    assert [word for one in found for word in one.words] == [word for one in said for word in one.words]
    texts = [one.text if not one.spelled_words else text_of(one.words).strip() for one in said]
    assert "".join("".join(texts).split()) == "".join("".join(one.text for one in found).split())
    assert all(one.start <= one.end for one in found)


def test_ten_hours_of_voices_take_seconds_whatever_they_are() -> None:
    rng = np.random.default_rng(1)
    spans = [(float(n), n + 1.5) for n in range(50_000)]
    junk = Voices.unpacked("m", spans, Voices("m", spans, rng.normal(size=(50_000, 192)).astype(np.float32)).packed())
    began = time.process_time()
    assert len(speakers_of([junk]).means) <= 20
    assert time.process_time() - began < 60
