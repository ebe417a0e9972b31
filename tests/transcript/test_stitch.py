"""Many chunks become one transcript: order, offsets and times."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_farm.errors import PositionConflict
from whisper_farm.transcript.stitch import ChunkText, joined, stitch
from whisper_farm.transcript.transcript import Segment, Word

any_time = st.floats(-100, 4000) | st.sampled_from([math.nan, math.inf, -math.inf])


def said(start: float, end: float, text: str) -> Segment:
    return Segment(start, end, text, (Word(start, end, text, 0.9),))


def every_time(segment: Segment) -> list[float]:
    return [segment.start, *(t for word in segment.words for t in (word.start, word.end)), segment.end]


@st.composite
def wild_segments(draw: st.DrawFn) -> Segment:
    """What a broken recogniser could hand in: times in any order, anywhere, or no numbers at all."""
    words = draw(st.lists(st.builds(Word, any_time, any_time, st.sampled_from([" a", "", " "]), any_time), max_size=4))
    text = draw(st.sampled_from([" some", " words", "", " \n"]))
    return Segment(draw(any_time), draw(any_time), text, tuple(words), draw(any_time), draw(any_time))


@st.composite
def wild_chunks(draw: st.DrawFn) -> list[ChunkText]:
    """Chunks of a recording that follow each other, with wild results, in any order."""
    lengths = draw(st.lists(st.floats(0.01, 30), max_size=8))
    starts = [math.fsum(lengths[:n]) for n in range(len(lengths) + 1)]
    results = [tuple(draw(st.lists(wild_segments(), max_size=4))) for _ in lengths]
    heard = [ChunkText(n, starts[n], starts[n + 1], result) for n, result in enumerate(results)]
    return draw(st.permutations(heard))


@given(wild_chunks())
@settings(max_examples=40)
def test_whatever_chunks_hold_times_are_in_order_and_inside_their_chunk(heard: list[ChunkText]) -> None:
    stitched = stitch(heard)

    times = [time for segment in stitched for time in every_time(segment)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(math.isfinite(time) for time in times)
    in_order = sorted(heard, key=lambda chunk: chunk.position)
    homes = [chunk for chunk in in_order for segment in chunk.segments if segment.text.strip()]
    assert len(homes) == len(stitched)
    for chunk, segment in zip(homes, stitched, strict=True):
        assert all(chunk.start <= time <= chunk.end for time in every_time(segment))


@given(wild_chunks())
@settings(max_examples=40)
def test_all_text_is_kept_in_the_order_of_the_chunks_and_only_empty_text_is_dropped(
    heard: list[ChunkText],
) -> None:
    in_order = sorted(heard, key=lambda chunk: chunk.position)
    spoken = [segment for chunk in in_order for segment in chunk.segments if segment.text.strip()]

    stitched = stitch(heard)

    assert [segment.text for segment in stitched] == [segment.text for segment in spoken]
    for before, after in zip(spoken, stitched, strict=True):
        assert [word.text for word in after.words] == [word.text for word in before.words if word.text.strip()]


@given(st.integers(1, 400), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_any_arrival_order_gives_the_same_transcript(chunks: int, chance: random.Random) -> None:
    heard = [
        ChunkText(n, n * 30.0, n * 30.0 + 30, (said(n * 30.0 + 1, n * 30.0 + 2, f" w{n}"),)) for n in range(chunks)
    ]
    chance.shuffle(heard)

    stitched = stitch(iter(heard))

    assert [segment.text for segment in stitched] == [f" w{n}" for n in range(chunks)]
    assert [segment.start for segment in stitched] == [n * 30.0 + 1 for n in range(chunks)]


def test_chunk_two_comes_before_chunk_ten() -> None:
    heard = [ChunkText(n, n * 30.0, n * 30.0 + 30, (said(n * 30.0, n * 30.0 + 1, f" {n}"),)) for n in (1, 10, 11, 2, 0)]

    assert "".join(segment.text for segment in stitch(heard)) == " 0 1 2 10 11"


def test_nothing_is_dropped_past_ninety_nine_chunks_and_the_last_word_of_ten_hours_keeps_its_time() -> None:
    heard = [
        ChunkText(n, n * 30.0, n * 30.0 + 30, (said(n * 30.0 + 29, n * 30.0 + 29.5, f" {n}"),)) for n in range(1200)
    ]

    stitched = stitch(reversed(heard))

    assert len(stitched) == 1200
    assert stitched[-1] == said(35_999.0, 35_999.5, " 1199")


def test_a_result_that_needs_no_correction_is_not_changed() -> None:
    words = (Word(30.5, 31.0, " good", 0.9), Word(31.0, 31.25, " day", None))
    first = Segment(30.5, 31.25, " good day", words, -0.2, 0.01, 1.1, 0.0)
    second = Segment(31.25, 60.0, " to you", (), None, None, None, 0.4)

    assert stitch([ChunkText(1, 30.0, 60.0, (first, second))]) == (first, second)


def test_two_results_for_one_chunk_are_refused_rather_than_said_twice() -> None:
    chunk = ChunkText(3, 90.0, 120.0, (said(91, 92, " once"),))

    with pytest.raises(PositionConflict, match="position 3"):
        stitch([chunk, chunk])


def test_a_time_that_is_no_number_becomes_the_earliest_there_can_be() -> None:
    assert stitch([ChunkText(0, 30, 60, (Segment(math.nan, 40, " x"),))]) == (Segment(30, 40, " x"),)


def test_scores_that_are_no_numbers_are_left_out() -> None:
    segment = Segment(0, 1, " x", (Word(0, 1, " x", math.nan),), math.nan, math.inf, -math.inf, 0.2)

    assert stitch([ChunkText(0, 0, 1, (segment,))]) == (
        Segment(0, 1, " x", (Word(0, 1, " x", None),), temperature=0.2),
    )


def test_a_recording_without_chunks_has_no_segments() -> None:
    assert stitch([]) == ()


def test_two_speakers_may_speak_at_once_and_each_keeps_their_own_times() -> None:
    left = [replace(said(0.0, 4.0, " one"), speaker="Left"), replace(said(6.0, 8.0, " three"), speaker="Left")]
    right = [replace(said(1.0, 5.0, " two"), speaker="Right")]
    found = stitch([ChunkText(0, 0.0, 30.0, (*left, *right))])
    assert [(one.speaker, one.start, one.end) for one in found] == [
        ("Left", 0.0, 4.0),
        ("Right", 1.0, 5.0),
        ("Left", 6.0, 8.0),
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (" She found the sea.", " and it was cold.", (" She found the sea", " and it was cold.")),
        (" She found the sea.", " And it was cold.", (" She found the sea.", " And it was cold.")),
        (" It cost $5.", " and more.", (" It cost $5.", " and more.")),
        (" Well...", " and then", (" Well...", " and then")),
        (" we went to the", " Sea and over the sea.", (" we went to the", " sea and over the sea.")),
        (" we went to", " Paris by train.", (" we went to", " Paris by train.")),
        (" we went to it,", " I think I am", (" we went to it,", " I think I am")),
    ],
)
def test_a_cut_inside_a_sentence_leaves_neither_stop_nor_capital(
    before: str, after: str, expected: tuple[str, str]
) -> None:
    one, other = ChunkText(0, 0, 9, (said(0, 9, before),)), ChunkText(1, 9, 18, (said(9, 18, after),))
    made = joined(one, other)
    assert tuple(chunk.segments[0].text for chunk in made) == expected
    assert tuple(chunk.segments[0].words[0].text for chunk in made) == expected
    assert joined(one, replace(other, position=2)) == (one, replace(other, position=2)), "something between is missing"


def test_what_nobody_said_is_joined_to_nothing() -> None:
    one, other = ChunkText(0, 0, 9, ()), ChunkText(1, 9, 18, (said(9, 18, " and then"),))
    assert joined(one, other) == (one, other)
