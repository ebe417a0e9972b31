"""Segments become cues that can be read at a glance; nothing is lost, added or moved."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from support.spoken import transcript_of

from whisper_farm.transcript.cues import (
    LONG_PAUSE_SECONDS,
    MOST_CHARACTERS,
    MOST_SECONDS,
    CueLayout,
    lines_of,
    readable,
)
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.transcript import Segment, Word


def spoken(text: str, seconds_a_word: float = 0.3, pauses: dict[int, float] | None = None) -> Segment:
    """A segment of these words, one after the other; `pauses` come after the words of these numbers."""
    words, at = [], 0.0
    for number, word in enumerate(text.split()):
        words.append(Word(at, at + seconds_a_word, f" {word}", 0.9))
        at += seconds_a_word + (pauses or {}).get(number, 0.0)
    return Segment(0.0, words[-1].end, "".join(word.text for word in words), tuple(words), -0.2)


def texts(segment: Segment) -> list[str]:
    return [cue.text.strip() for cue in readable(segment)]


def test_a_short_segment_stays_as_it_is() -> None:
    segment = spoken("It is a very large farm, in a green valley.")
    assert list(readable(segment)) == [segment]


def test_a_paragraph_is_broken_where_sentences_end() -> None:
    sentences = [
        "It is a very large farm in a green valley between two rivers.",
        "Every autumn the apples have to be picked before the winter comes.",
        "How many trees are we talking about?",
    ]
    assert texts(spoken(" ".join(sentences), 0.1)) == sentences


def test_a_long_sentence_is_broken_at_commas_before_anywhere_else() -> None:
    text = "One man alone would need the whole winter, and most of the fruit would be lost to the frost of the north."
    assert texts(spoken(text, 0.1)) == [
        "One man alone would need the whole winter,",
        "and most of the fruit would be lost to the frost of the north.",
    ]


def test_without_commas_a_pause_is_the_place() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    cues = texts(spoken(text, 0.1, pauses={8: 0.5}))
    assert cues[0].endswith("nine")


def test_a_slow_segment_is_broken_by_its_seconds() -> None:
    cues = list(readable(spoken("a very slow speaker who takes his time over it", 1.3)))
    assert all(cue.end - cue.start <= MOST_SECONDS for cue in cues)
    assert len(cues) == 2


def test_no_cue_goes_on_over_a_long_pause() -> None:
    cues = texts(spoken("Hello there. And goodbye.", pauses={1: 15.0}))
    assert cues == ["Hello there.", "And goodbye."]


def test_a_segment_without_word_times_stays_whole() -> None:
    segment = Segment(0.0, 20.0, " word" * 100)
    assert list(readable(segment)) == [segment]


LONG = "They want a single number, and they want her to say that the sea will rise by so much each year."


def laid_out(text: str, layout: CueLayout, format: str = "srt") -> list[list[str]]:
    """The lines of every cue of a file."""
    file = FORMATS[format].laid_out(layout).write(transcript_of(spoken(text))).decode()
    return [cue.split("\n")[2:] for cue in file.removeprefix("WEBVTT\n").strip().split("\n\n")]


def test_lines_are_broken_at_good_places_and_no_more_of_them_than_need_be() -> None:
    assert laid_out(LONG, CueLayout(max_line_width=42))[-1] == [
        "and they want her to say that the",
        "sea will rise by so much each year.",
    ]
    assert laid_out("Yes, of course, it is a very large farm.", CueLayout(max_line_width=25)) == [
        ["Yes, of course,", "it is a very large farm."]
    ]


def test_a_cue_with_too_many_lines_becomes_several_and_words_a_line_are_counted() -> None:
    assert all(len(cue) == 1 and len(cue[0]) <= 42 for cue in laid_out(LONG, CueLayout(42, 1)))
    cues = laid_out(LONG, CueLayout(max_words_per_line=3))
    assert all(len(cue) == 1 and len(cue[0].split()) <= 3 for cue in cues)
    assert all(len(cue) <= 2 for cue in laid_out(LONG, CueLayout(20, 2)))


def test_the_word_that_is_spoken_is_underlined_and_what_was_markup_stays_text() -> None:
    assert laid_out("So <i> said", CueLayout(highlight_words=True))[1] == ["So <u><i></u> said"]
    file = FORMATS["vtt"].laid_out(CueLayout(highlight_words=True)).write(transcript_of(spoken("So <i>"))).decode()
    assert "So <u>&lt;i></u>" in file


def test_formats_without_cues_have_no_layout() -> None:
    for name in ("txt", "tsv", "json"):
        assert FORMATS[name].laid_out(CueLayout(10, 1)) is FORMATS[name]


layouts = st.builds(
    lambda width, count, most: CueLayout(width, count if width or most else None, most),
    *(st.none() | st.integers(1, number) for number in (60, 3, 8)),
)


words = st.lists(
    st.tuples(
        st.text("abcdefghij.,?!", min_size=1, max_size=25),
        st.floats(0.0, 3.0),
        st.floats(0.0, 4.0),
    ),
    min_size=1,
    max_size=60,
)


@given(words, layouts)
def test_whatever_layout_is_asked_for_nothing_is_lost_and_lines_and_cues_are_as_asked(
    said: list[tuple[str, float, float]], layout: CueLayout
) -> None:
    at, made = 0.0, []
    for text, length, pause in said:
        made.append(Word(at, at + length, f" {text}", None))
        at += length + pause
    cues = list(readable(Segment(0.0, at, "".join(word.text for word in made), tuple(made)), layout))
    assert [word for cue in cues for word in cue.words] == made
    for cue in cues:
        lines = lines_of(cue.words, layout)
        assert [word for line in lines for word in line] == list(cue.words)
        assert len(lines) <= (layout.max_line_count or len(lines)) or len(cue.words) == 1
        for line in lines:
            text = "".join(word.text for word in line).strip()
            assert len(line) == 1 or len(text) <= (layout.max_line_width or MOST_CHARACTERS)
            assert len(line) <= (layout.max_words_per_line or len(line))


@given(words)
def test_whatever_is_said_nothing_is_lost_added_or_moved_and_every_cue_can_be_read(
    said: list[tuple[str, float, float]],
) -> None:
    at, made = 0.0, []
    for text, length, pause in said:
        made.append(Word(at, at + length, f" {text}", None))
        at += length + pause
    segment = Segment(0.0, at, "".join(word.text for word in made), tuple(made))
    cues = list(readable(segment))
    assert [word for cue in cues for word in cue.words] == made
    assert "".join(cue.text for cue in cues) == segment.text
    assert all(one.end <= other.start for one, other in pairwise(cues))
    for cue in cues:
        assert len(cue.text.strip()) <= MOST_CHARACTERS or len(cue.words) == 1
        assert len(cue.words) == 1 or cue.words[-1].end - cue.words[0].start <= MOST_SECONDS + 1e-9
        assert all(other.start - one.end < LONG_PAUSE_SECONDS for one, other in pairwise(cue.words))
