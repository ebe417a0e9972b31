"""What outputs are called: the same whatever else is in a command, and never as another recording's."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest
from support.talks import Recorder

from whisper_farm.cli.files import recordings
from whisper_farm.cli.main import outcome
from whisper_farm.transcript.formats import FORMATS

TONES = ("--engine", "tones", "--model", "instant", "--slots", "2")
Captured = pytest.CaptureFixture[str]


def transcribe(*words: str) -> int:
    return outcome(["transcribe", *words, "-f", "txt", *TONES])


def text_of(file: Path) -> str:
    return " ".join(file.read_text(encoding="utf-8").split())


def test_a_recording_keeps_its_name_when_a_namesake_comes_beside_it(record: Recorder, capsys: Captured) -> None:
    Path("shows").mkdir()
    first = record("shows/talk.wav", 24)
    assert transcribe("shows", "-o", "out", "--skip_existing") == 0
    second = record("shows/talk.wave.wav", 24)
    second.path.rename("shows/talk.mp3")  # content decides what it is
    capsys.readouterr()
    assert transcribe("shows", "-o", "out", "--skip_existing") == 0
    assert "shows/talk.wav: skipped, out/talk.txt is there" in capsys.readouterr().err
    assert text_of(Path("out/talk.txt")) == first.text
    assert text_of(Path("out/talk.mp3.txt")) == second.text
    assert transcribe("shows/talk.mp3", "-o", "out") == 0
    assert sorted(file.name for file in Path("out").iterdir()) == ["talk.mp3.txt", "talk.txt"]


def test_two_commands_with_equal_stems_replace_nothing_of_each_other(record: Recorder, capsys: Captured) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
    first, second = record("a/talk.wav", 24), record("b/talk.wav", 24)
    assert transcribe("a/talk.wav", "-o", "out") == 0
    assert transcribe("b/talk.wav", "-o", "out") == 0
    assert text_of(Path("out/talk.txt")) == first.text
    assert text_of(Path("out/talk.wav.txt")) == second.text


def test_names_that_are_one_on_some_disk_are_found_again(record: Recorder, capsys: Captured) -> None:
    Path("shows").mkdir()
    names = ("Talk.wav", "talk.wav", "\u00e9.wav", "e\u0301.wav")
    said = {record(f"shows/{name}", 24 + 4 * number).text for number, name in enumerate(names)}
    if len(list(Path("shows").iterdir())) < len(names):
        pytest.skip("this disk takes two of the names for one")
    assert transcribe("shows", "-o", "out", "--skip_existing") == 0
    there = sorted(Path("out").iterdir())
    for _ in range(2):
        capsys.readouterr()
        assert transcribe("shows", "-o", "out", "--skip_existing") == 0
        assert capsys.readouterr().err.count(": skipped, ") == len(names)
        assert sorted(Path("out").iterdir()) == there
    assert {text_of(file) for file in there} == said


@pytest.mark.skipif(sys.platform == "win32", reason="there links need rights")
def test_a_link_beside_a_recording_takes_nothing_of_its_name(record: Recorder, capsys: Captured) -> None:
    Path("shows").mkdir()
    record("shows/talk.wav", 24)
    assert transcribe("shows", "-o", "out", "--skip_existing") == 0
    Path("shows/a link.wav").symlink_to("talk.wav")
    capsys.readouterr()
    assert transcribe("shows", "-o", "out", "--skip_existing") == 0
    assert "shows/talk.wav: skipped, out/talk.txt is there" in capsys.readouterr().err
    assert [file.name for file in Path("out").iterdir()] == ["talk.txt"]


def test_folders_are_mirrored(record: Recorder) -> None:
    Path("shows/2024/may").mkdir(parents=True)
    one, other = record("shows/talk.wav", 24), record("shows/2024/may/talk.wav", 24)
    assert transcribe("shows", "-o", "out") == 0
    assert text_of(Path("out/talk.txt")) == one.text
    assert text_of(Path("out/2024/may/talk.txt")) == other.text


def test_a_recording_that_has_changed_is_not_skipped(record: Recorder, capsys: Captured) -> None:
    record("talk.wav", 24)
    assert transcribe("talk.wav", "--skip_existing") == 0
    changed = record("talk.wav", 32)
    assert transcribe("talk.wav", "--skip_existing") == 0
    assert text_of(Path("talk.txt")) == changed.text


def test_a_recording_that_was_moved_is_the_same_recording(record: Recorder, capsys: Captured) -> None:
    talk = record("talk.wav", 24)
    assert transcribe("talk.wav", "-o", "out", "--skip_existing") == 0
    Path("archive").mkdir()
    talk.path.rename("archive/talk.wav")
    capsys.readouterr()
    assert transcribe("archive/talk.wav", "-o", "out", "--skip_existing") == 0
    assert "skipped, out/talk.txt is there" in capsys.readouterr().err
    assert [file.name for file in Path("out").iterdir()] == ["talk.txt"]


def test_outputs_of_which_nothing_is_known_are_replaced_and_that_is_said_before(
    record: Recorder, capsys: Captured
) -> None:
    talk = record("talk.wav", 24)
    Path("talk.txt").write_text("somebody's own", encoding="utf-8")
    assert transcribe("talk.wav", "--skip_existing") == 0
    assert text_of(Path("talk.txt")) == "somebody's own"
    assert transcribe("talk.wav") == 0
    err = capsys.readouterr().err
    assert re.search(r"talk.wav: will replace (\./)?talk.txt, which may be of another recording", err)
    assert text_of(Path("talk.txt")) == talk.text


@pytest.mark.skipif(sys.platform == "win32", reason="there names end at 260 characters")
def test_the_longest_names_have_outputs(record: Recorder) -> None:
    one, other = record("a" * 250 + "b.wav", 24), record("a" * 250 + "c.wav", 24)
    assert transcribe(one.path.name, other.path.name) == 0
    texts = [text_of(file) for file in Path().iterdir() if file.suffix == ".txt"]
    assert sorted(texts) == sorted([one.text, other.text])


@pytest.mark.skipif(sys.platform == "win32", reason="there names end at 260 characters")
def test_the_longest_names_have_outputs_in_every_format(record: Recorder) -> None:
    for length in (236, 242, 248):
        talk = record("a" * length + ".wav", 4)
        assert outcome(["transcribe", talk.path.name, "-f", ",".join(FORMATS), *TONES]) == 0
    assert len([file for file in Path().iterdir() if file.suffix != ".wav"]) == 3 * len(FORMATS)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_are_no_text_are_read(record: Recorder, capsys: Captured) -> None:
    talk = record("talk.wav", 24)
    name = os.fsdecode(b"Gespr\xe4ch.wav")
    talk.path.rename(name)
    assert transcribe(name) == 0
    assert text_of(Path(os.fsdecode(b"Gespr\xe4ch.txt"))) == talk.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a kind of file that Windows has not")
def test_what_comes_through_a_pipe_is_a_recording(record: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    piped, read_in = record("one.wav", 24), record("two.wav", 24)
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(piped.path.read_bytes()))
    writer.start()
    with read_in.path.open("rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        assert transcribe("pipe", "-") == 0
    writer.join(10)
    assert text_of(Path("pipe.txt")) == piped.text
    assert text_of(Path("stdin.txt")) == read_in.text


def test_an_empty_pipe_is_called_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        assert transcribe("-") == 1
    assert "-: nothing came through this pipe." in capsys.readouterr().err


def test_what_is_piped_next_has_the_same_name(record: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    talks = [record("one.wav", 24), record("two.wav", 24)]
    for talk in talks:
        with talk.path.open("rb") as standard_input:
            monkeypatch.setattr("sys.stdin", standard_input)
            assert transcribe("-", "-o", "out") == 0
    assert {file.name: text_of(file) for file in Path("out").iterdir()} == {"stdin.txt": talks[1].text}


def test_what_was_piped_is_cleared_away(
    record: Recorder, monkeypatch: pytest.MonkeyPatch, own_data_folder: Path
) -> None:
    with record("two.wav", 24).path.open("rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        assert transcribe("-") == 0
    assert not list(own_data_folder.glob("spool-*"))


def test_more_than_fits_is_not_taken_through_a_pipe(
    record: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("whisper_farm.cli.spool.MOST_BYTES", 1000)
    with record("two.wav", 24).path.open("rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        assert transcribe("-") == 1
    assert "came through this pipe" in capsys.readouterr().err


def test_a_pipe_through_which_nothing_comes_is_given_up(
    record: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("whisper_farm.cli.spool.PATIENCE_SECONDS", 0.01)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        assert transcribe("-") == 1
    os.close(writing)
    assert "nothing came through this pipe" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["rtsp://camera/1?z=1", "s3://bucket/talk.wav", "file:///talk.wav"])
def test_an_address_that_nobody_fetches_is_said_to_be_one(word: str) -> None:
    (error,) = recordings([word]).errors
    assert error.message.startswith(f"{word}: this is an address that cannot be fetched")


def test_notes_that_are_damaged_are_none(record: Recorder, own_data_folder: Path) -> None:
    talk = record("talk.wav", 24)
    assert transcribe("talk.wav") == 0
    for note in (own_data_folder / "outputs").iterdir():
        note.write_text(json.dumps({"source": 7}), encoding="utf-8")
    assert transcribe("talk.wav") == 0
    assert text_of(Path("talk.txt")) == talk.text


def test_outputs_are_called_as_asked_and_keep_apart_all_the_same(record: Recorder, capsys: Captured) -> None:
    Path("a").mkdir()
    Path("b").mkdir()
    made = [record(f"{name}.wav", 24) for name in ("a/talk", "b/talk", "{date}", "bare")]
    made[-1].path.rename("bare")
    files = ["a/talk.wav", "b/talk.wav", "{date}.wav", "bare"]
    for file in files:
        os.utime(file, (1_700_000_000, 1_700_000_000))
    flags = ("-o", "out", "--output_name", "{date} {stem}.en", "--skip_existing")
    assert transcribe(*files, *flags) == 0
    found = {file.name: text_of(file) for file in Path("out").iterdir()}
    assert {name[:9] for name in found} == {"2023-11-1"}  # the 14th or the 15th, by where this is
    names = ["bare.en.txt", "talk.en.wav-2.txt", "talk.en.wav.txt", "{date}.en.txt"]
    assert sorted(name[11:] for name in found) == names
    assert sorted(found.values()) == sorted(one.text for one in made)
    capsys.readouterr()
    assert transcribe(*files, *flags) == 0
    assert capsys.readouterr().err.count(": skipped, ") == 4


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        " ",
        "../{stem}",
        "/etc/{stem}",
        "a/b",
        "a\\b",
        "{stem.__class__}",
        "{x}",
        "a\0b",
        "a\nb",
        "x" * 201,
    ],
)
def test_a_name_that_leads_out_of_the_folder_or_cannot_be_filled_in_is_wrong_usage(
    name: str, record: Recorder, capsys: Captured
) -> None:
    record("talk.wav", 24)
    assert transcribe("talk.wav", "-o", "out", "--output_name", name) == 2
    assert "a name without folders" in capsys.readouterr().err
    assert not Path("out").exists()
