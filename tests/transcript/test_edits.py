"""Edits are a layer: what they do not touch stays as it is, undo is exact, words keep their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_farm.transcript.edits import (
    Edit,
    Patch,
    Rename,
    difference,
    laid,
    next_steps,
    patches_of,
    replaced,
    within,
)
from whisper_farm.transcript.fitting import fitted
from whisper_farm.transcript.transcript import Segment, Word


def spoken(start: float, *texts: str, each: float = 1.0, probability: float | None = 0.9) -> Segment:
    """A segment of these words, one after the other."""
    words = tuple(
        Word(start + n * each, start + (n + 1) * each, f" {text}", probability) for n, text in enumerate(texts)
    )
    return Segment(start, start + len(texts) * each, "".join(word.text for word in words), words)


def text_of(segments: Sequence[Segment]) -> str:
    return "|".join(segment.text.strip() for segment in segments)


def times(segments: Sequence[Segment]) -> list[tuple[str, float, float]]:
    return [(word.text.strip(), word.start, word.end) for segment in segments for word in segment.words]


TALK = (spoken(0, "one", "two", "three"), spoken(4, "four", "five"), spoken(8, "six", "seven", "eight"))

numbers = st.integers(0, 60).map(lambda tenths: tenths / 2)


@st.composite
def machines(draw: st.DrawFn) -> tuple[Segment, ...]:
    """Segments in order and apart from each other; each word is named after its place."""
    found: list[Segment] = []
    at, name = 0.0, 0
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.sampled_from([0.0, 0.5, 3.0]))
        begin, words = at, []
        for _ in range(draw(st.integers(1, 5))):
            length = draw(st.sampled_from([0.0, 0.5, 1.0]))
            words.append(Word(at, at + length, f" w{name}", 0.5))
            at, name = at + length, name + 1
        with_words = draw(st.integers(0, 4)) > 0
        text = "".join(word.text for word in words)
        found.append(Segment(begin, at, text, tuple(words) if with_words else ()))
    return tuple(found)


@st.composite
def logs(draw: st.DrawFn) -> list[Edit]:
    """Any log: patches of any stretch, names, reversals of anything before."""
    edits: list[Edit] = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        kind = draw(st.sampled_from(["patch", "machine", "rename", "reverse"]))
        start, end = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
        if kind == "reverse" and edits:
            reverses = draw(st.lists(st.integers(1, number - 1), min_size=1, max_size=3, unique=True))
            edits.append(Edit(number, "ann", reverses=tuple(reverses)))
        elif kind == "rename":
            edits.append(Edit(number, "ann", rename=Rename(draw(st.sampled_from([None, "A"])), "A")))
        else:
            new = (Segment(start, end, f" p{number}", (Word(start, end, f" p{number}"),)),)
            edits.append(Edit(number, "ann", (Patch(start, end, None if kind == "machine" else new),)))
    return edits


@given(machines(), logs())
@settings(max_examples=300)
def test_words_that_no_patch_touches_are_there_once_and_as_they_were(
    machine: tuple[Segment, ...], log: list[Edit]
) -> None:
    text = laid(machine, log)
    patches = [(patch.start, patch.end) for edit in log for patch in edit.patches]
    for segment in machine:
        for word in segment.words:
            middle = (word.start + word.end) / 2
            if not any(start <= middle <= end for start, end in patches):
                assert sum(one.text == word.text for found in text for one in found.words) == 1
    names = [word.text for segment in text for word in segment.words]
    assert len(names) == len(set(names))


@given(machines(), logs())
@settings(max_examples=300)
def test_segments_stay_in_order_of_time_and_apart(machine: tuple[Segment, ...], log: list[Edit]) -> None:
    reached = 0.0
    for segment in laid(machine, log):
        assert reached <= segment.start <= segment.end
        reached = segment.end
        inner = segment.start
        for word in segment.words:
            assert inner <= word.start <= word.end <= segment.end
            inner = word.end


@given(machines(), logs(), st.data())
@settings(max_examples=200)
def test_undo_puts_back_and_redo_does_it_again(
    machine: tuple[Segment, ...], log: list[Edit], data: st.DataObject
) -> None:
    before = laid(machine, log)
    number = len(log) + 1
    start, end = sorted(data.draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    edit = Edit(number, "bob", (Patch(start, end, (Segment(start, end, " new"),)),))
    undone = [*log, edit, Edit(number + 1, "bob", reverses=(number,))]
    assert laid(machine, undone) == before
    assert laid(machine, [*undone, Edit(number + 2, "bob", reverses=(number + 1,))]) == laid(machine, [*log, edit])
    back = Edit(number + 1, "bob", reverses=tuple(range(1, number + 1)))
    assert laid(machine, [*log, edit, back]) == list(machine)


@given(machines(), logs(), machines(), logs())
@settings(max_examples=200)
def test_a_difference_makes_the_new_text_of_the_old_one(
    one: tuple[Segment, ...], log: list[Edit], other: tuple[Segment, ...], more: list[Edit]
) -> None:
    old, new = laid(one, log), laid(other, more)
    made: list[Segment] = list(old)
    for splice in reversed(difference(old, new)):
        made[splice.at : splice.at + splice.removed] = splice.segments
    assert made == new
    assert difference(old, old) == []


@given(machines(), st.lists(st.sampled_from(["w0", "w1", "w2", "new", "日", "本", "W1,"]), min_size=1, max_size=12))
@settings(max_examples=300)
def test_fitted_words_make_up_the_text_and_lie_in_it(machine: tuple[Segment, ...], texts: list[str]) -> None:
    wanted = Segment(0, 30, " ".join(texts))
    (found,) = fitted([wanted], machine)
    if any(segment.words for segment in machine) or not machine:
        assert "".join(word.text for word in found.words) == found.text
    assert found.text.split() == wanted.text.split()
    reached = found.start
    for word in found.words:
        assert reached <= word.start <= word.end <= found.end
        reached = word.end


def test_words_that_stay_keep_times_and_doubts_and_new_ones_share_the_time_of_what_they_replace() -> None:
    (found,) = fitted([Segment(0, 3, "one and a half three")], TALK[:1])
    assert times([found]) == [
        ("one", 0, 1),
        ("and", 1, 1.375),
        ("a", 1.375, 1.5),
        ("half", 1.5, 2),
        ("three", 2, 3),
    ]
    assert [word.probability for word in found.words] == [0.9, None, None, None, 0.9]


def test_a_mark_or_a_capital_moves_no_word_and_ends_the_doubt() -> None:
    (found,) = fitted([Segment(0, 3, "One, two three.")], TALK[:1])
    assert times([found]) == [("One,", 0, 1), ("two", 1, 2), ("three.", 2, 3)]
    assert [word.probability for word in found.words] == [None, 0.9, None]


def test_what_is_split_and_merged_has_the_same_words_as_before() -> None:
    split = fitted([Segment(0, 1, "one"), Segment(1, 3, "two three")], TALK[:1])
    assert times(split) == times(TALK[:1])
    (merged,) = fitted([Segment(0, 6, "one two three four five")], TALK[:2])
    assert times([merged]) == times(TALK[:2])
    assert all(word.probability == 0.9 for word in merged.words)


def test_languages_without_spaces_are_compared_letter_by_letter() -> None:
    old = Segment(0, 4, "こんにちは世界", (Word(0, 2, "こんにちは", 0.8), Word(2, 4, "世界", 0.7)))
    (found,) = fitted([Segment(0, 4, "こんにちは世間")], [old])
    assert found.words[0] == Word(0, 2, "こんにちは", 0.8)
    assert times([found])[1:] == [("世", 2, 3), ("間", 3, 4)]


def test_a_gap_is_filled_with_words_that_share_it_and_text_without_words_stays_so() -> None:
    (found,) = fitted([Segment(10, 14, "new words")], [])
    assert times([found]) == [("new", 10, 11.5), ("words", 11.5, 14)]
    (plain,) = fitted([Segment(0, 3, "other text")], [replace(TALK[0], words=())])
    assert plain.words == ()


def test_long_texts_are_compared_at_their_ends_alone() -> None:
    many = [f"w{n}" for n in range(2000)]
    old = spoken(0, *many)
    (found,) = fitted([Segment(0, 2000, " ".join([*many[:500], "other", *many[501:]]))], [old])
    assert [w.start for w in found.words] == [w.start for w in old.words]
    assert sum(word.probability is None for word in found.words) == 1


def test_edits_are_laid_over_another_machines_text_by_their_times() -> None:
    log = [Edit(1, "ann", (Patch(4, 6, (spoken(4, "FOUR", "FIVE"),)),))]
    again = (spoken(0, "won", "too", "three", "(pause)", "for", "fife", "(pause)"), spoken(8, "six", "seven"))
    assert text_of(laid(again, log)) == "won too three (pause)|FOUR FIVE|(pause)|six seven"
    back = [*log, Edit(2, "ann", (Patch(4, 6, None),))]
    assert text_of(laid(again, back)) == "won too three (pause)|for fife|(pause)|six seven"


def test_a_part_of_a_text_gets_the_patches_that_begin_in_it() -> None:
    log = [Edit(1, "ann", (Patch(4, 11, (Segment(4, 11, " all"),)),))]
    pages = [laid(TALK[:1], log, 0, 4), laid(TALK[1:2], log, 4, 8), laid(TALK[2:], log, 8)]
    assert [text_of(page) for page in pages] == ["one two three", "all", ""]
    assert text_of(laid(TALK, log)) == "one two three|all"


def test_a_name_is_changed_everywhere_and_its_undo_leaves_others_alone() -> None:
    talk = [replace(TALK[0], speaker="A"), replace(TALK[1], speaker="B"), TALK[2]]
    log = [Edit(1, "ann", rename=Rename("A", "B"))]
    assert [one.speaker for one in laid(talk, log)] == ["B", "B", None]
    assert [one.speaker for one in laid(talk, [*log, Edit(2, "ann", reverses=(1,))])] == ["A", "B", None]
    assert [one.speaker for one in laid(talk, [Edit(1, "ann", rename=Rename(None, "C"))])] == ["A", "B", "C"]


def test_a_text_is_replaced_wherever_it_stands_but_for_what_is_struck_out() -> None:
    talk = [TALK[0], replace(TALK[1], struck=True), spoken(8, "Four", "fourteen")]
    patches = replaced(talk, "FOUR", "4")
    assert [(one.start, one.end) for one in patches] == [(8, 10)]
    assert text_of(laid(talk, [Edit(1, "ann", tuple(patches))])) == "one two three|four five|4 4teen"
    gone = replaced(TALK, "one two three", "")
    assert text_of(laid(TALK, [Edit(1, "ann", tuple(gone))])) == "four five|six seven eight"


def test_segments_without_a_length_are_neither_lost_nor_doubled_when_their_neighbour_is_changed() -> None:
    talk = (spoken(0, "one"), Segment(1, 1, " ping", (Word(1, 1, " ping"),)), spoken(1, "two", "two"))
    log = [Edit(1, "ann", tuple(replaced(talk, "two", "2")))]
    assert text_of(laid(talk, log)) == "one|ping|2 2"
    log = [Edit(1, "ann", tuple(replaced(talk, "one", "1")))]
    assert text_of(laid(talk, log)) == "1|ping|two two"


def test_undo_and_redo_go_through_the_own_entries_in_turn() -> None:
    log = [Edit(1, "ann"), Edit(2, "bob"), Edit(3, "ann")]
    assert next_steps(log, "ann") == (3, None)
    log.append(Edit(4, "ann", reverses=(3,)))
    assert next_steps(log, "ann") == (1, 4)
    log.append(Edit(5, "ann", reverses=(1,)))
    assert next_steps(log, "ann") == (None, 5)
    log.append(Edit(6, "ann", reverses=(5,)))
    assert next_steps(log, "ann") == (6, 4)
    log.append(Edit(7, "ann", reverses=(4,)))
    assert next_steps(log, "ann") == (7, None)
    assert next_steps([*log, Edit(8, "ann")], "ann") == (8, None)
    assert next_steps(log, "bob") == (2, None)


def test_an_undo_changes_the_stretches_of_what_it_undoes_however_often() -> None:
    log = [Edit(1, "ann", (Patch(4, 6, None),))]
    log += [Edit(number, "ann", reverses=(number - 1,)) for number in range(2, 5000)]
    assert patches_of(log, [4999]) == [Patch(4, 6, None)]


def test_what_lies_in_a_stretch_is_parted_between_words() -> None:
    assert text_of(within(TALK, 1, 5)) == "two three|four"
    assert within(TALK, 3, 4) == []


def both_at_once() -> list[Segment]:
    """Ann speaks from 0 to 6, and Bob from 2 to 4."""
    return [replace(spoken(0, *"abcdef"), speaker="Ann"), replace(spoken(2, "yes", "no"), speaker="Bob")]


def test_a_patch_of_one_speaker_leaves_alone_what_another_says_at_the_same_time() -> None:
    (new,) = fitted([Segment(0, 6, "a b c d e F!", speaker="Ann")], both_at_once()[:1])
    log = [Edit(1, "ann", (Patch(0, 6, (new,), ("Ann",)),))]
    text = laid(both_at_once(), log)
    assert text_of(text) == "a b c d e F!|yes no"
    assert text_of(within(text, 2, 4, ["Ann"])) == "c d"
    back = [*log, Edit(2, "ann", (Patch(2, 4, None, ("Bob",)),))]
    assert text_of(laid(both_at_once(), back)) == "a b c d e F!|yes no"


def test_replacing_leaves_alone_what_another_says_at_the_same_time() -> None:
    patches = replaced(both_at_once(), "f", "x")
    assert [(one.start, one.end, one.speakers) for one in patches] == [(0, 6, ("Ann",))]
    assert text_of(laid(both_at_once(), [Edit(1, "ann", tuple(patches))])) == "a b c d e x|yes no"


def test_what_a_patch_of_everybody_cuts_stays_in_order_of_time() -> None:
    talk = [*both_at_once(), replace(spoken(7, "later"), speaker="Bob"), spoken(9, "end")]
    text = laid(talk, [Edit(1, "ann", (Patch(3, 5, (Segment(3, 5, " both"),)),))])
    assert text_of(text) == "a b c|yes|both|f|later|end"
    assert [one.start for one in text] == sorted(one.start for one in text)
