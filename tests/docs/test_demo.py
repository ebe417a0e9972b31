"""The demonstration counts the wrong words of this run's transcript, or says that it cannot."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The demonstration, with results in a folder of the test's own, where an earlier run has left a text."""
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    (tmp_path / "podcast.txt").write_text("an old text")
    return module


def pretend(monkeypatch: pytest.MonkeyPatch, demo: ModuleType, *written: str) -> None:
    """Let the transcription write these files, with every word right."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        for name in written:
            (demo.RESULTS / name).write_text(demo.KNOWN_WORDS.read_text(encoding="utf-8"), encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo.subprocess, "run", run)


def test_the_text_of_this_run_is_scored(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, demo, "podcast.txt", "podcast.srt")
    assert demo.main([]) == 0
    assert "Word error rate against the known words: 0.0%." in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["-f", "srt"], ["-o", "elsewhere"]])
def test_a_run_that_writes_no_text_says_that_nothing_was_counted(
    demo: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, demo, "podcast.srt")
    assert demo.main(arguments) == 0
    out = capsys.readouterr().out
    assert "The wrong words were not counted: this run wrote no podcast.txt" in out
    assert "error rate" not in out
