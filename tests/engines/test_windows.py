"""What becomes of a window's tokens: which are kept, in which phrases, what is heard next, what is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.engines.windows import Decoded, Phrase, best, goes_on, in_circles, language_of, phrases_of, step
from whisper_farm.transcript.options import RecognitionOptions

END, STAMP = 50257, 50364


def at(seconds: float) -> int:
    return STAMP + round(seconds / 0.02)


def decoded(
    *tokens: int,
    ended: bool = True,
    logprob: float = -0.3,
    silence: float = 0.1,
    ratio: float = 1.5,
    circles: bool = False,
    phrases: int = 1,
) -> Decoded:
    return Decoded(tokens, ended, logprob, silence, ratio, 0.0, circles, phrases)


REST = tuple(range(1, 9))


def test_a_text_that_ends_early_goes_on_with_what_is_sure_and_can_be_said_in_the_time_that_is_left() -> None:
    assert goes_on(decoded(at(27), *REST, at(29)), STAMP, 29.5)
    assert goes_on(decoded(at(27), *REST), STAMP, 29.5)
    assert not goes_on(decoded(at(27), *REST, logprob=-0.6), STAMP, 29.5), "not sure"
    assert not goes_on(decoded(at(27), *REST, at(26)), STAMP, 29.5), "back in time"
    assert not goes_on(decoded(at(28.8), *REST, at(29.4)), STAMP, 29.5), "eight tokens in 0.7 s: a loop"
    assert not goes_on(decoded(at(27)), STAMP, 29.5), "no text"
    assert not goes_on(decoded(), STAMP, 29.5)


def test_phrases_begin_where_two_stamps_meet() -> None:
    phrases = phrases_of([at(0), 1, 2, at(2), at(3), 3, at(4)], STAMP, END, 10)
    assert [(p.start, p.end, p.tokens) for p in phrases] == [(0, 2, (1, 2)), (3, 4, (3,))]


def test_text_without_a_last_stamp_is_a_phrase_to_the_end_of_the_window() -> None:
    phrases = phrases_of([at(0), 1, at(2), at(3), 2, 3], STAMP, END, 10)
    assert [(p.start, p.end, p.tokens) for p in phrases] == [(0, 2, (1,)), (3, 10, (2, 3))]


def test_stamps_beyond_the_audio_are_brought_back() -> None:
    [phrase] = phrases_of([at(1), 1, at(30)], STAMP, END, 5)
    assert (phrase.start, phrase.end) == (1, 5)


def test_a_closed_window_moves_on_by_its_whole_length() -> None:
    one = decoded(at(0), 1, at(2), at(2), 2, at(5))
    assert step(one, STAMP, 30, last=False) == (one.tokens, 30)
    assert step(one, STAMP, 30, last=True) == (one.tokens, None)


def test_a_phrase_announced_but_not_written_is_heard_in_another_window() -> None:
    one = decoded(at(0), 1, at(20), at(20.5))
    assert step(one, STAMP, 28, last=True) == ((at(0), 1, at(20)), pytest.approx(20))


def test_a_last_second_that_was_announced_is_not_heard_by_itself() -> None:
    one = decoded(at(0), 1, at(20), at(20.5))
    assert step(one, STAMP, 20.6, last=True) == (one.tokens, None)


def test_a_text_cut_by_its_limit_announces_nothing() -> None:
    one = decoded(at(0), 1, at(20), at(20.5), ended=False)
    assert step(one, STAMP, 28, last=True) == (one.tokens, None)


def test_unfinished_text_is_kept_at_the_end_of_a_chunk_and_heard_again_before_it() -> None:
    one = decoded(at(0), 1, at(20), at(20), 2, 3)
    assert step(one, STAMP, 30, last=True) == (one.tokens, None)
    assert step(one, STAMP, 30, last=False) == ((at(0), 1, at(20)), pytest.approx(20))


@given(
    st.lists(st.one_of(st.integers(0, 50), st.integers(STAMP, STAMP + 1500)), max_size=40),
    st.floats(0.1, 30),
    st.booleans(),
    st.booleans(),
)
def test_any_tokens_give_phrases_inside_the_window_and_a_step_forward(
    tokens: list[int], seconds: float, last: bool, ended: bool
) -> None:
    kept, forth = step(decoded(*tokens, ended=ended), STAMP, seconds, last)
    assert kept == tuple(tokens[: len(kept)])
    assert forth is None or 0 < forth <= seconds
    assert last or forth is not None
    phrases = phrases_of(kept, STAMP, END, seconds)
    assert [t for p in phrases for t in p.tokens] == [t for t in kept if t < END]
    assert all(0 <= p.start <= p.end <= seconds for p in phrases)


def test_what_repeats_or_is_unlikely_is_tried_again_and_silence_is_not() -> None:
    options = RecognitionOptions()
    assert decoded(1).acceptable(options)
    assert not decoded(1, ratio=3, circles=True).acceptable(options)
    assert not decoded(1, ratio=3, logprob=-0.7).acceptable(options)
    assert not decoded(1, ratio=9).acceptable(options)
    assert not decoded(1, logprob=-1.5).acceptable(options)
    assert decoded(1, logprob=-1.5, silence=0.9).acceptable(options)
    assert decoded(1, logprob=-1.5, silence=0.9).silent(options)
    assert not decoded(1, logprob=-0.5, silence=0.9).silent(options)


def test_a_list_that_is_sure_of_itself_is_no_text_in_circles() -> None:
    options = RecognitionOptions()
    assert decoded(1, ratio=3.2, logprob=-0.16).acceptable(options), "prompts that begin alike compress well"
    assert not decoded(1, ratio=3.2, logprob=-0.16).worthless(options)


def test_a_sentence_that_is_said_many_times_has_a_phrase_each() -> None:
    options = RecognitionOptions()
    assert decoded(1, ratio=8.3, phrases=12).acceptable(options)
    assert not decoded(1, ratio=8.3, phrases=12, logprob=-0.6).acceptable(options), "not sure"
    assert not decoded(1, ratio=8.3, phrases=12, circles=True).acceptable(options)
    assert not decoded(1, ratio=8.3, phrases=4).acceptable(options)


def test_a_text_known_to_be_bad_is_worthless() -> None:
    options = RecognitionOptions()
    assert decoded(1, ratio=17.6, logprob=-0.2, circles=True).worthless(options)
    assert decoded(1, logprob=-1.6).worthless(options)
    assert not decoded(1, logprob=-1.2).worthless(options)
    off = RecognitionOptions(compression_ratio_threshold=None, logprob_threshold=None)
    assert not decoded(1, ratio=99, logprob=-99, circles=True).worthless(off)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 oz. " * 9, True),
        ("the same five words again " * 4, True),
        ("no no no no no no", True),
        ("no no no no", False),
        ("Meinom meig " + "dab" * 80, True),
        ("ご視聴ありがとうございました。" * 9, True),
        ("先週の土曜日に、友達と一緒に高い山に登りました。朝はとても晴れていましたが、雨が降り始めました。", False),
        ("please enter your agent number followed by the pound key please enter your password " * 2, False),
        ("one two three four five six", False),
        ("", False),
    ],
)
def test_the_same_words_many_times_running_are_circles(text: str, expected: bool) -> None:
    assert in_circles(text) is expected


def test_thresholds_that_are_off_judge_nothing() -> None:
    off = RecognitionOptions(compression_ratio_threshold=None, logprob_threshold=None, no_speech_threshold=None)
    assert decoded(1, ratio=99, logprob=-99, silence=1).acceptable(off)
    assert not decoded(1, logprob=-99, silence=1).silent(off)


def test_when_no_try_is_good_the_likeliest_that_does_not_repeat_stands() -> None:
    options = RecognitionOptions()
    loud, quiet, poor = decoded(1, ratio=9, logprob=-0.1), decoded(2, logprob=-1.2), decoded(3, logprob=-2)
    assert best([loud, quiet, poor], options) is quiet
    assert best([loud, decoded(4, ratio=9)], options) is loud
    good = decoded(5)
    assert best([loud, good], options) is good


@pytest.mark.parametrize(
    ("likely", "expected", "heard", "sure"),
    [
        ({"es": 0.9, "fr": 0.1}, "fr", "es", True),
        ({"es": 0.6, "fr": 0.3}, "fr", "fr", False),
        ({"es": 0.6, "en": 0.3, "fr": 0.01}, "fr", "es", False),
        ({"es": 0.6, "en": 0.3}, "fr", "es", False),
        ({"es": 0.3, "en": 0.3, "fr": 0.01}, "fr", "fr", False),
        ({"es": 0.3, "en": 0.2}, "", "es", False),
    ],
)
def test_the_expected_language_holds_unless_another_is_sure_or_it_is_next_to_impossible(
    likely: dict[str, float], expected: str, heard: str, sure: bool
) -> None:
    assert language_of(likely, expected) == (heard, sure)


def test_words_that_are_spread_over_a_phrase_fill_it_by_their_letters() -> None:
    assert Phrase(2.0, 4.0, (1,)).spread([" no", " really"]) == [(2.0, pytest.approx(2.6)), (pytest.approx(2.6), 4.0)]


def test_words_that_only_touch_their_phrase_are_beside_it() -> None:
    phrase = Phrase(13.24, 15.4, (1,))
    assert phrase.holds(13.3, 16.0)
    assert not phrase.holds(15.36, 17.0), "the same sentence, said again"
