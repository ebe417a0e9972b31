"""Segments become cues that can be read at a glance; nothing is lost, added or moved."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_farm.transcript.cues import LONG_PAUSE_SECONDS, MOST_CHARACTERS, MOST_SECONDS, readable
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


words = st.lists(
    st.tuples(
        st.text("abcdefghij.,?!", min_size=1, max_size=25),
        st.floats(0.0, 3.0),
        st.floats(0.0, 4.0),
    ),
    min_size=1,
    max_size=60,
)


@given(words)
@settings(deadline=None)
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
