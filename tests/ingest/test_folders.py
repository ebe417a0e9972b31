"""A file of a watched folder is given once it is whole, and again when it has become another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from whisper_farm.ingest.folders import Settling


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write(file: Path, content: bytes, at: int) -> Path:
    file.write_bytes(content)
    os.utime(file, (at, at))
    return file


def test_a_file_that_grows_is_left_until_it_rests(tmp_path: Path, clock: Clock) -> None:
    settling, file = Settling(5, clock), tmp_path / "a.wav"
    for second in range(1, 20):
        clock.now = second
        assert settling.ready([write(file, b"x" * second, second)]) == []
    clock.now = 23
    assert settling.ready([file]) == []
    clock.now = 24
    assert settling.ready([file]) == [file]
    clock.now = 99
    assert settling.ready([file]) == []


def test_what_changes_or_comes_back_is_given_again(tmp_path: Path, clock: Clock) -> None:
    settling, file = Settling(1, clock), write(tmp_path / "a.wav", b"one", 1)
    settling.ready([file])
    clock.now = 2
    assert settling.ready([file]) == [file]
    write(file, b"two", 2)
    assert settling.ready([file]) == []
    clock.now = 4
    assert settling.ready([file]) == [file]
    settling.ready([])
    clock.now = 5
    settling.ready([file])
    clock.now = 7
    assert settling.ready([file]) == [file]


def test_empty_files_and_files_that_vanish_are_none(tmp_path: Path, clock: Clock) -> None:
    settling, empty = Settling(0, clock), write(tmp_path / "a.wav", b"", 1)
    for second in range(5):
        clock.now = second
        assert settling.ready([empty, tmp_path / "gone.wav"]) == []
    write(empty, b"sound", 2)
    assert settling.ready([empty]) == [empty]
