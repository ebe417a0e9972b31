"""Languages by name, and times as people read them."""

from __future__ import annotations

import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.spoken import transcript_of

from whisper_farm.cli.recognition_flags import language_code
from whisper_farm.cli.session import languages_in_words
from whisper_farm.cli.words import span, speed
from whisper_farm.times import clock
from whisper_farm.transcript.languages import LANGUAGES, OTHER_LANGUAGE_NAMES
from whisper_farm.transcript.transcript import Segment


@pytest.mark.parametrize(
    ("written", "code"),
    [("en", "en"), ("English", "en"), ("ENGLISH", "en"), ("pt-BR", "pt"), ("zh_CN", "zh"), ("Mandarin", "zh"),
     ("Haitian Creole", "ht"), ("castilian", "es"), ("yue", "yue"), ("auto", None), ("None", None)],
)  # fmt: skip
def test_a_language_is_known_by_code_and_by_name(written: str, code: str | None) -> None:
    assert language_code(written) == code


def test_what_is_no_language_is_said_to_be_none() -> None:
    with pytest.raises(click.BadParameter, match=r"'Germn' is no language Whisper knows\. Did you mean 'german'\?"):
        language_code("Germn")
    with pytest.raises(click.BadParameter, match=r"'Klingon' is .* Give a code or an English name, as de or German"):
        language_code("Klingon")


def test_every_other_name_means_a_language_there_is() -> None:
    assert set(OTHER_LANGUAGE_NAMES.values()) <= set(LANGUAGES)
    assert len(LANGUAGES) == 100
    assert len(set(LANGUAGES.values())) == len(LANGUAGES)


def test_the_languages_are_those_of_whisper() -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert set(LANGUAGES) == set(_LANGUAGE_CODES)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (10.499, "0:10"), (10.999, "0:11"), (59.5, "1:00"), (3599.5, "1:00:00"), (36_061, "10:01:01")],
)
def test_the_clock_is_right_to_the_nearest_second_as_that_of_the_web_app(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (41, "41 s"),
        (182, "3 min 2 s"),
        (10.5, "11 s"),
        (59.6, "1 min"),
        (7199, "2 h"),
        (36_300, "10 h 5 min"),
    ],
)
def test_spans_read_as_one_says_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


@given(st.floats(0, 59 * 3600))
def test_no_time_shows_sixty_seconds(seconds: float) -> None:
    assert not re.search(r"\b60( s|\b:|\.)|:60", span(seconds) + " " + clock(seconds))


def test_speeds() -> None:
    assert speed(4.44) == "4.4 ×"
    assert speed(310.2) == "310 ×"


def test_a_recording_in_which_several_languages_were_heard_says_so_and_how_long_each() -> None:
    english, french = Segment(0, 50, " Hello.", language="en"), Segment(50, 63, " Bonjour.", language="fr")
    assert (
        languages_in_words(transcript_of(english, french))
        == "several languages were heard: English (50 s), French (13 s)"
    )
    assert languages_in_words(transcript_of(english)) == ""
