"""A folder is watched by a real process: what is put into it is transcribed, once, also over a restart."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.farm_processes import Farm, Process, until
from support.talks import Recorder, Talk

TONES = ("--engine", "tones", "--model", "instant", "--settle_seconds", "0.2", "-f", "txt,json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "watched"
    made.mkdir()
    return made


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


def watch(started: list[Process], folder: Path, *flags: str, log: str = "watch.log") -> Process:
    process = Process(folder.parent / log, ["watch", str(folder), *TONES, *flags], {})
    started.append(process)
    until(lambda: "watching" in process.said(), "it watches")
    return process


def put(talk: Talk, folder: Path, name: str = "") -> None:
    """At once: between two writes a busy machine may take longer than a file has to rest."""
    target = folder / (name or talk.path.name)
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(talk.path, folder.parent / "whole")
    (folder.parent / "whole").replace(target)


def text_of(file: Path) -> str:
    return " ".join(file.read_text(encoding="utf-8").split())


def test_what_is_put_into_a_folder_is_transcribed_beside_it(
    record: Recorder, folder: Path, started: list[Process]
) -> None:
    """Several at once, also below it; what it writes is no recording."""
    first = record("first.wav")
    put(first, folder)
    process = watch(started, folder)
    talks = {name: record(name.replace("/", "-")) for name in ("a.wav", "b.wav", "sub/c.wav")}
    for name, talk in talks.items():
        put(talk, folder, name)
    until(lambda: len(list(folder.rglob("*.json"))) == 4, "all four are transcribed")
    assert text_of(folder / "first.txt") == first.text
    for name, talk in talks.items():
        assert text_of(folder / f"{name[:-4]}.txt") == talk.text
    process.terminate()
    assert process.ended() == 128 + signal.SIGTERM
    assert "Traceback" not in process.said()


def test_a_restart_goes_on_and_does_nothing_twice(record: Recorder, folder: Path, started: list[Process]) -> None:
    done, other = record("done.wav"), record("other.wav")
    put(done, folder)
    out = folder.parent / "out"
    named = ("-o", str(out), "--output_name", "{stem}.en")
    first = watch(started, folder, *named)
    until(lambda: "real time" in first.said(), "the first is transcribed, and that is noted")
    first.kill()
    written = (out / "done.en.txt").stat().st_mtime_ns
    put(other, folder)
    second = watch(started, folder, *named, log="again.log")
    until(lambda: (out / "other.en.json").exists(), "the second is transcribed")
    assert (out / "done.en.txt").stat().st_mtime_ns == written
    assert "done.wav" not in second.said()
    assert sorted(path.name for path in folder.iterdir()) == ["done.wav", "other.wav"]
    shutil.copyfile(record("new.wav").path, folder / "done.wav")
    until(lambda: (out / "done.en.txt").stat().st_mtime_ns != written, "a file that became another is transcribed anew")


def test_what_is_broken_is_said_once_and_the_rest_goes_on(
    record: Recorder, folder: Path, started: list[Process]
) -> None:
    process = watch(started, folder)
    (folder / "broken.wav").write_bytes(b"no recording" * 99)
    until(lambda: "broken.wav" in process.said(), "it says what is wrong")
    talk = record("talk.wav")
    put(talk, folder)
    until(lambda: (folder / "talk.json").exists(), "the other is transcribed")
    assert text_of(folder / "talk.txt") == talk.text
    assert process.said().count("no audio or video file") == 1


def test_a_folder_can_be_watched_for_a_farm_elsewhere(
    record: Recorder, folder: Path, started: list[Process], tmp_path: Path
) -> None:
    talk = record("talk.wav")
    with Farm(tmp_path / "farm") as farm, farm.worker():
        watch(started, folder, "--server", farm.url, "--token", farm.token)
        put(talk, folder)
        until(lambda: (folder / "talk.txt").exists() and (folder / "talk.json").exists(), "it is transcribed")
        assert text_of(folder / "talk.txt") == talk.text
