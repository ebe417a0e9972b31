"""Words on the command line become recordings, each once, whatever they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from whisper_farm.cli.files import recordings
from whisper_farm.errors import SourceMissing, SourceUnreadable


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(place: Path, *names: str) -> None:
    for name in names:
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def found(*words: str) -> list[str]:
    return [str(file) for file in recordings(words).files]


def test_files_keep_the_order_of_the_command_line(place: Path) -> None:
    make(place, "b.mp3", "a.mp3", "notes.txt")
    assert found("b.mp3", "a.mp3", "notes.txt") == ["b.mp3", "a.mp3", "notes.txt"]


@pytest.mark.parametrize(
    "name", ["my talk.mp3", 'it\'s "good".mp3', "Überträge ☕.mp3", "講演 第1回.mp3", "a[1].mp3", "שיחה.ogg"]
)
def test_names_with_any_letters_are_found(place: Path, name: str) -> None:
    make(place, name)
    assert found(name) == [name]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(place: Path) -> None:
    make(place, "a[1].mp3", "a1.mp3")
    assert found("a[1].mp3") == ["a[1].mp3"]
    assert found("a?.mp3") == ["a1.mp3"]


def test_a_pattern_the_shell_left_alone_is_expanded_and_sorted(place: Path) -> None:
    make(place, "z.mp3", "y.mp3", "deep/er/x.mp3")
    assert found("*.mp3") == ["y.mp3", "z.mp3"]
    assert found("**/*.mp3") == [str(Path("deep", "er", "x.mp3")), "y.mp3", "z.mp3"]


def test_a_folder_gives_its_recordings_at_any_depth_and_nothing_else(place: Path) -> None:
    make(place, "shows/2/b.MP4", "shows/1/a.flac", "shows/cover.jpg", "shows/.hidden.mp3", "shows/.trash/c.mp3")
    assert found("shows") == [str(Path("shows", "1", "a.flac")), str(Path("shows", "2", "b.MP4"))]


def test_a_recording_named_in_several_ways_is_there_once(place: Path) -> None:
    make(place, "shows/a.mp3")
    (place / "link.mp3").symlink_to(place / "shows" / "a.mp3")
    assert found("shows/a.mp3", "./shows//a.mp3", "shows", "shows/*.mp3", "link.mp3") == [str(Path("shows", "a.mp3"))]


def test_what_is_missing_is_named_and_the_others_stay(place: Path) -> None:
    make(place, "a.mp3")
    (place / "empty").mkdir()
    inputs = recordings(["gone.mp3", "a.mp3", "*.ogg", "empty"])
    assert [str(file) for file in inputs.files] == ["a.mp3"]
    assert [error.message.partition(":")[0] for error in inputs.errors] == ["gone.mp3", "*.ogg", "empty"]
    assert all(isinstance(error, SourceMissing) for error in inputs.errors)


def test_an_empty_word_is_not_the_current_folder(place: Path) -> None:
    make(place, "a.mp3")
    inputs = recordings([""])
    assert inputs.files == ()
    assert [error.message for error in inputs.errors] == ["'': this names no file; a dot names the current folder."]
    assert found(".") == ["a.mp3"]


def test_what_cannot_be_read_is_named_with_the_reason(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place, "shows/a.mp3", "shows/locked/b.mp3")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    inputs = recordings(["shows"])
    assert [file.name for file in inputs.files] == ["a.mp3"]
    (error,) = inputs.errors
    assert isinstance(error, SourceUnreadable)
    assert "locked" in error.message
    assert "Permission denied" in error.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_ordinary_file(place: Path) -> None:
    os.mkfifo(place / "pipe.mp3")
    (error,) = recordings(["pipe.mp3"]).errors
    assert isinstance(error, SourceUnreadable)


def test_a_name_too_long_for_the_system_is_an_error_of_that_name(place: Path) -> None:
    make(place, "a.mp3")
    inputs = recordings(["n" * 5000, "a.mp3"])
    assert len(inputs.errors) == 1
    assert len(inputs.files) == 1
