"""Whisper's way of writing flags arrives at click as it was meant."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.cli.main import outcome
from whisper_farm.cli.recognition_flags import FormatList, Temperatures
from whisper_farm.cli.transcribe import transcribe
from whisper_farm.cli.whisper_flags import UNSUPPORTED, Flag, UnknownFlag, flags_of, normalise
from whisper_farm.transcript.formats import FORMATS

FLAGS = flags_of(transcribe, click.Context(transcribe))


def written(*words: str) -> list[str]:
    return normalise(words, FLAGS)


def test_dashes_and_underscores_are_the_same() -> None:
    assert written("--output-dir", "out", "a.mp3") == written("--output_dir", "out", "a.mp3")
    assert written("--output-dir=out") == ["--output_dir=out"]


def test_a_truth_may_be_bare_or_spelled_out_and_never_takes_a_file() -> None:
    assert written("--word_timestamps", "True", "a.mp3") == ["--word_timestamps=true", "--", "a.mp3"]
    assert written("--word_timestamps", "a.mp3") == ["--word_timestamps=true", "--", "a.mp3"]
    assert written("--verbose", "False") == ["--verbose=false"]
    assert written("--verbose=no") == ["--verbose=false"]


def test_a_truth_that_is_neither_says_so() -> None:
    with pytest.raises(UnknownFlag, match="takes True or False, not 'maybe'"):
        written("--verbose=maybe")


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


def test_all_formats_are_all_formats() -> None:
    assert _parsed(["-f", "all", "a.mp3"])[0]["output_format"] == tuple(FORMATS)
    assert _parsed(["a.mp3"])[0]["output_format"] == tuple(FORMATS)


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
    with pytest.raises(UnknownFlag, match=f"No such option '{wrong}'. Did you mean '{right}'"):
        written(wrong, "x")


def test_a_flag_like_nothing_known_gets_no_guess() -> None:
    with pytest.raises(UnknownFlag, match=r"No such option '--qqqq'\.$"):
        written("--qqqq")


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_flags_of_other_whispers_are_answered_in_one_line(name: str) -> None:
    with pytest.raises(UnknownFlag, match=f"Whisper's option '{name}' is not supported: ") as caught:
        written(name.replace("_", "-"), "True")
    assert "\n" not in caught.value.message


def test_no_flag_is_both_supported_and_not() -> None:
    assert not set(UNSUPPORTED) & set(FLAGS)


def test_a_file_that_begins_with_a_dash_is_explained() -> None:
    with pytest.raises(UnknownFlag, match=r"written \./-talk\.mp3"):
        written("-talk.mp3")


@pytest.mark.parametrize("words", [["a.mp3", "--model"], ["a.mp3", "--model", "--word-timestamps"]])
def test_a_missing_value_is_noticed_and_does_not_swallow_the_next_flag(words: list[str]) -> None:
    with pytest.raises(click.UsageError, match="'--model' requires a value"):
        _parsed(words)


def test_a_wrong_format_is_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(click.UsageError, match=r"'str' is not one of .* Did you mean 'srt'"):
        _parsed(["-f", "str", "a.mp3"])


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["transcribe", "a.mp3", "--task", "trnslate"], "Did you mean 'translate'?"),
        (["list", "--state", "faild"], "Did you mean 'failed'?"),
        (["token", "create", "ada", "--scope", "wrker"], "Did you mean 'worker'?"),
        (["serve", "--log_format", "jason"], "Did you mean 'json'?"),
        (["transcribe", "a.mp3", "--slots", "zero"], "'zero' is not a valid whole number."),
        (["transcribe", "a.mp3", "--chunk_seconds", "long"], "'long' is not a valid number."),
    ],
)
def test_a_wrong_value_is_answered_with_the_nearest_right_one_or_with_what_it_should_be(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(words) == 2
    assert capsys.readouterr().err.rstrip().endswith(answer)


@given(
    st.lists(st.text(st.characters(exclude_characters="-\x00", exclude_categories=["Cs"]), min_size=1), max_size=5),
    st.permutations(["--word-timestamps", "--model=tiny", "--quiet=true", "--output-format=srt,txt"]),
)
def test_every_file_survives_in_its_order_whatever_it_is_called(files: list[str], flags: list[str]) -> None:
    files = [name for name in files if not FormatList().continues(name) and not Temperatures().continues(name)]
    files = [name for name in files if name.lower() not in {"true", "false"}]
    words = [word for pair in zip(flags, files, strict=False) for word in pair] + files[len(flags) :]
    kinds = {"--word_timestamps": "truth", "--quiet": "truth"}
    table = {
        name: Flag(name, "truth" if name in kinds else "value", FormatList().continues if "format" in name else None)
        for name in ("--word_timestamps", "--model", "--quiet", "--output_format")
    }
    rewritten = normalise(words, table)
    assert (rewritten[rewritten.index("--") + 1 :] if "--" in rewritten else []) == files


def _parsed(words: list[str]) -> tuple[dict[str, object], tuple[str, ...]]:
    context = transcribe.make_context("transcribe", list(words))
    options = dict(context.params)
    return options, tuple(options.pop("audio"))


def _temperatures(*words: str) -> tuple[float, ...]:
    from whisper_farm.cli.recognition_flags import wish_of

    return wish_of(_parsed(["a.mp3", *words])[0]).temperatures
