"""Counting the words that are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.error_rate import word_error_rate, word_errors, words_of

word_lists = st.lists(st.sampled_from(["one", "two", "three"]), max_size=12)


def errors_by_definition(said: list[str], heard: list[str]) -> int:
    """Levenshtein's recurrence, cell by cell."""
    above = list(range(len(heard) + 1))
    for row, word in enumerate(said, start=1):
        here = [row]
        for column, other in enumerate(heard, start=1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (word != other)))
        above = here
    return above[-1]


@given(word_lists, word_lists)
def test_errors_are_the_fewest_changes_between_two_texts(said: list[str], heard: list[str]) -> None:
    assert word_errors(" ".join(said), " ".join(heard)) == errors_by_definition(said, heard)


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("Good morning, everybody!", "good morning everybody", 0.0),
        ("It’s well-known.", "its' well known", 0.0),
        ("one two three four", "one too three four", 0.25),
        ("one two three four", "one three four", 0.25),
        ("one two three four", "one two and three four", 0.25),
        ("one two", "two one two three four five", 2.0),
        ("Straße ÉCOLE", "STRASSE école", 0.0),
        ("e\u0301cole", "\u00e9cole", 0.0),
        ("नमस्ते दुनिया", "नमस्ते", 0.5),
        ("", "", 0.0),
        ("", "two words", 2.0),
        ("two words", "", 1.0),
    ],
)
def test_the_rate_is_errors_for_each_word_said(said: str, heard: str, rate: float) -> None:
    assert word_error_rate(said, heard) == rate


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert words_of("— Don't you know?  The 2 «Rivers»… (yes)") == ["dont", "you", "know", "the", "2", "rivers", "yes"]


def test_an_hour_of_speech_can_be_compared() -> None:
    said = [str(number * number % 997) for number in range(9000)]

    assert word_errors(" ".join(said), " ".join([*said[:4000], "lost", *said[4003:], "found"])) == 4
