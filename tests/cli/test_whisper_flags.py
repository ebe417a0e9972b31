"""Whisper's way of writing flags arrives at click as it was meant."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.cli.recognition_flags import layout_of, wish_of
from whisper_farm.cli.transcribe import transcribe
from whisper_farm.cli.whisper_flags import UNSUPPORTED
from whisper_farm.transcript.cues import CueLayout
from whisper_farm.transcript.formats import FORMATS, WHISPERS

FLAGS = {name for option in transcribe.params if isinstance(option, click.Option) for name in option.opts}


def test_dashes_and_underscores_are_the_same() -> None:
    for flag in ("--output-dir", "--output_dir"):
        assert _parsed([flag, "out", "a.mp3"])[0]["output_dir"] == "out"
        assert _parsed([f"{flag}=out", "a.mp3"])[0]["output_dir"] == "out"


@pytest.mark.parametrize(
    ("words", "value"),
    [(["a.mp3"], True), (["--verbose", "a.mp3"], True), (["--verbose", "True", "a.mp3"], True),
     (["--verbose", "False", "a.mp3"], False), (["--verbose=no", "a.mp3"], False), (["a.mp3", "--verbose"], True)],
)  # fmt: skip
def test_a_truth_may_be_bare_or_spelled_out_and_never_takes_a_file(words: list[str], value: bool) -> None:
    options, files = _parsed(words)
    assert options["verbose"] is value
    assert files == ("a.mp3",)


def test_a_truth_that_is_neither_says_so() -> None:
    with pytest.raises(click.BadParameter, match="'maybe' is not a valid boolean"):
        _parsed(["--verbose=maybe", "a.mp3"])


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "srt", "txt"),
        ("-f", "srt,txt"),
        ("-f", "srt", "-f", "txt"),
        ("-fsrt", "txt"),
        ("--output-format=srt", "txt"),
    ],
)
def test_formats_may_be_listed_in_every_usual_way(words: tuple[str, ...]) -> None:
    options, files = _parsed([*words, "talk.mp3"])
    assert options["output_format"] == ("srt", "txt")
    assert files == ("talk.mp3",)


def test_all_formats_are_those_of_whisper_and_none_is_said_where_none_was_asked_for() -> None:
    assert _parsed(["-f", "all", "a.mp3"])[0]["output_format"] == WHISPERS
    assert _parsed(["a.mp3"])[0]["output_format"] == ()


def test_files_before_between_and_after_flags_are_all_files() -> None:
    assert _parsed(["a.mp3", "--model", "tiny", "b.mp3", "-f", "srt", "c.mp3"])[1] == ("a.mp3", "b.mp3", "c.mp3")


def test_after_two_dashes_everything_is_a_file() -> None:
    assert _parsed(["--", "--model", "-x.mp3"])[1] == ("--model", "-x.mp3")


def test_a_value_may_look_like_a_flag_or_be_empty() -> None:
    assert _parsed(["--initial_prompt", "--dashing", "a.mp3"])[0]["initial_prompt"] == "--dashing"
    assert _parsed(["--initial_prompt", "", "a.mp3"])[0]["initial_prompt"] == ""


def test_a_single_temperature_steps_up_as_whisper_does_and_a_list_is_taken_as_it_stands() -> None:
    assert _temperatures("--temperature", "0") == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert _temperatures("--temperature", "0.5") == (0.5, 0.7, 0.9)
    assert _temperatures("--temperature", "0", "0.3") == (0.0, 0.3)
    assert _temperatures("--temperature", "0,0.3") == (0.0, 0.3)
    assert _temperatures("--temperature", "0", "--temperature_increment_on_fallback", "None") == (0.0,)
    assert _temperatures() == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("--wrod_timestamps", "--word_timestamps"), ("--lang", "--language"), ("--outputdir", "--output_dir")],
)
def test_a_wrong_flag_is_answered_with_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(click.NoSuchOption) as caught:
        _parsed([wrong, "x"])
    assert caught.value.format_message().startswith(f"No such option '{wrong}'. ")
    assert f"'{right}'" in caught.value.format_message()


def test_who_names_a_file_that_begins_with_a_dash_is_told_how_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-minus.ogg").touch()
    with pytest.raises(click.UsageError, match=r"'-minus\.ogg' is read as a flag; .* written \./-minus\.ogg"):
        _parsed(["a.wav", "-minus.ogg"])
    with pytest.raises(click.NoSuchOption):
        _parsed(["a.wav", "-nothing.ogg"])


def test_the_layout_of_subtitles_is_asked_for_as_whispers_users_do() -> None:
    words = ["--max_line_width", "42", "--max-line-count=2", "--max_words_per_line", "6", "--highlight_words", "True"]
    assert layout_of(_parsed([*words, "a.mp3"])[0]) == CueLayout(42, 2, 6, True)
    assert layout_of(_parsed(["a.mp3"])[0]) == CueLayout()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--max_line_count", "2"], "--max_line_count needs max_line_width."),
        (["--max_line_width", "0"], "--max_line_width is a whole number from 1 to 1000."),
    ],
)
def test_a_layout_that_cannot_be_is_wrong_usage(words: list[str], answer: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        layout_of(_parsed([*words, "a.mp3"])[0])
    assert caught.value.message == answer


def test_silences_are_skipped_as_whispers_users_ask_for_it_and_no_more_is_promised_than_is_kept() -> None:
    wish_of(_parsed(["--hallucination_silence_threshold", "2", "a.mp3"])[0])
    wish_of(_parsed(["--hallucination-silence-threshold=None", "--vad_filter", "False", "a.mp3"])[0])
    for words in (["0.5"], ["2", "--vad_filter", "False"]):
        with pytest.raises(click.UsageError, match="is met from 1 second on, and with --vad_filter only"):
            wish_of(_parsed(["--hallucination_silence_threshold", *words, "a.mp3"])[0])


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_flags_of_other_whispers_are_answered_in_one_line(name: str) -> None:
    with pytest.raises(click.UsageError, match=f"Whisper's option '{name}' is not supported: ") as caught:
        _parsed(["--" + name[2:].replace("_", "-"), "True"])
    assert "\n" not in caught.value.message


def test_no_flag_is_both_supported_and_not() -> None:
    assert not set(UNSUPPORTED) & FLAGS


@pytest.mark.parametrize("words", [["a.mp3", "--model"], ["a.mp3", "--model", "--word-timestamps"]])
def test_a_missing_value_is_noticed_and_does_not_swallow_the_next_flag(words: list[str]) -> None:
    with pytest.raises(click.UsageError, match="'--model' requires an argument"):
        _parsed(words)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["-f", "str"], "'str' is not one of txt, srt"),
        (["-f", "srt,"], "'' is not one of txt, srt"),
        (["--task", "trnslate"], "'trnslate' is not one of 'transcribe', 'translate'"),
        (["--temperature", "0.2,hot"], "'hot' is neither a number nor None"),
        (["--temperature", "3"], "'3' is no temperature; write numbers from 0 to 2"),
        (["--slots", "zero"], "'zero' is not a valid integer range"),
        (["--device", "cpu:1"], "'cpu:1' is no device; write auto, cpu, cuda or cuda:1"),
    ],
)
def test_a_wrong_value_is_answered_with_what_it_should_be(words: list[str], answer: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        _parsed([*words, "a.mp3"])
    assert answer in caught.value.message


@given(
    st.lists(st.text(st.characters(exclude_characters="-\x00", exclude_categories=["Cs"]), min_size=1), max_size=5),
    st.permutations(["--word-timestamps", "--model=tiny", "--quiet=true", "--output-format=srt,txt"]),
)
def test_every_file_survives_in_its_order_whatever_it_is_called(files: list[str], flags: list[str]) -> None:
    files = ["a.mp3", *(name for name in files if name.lower() not in {"true", "false", "all", *FORMATS})]
    words = [
        files[0],
        *(word for pair in zip(flags, files[1:], strict=False) for word in pair),
        *files[len(flags) + 1 :],
    ]
    assert _parsed(words)[1] == tuple(files)


def _parsed(words: list[str]) -> tuple[dict[str, object], tuple[str, ...]]:
    context = transcribe.make_context("transcribe", list(words))
    options = dict(context.params)
    return options, tuple(options.pop("audio"))


def _temperatures(*words: str) -> tuple[float, ...]:
    return wish_of(_parsed(["a.mp3", *words])[0]).temperatures
