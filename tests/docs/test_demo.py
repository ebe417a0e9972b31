"""The demonstration counts the wrong words of this run's transcripts, or says that it cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from examples import demo


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, where an earlier run has left texts."""
    monkeypatch.setattr(demo, "RESULTS", tmp_path)
    for recording in demo.RECORDINGS:
        demo.heard_in(recording).write_text("an old text")
    return tmp_path


def pretend(monkeypatch: pytest.MonkeyPatch, ending: str) -> list[list[str]]:
    """Let the transcription write files with this ending, with every word right; the commands that were given."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        for recording in demo.RECORDINGS:
            words = recording.with_suffix(".txt").read_text(encoding="utf-8")
            demo.heard_in(recording).with_suffix(ending).write_text(words, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_texts_of_this_run_are_scored_and_the_model_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = pretend(monkeypatch, ".txt")
    assert demo.main([]) == 0
    out = capsys.readouterr().out
    assert out.count("word error rate 0.0%.") == len(demo.RECORDINGS) == 2
    assert "tiny.en" in out
    assert "--model" in commands[0]


def test_a_model_that_was_named_is_the_one_that_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = pretend(monkeypatch, ".txt")
    assert demo.main(["--model=small"]) == 0
    assert [word for word in commands[0] if word.startswith("--model")] == ["--model=small"]
    assert "tiny.en" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["-f", "srt"], ["-o", "elsewhere"]])
def test_a_run_that_writes_no_text_says_that_nothing_was_counted(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, ".srt")
    assert demo.main(arguments) == 0
    out = capsys.readouterr().out
    assert "the wrong words were not counted, for this run wrote no podcast.txt" in out
    assert "error rate" not in out
