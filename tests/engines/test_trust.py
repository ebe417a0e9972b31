"""Speech and text held against each other: which speech has no words, and which words nobody spoke."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.engines.trust import (
    UNHEARD_SECONDS,
    Span,
    at_onset,
    echoes,
    nobody_speaks,
    overlap,
    where_spoken,
    without_words,
)
from whisper_farm.engines.windows import Decoded

spans = st.lists(st.floats(0, 30), max_size=16).map(
    lambda edges: list(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)


def decoded(logprob: float = -0.9, silence: float = 0.1, temperature: float = 0.0, ratio: float = 1.5) -> Decoded:
    return Decoded((1,), True, logprob, silence, ratio, temperature)


def test_speech_after_the_last_word_is_without_words() -> None:
    assert without_words([(0.0, 12.0), (14.0, 20.0)], [(0.2, 0.5), (0.6, 11.0)]) == [
        (pytest.approx(1.85), 20.0),
    ], "a word counts for a second, however long it is said to be"


def test_a_hole_between_words_is_found_and_a_breath_is_not() -> None:
    words = [(n * 0.4, n * 0.4 + 0.3) for n in range(10)] + [(8.0 + n * 0.4, 8.3 + n * 0.4) for n in range(10)]
    assert without_words([(0.0, 4.0), (8.0, 12.0)], words) == []
    assert without_words([(0.0, 12.0)], words) == [(pytest.approx(4.15), pytest.approx(7.75))]


def test_without_any_word_all_speech_is_a_hole() -> None:
    assert without_words([(1.0, 2.5)], []) == [(1.0, 2.5)]
    assert without_words([(1.0, 1.5)], []) == []


@given(spans, spans)
def test_holes_hold_enough_speech_and_no_word_begins_in_one(speech: list[Span], words: list[Span]) -> None:
    for start, end in without_words(speech, words):
        assert overlap((start, end), speech) >= UNHEARD_SECONDS - 1e-6
        assert not any(start < word[0] < end for word in words)


@given(spans, spans)
def test_every_second_of_speech_has_a_word_near_it_or_is_in_a_hole_or_is_too_short(
    speech: list[Span], words: list[Span]
) -> None:
    holes = without_words(speech, words)
    covered = [(start - 0.25, min(end, start + 1.0) + 0.25) for start, end in words]
    left = [(start, end) for start, end in speech]
    for start, end in (*holes, *covered):
        left = [
            part
            for one, other in left
            for part in ((one, min(other, start)), (max(one, end), other))
            if part[0] < part[1]
        ]
    between = sorted({0.0, 30.0, *(edge for span in covered for edge in span)})
    for one, other in itertools.pairwise(between):
        assert overlap((one, other), left) < UNHEARD_SECONDS + 1e-6


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((3.0, 5.6), (4.9, 5.6)),
        ((7.5, 9.5), (7.5, 8.1)),
        ((4.95, 5.5), (4.95, 5.5)),
        ((6.0, 6.5), (6.0, 6.5)),
        ((20.0, 21.0), (20.0, 21.0)),
    ],
)
def test_a_word_that_was_stretched_over_silence_is_where_it_is_spoken(span: Span, expected: Span) -> None:
    assert where_spoken(span, [(5.0, 8.0)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("span", "expected"),
    [((2.9, 4.8), (3.9, 4.7)), ((2.0, 4.2), (2.0, 3.1)), ((4.0, 5.4), (4.0, 5.4)), ((1.0, 6.0), (1.4, 3.1))],
)
def test_a_word_that_was_stretched_over_a_pause_is_on_the_side_where_it_is_spoken_longest(
    span: Span, expected: Span
) -> None:
    assert where_spoken(span, [(1.5, 3.0), (4.0, 4.6), (4.8, 6.0)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("span", "text", "expected"),
    [
        ((10.0, 12.0), decoded(), True),
        ((10.0, 12.0), decoded(logprob=-0.2), False),
        ((10.0, 12.0), decoded(logprob=-0.2, silence=0.9), True),
        ((10.0, 12.0), decoded(logprob=-0.2, temperature=0.4), True),
        ((10.0, 12.0), decoded(logprob=-0.2, ratio=4.6), True),
        ((4.0, 6.0), decoded(logprob=-0.2, ratio=4.6), False),
        ((4.0, 6.0), decoded(), False),
        ((4.9, 6.0), decoded(), True),
        ((5.0, 5.0), decoded(), True),
    ],
)
def test_text_that_nobody_spoke_is_told_unless_it_is_sure_of_itself(span: Span, text: Decoded, expected: bool) -> None:
    assert nobody_speaks(span, [(0.0, 5.0)], text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" Ada Lovelace,", True), (" lovelace. Grace", True), (" Grace Kelly", False), (" Ad", False), (" …", False)],
)
def test_a_text_that_repeats_what_the_model_was_told_is_known_and_counts_only_with_speech_under_it(
    text: str, expected: bool
) -> None:
    assert echoes(text, "Ada Lovelace, Grace Hopper.") is expected
    assert not echoes(text, None)
    assert nobody_speaks((10.0, 12.0), [(0.0, 5.0)], decoded(logprob=-0.2), echo=True)
    assert not nobody_speaks((4.0, 6.0), [(0.0, 5.0)], decoded(), echo=True)


@pytest.mark.parametrize(
    ("start", "earlier", "expected"),
    [(5.4, 0.0, 5.0), (5.4, 5.05, 5.0), (5.4, 5.2, 5.4), (5.8, 0.0, 5.8), (4.9, 0.0, 4.9), (9.0, 0.0, 9.0)],
)
def test_a_first_word_begins_at_the_onset_of_speech(start: float, earlier: float, expected: float) -> None:
    assert at_onset(start, earlier, [(5.0, 8.0)]) == expected
