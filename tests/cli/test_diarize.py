"""`--diarize` with real weights: the command tells two voices apart, and says in a line why it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest
from support.recordings import PODCAST, two_voices

from examples.speaker_weights import speaker_model
from examples.weights import tiny_en

WORDS = ("welcome", "valley", "How many", "trees")
"""One of each turn."""


def transcribe(recording: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whisper = ("--model", str(tiny_en()), "--language", "en", "--device", "cpu", "--quiet")
    command = [sys.executable, "-m", "whisper_farm", "transcribe", str(recording), *whisper, *flags]
    data = {"WHISPER_FARM_DATA": str(recording.parent / "data")}
    return subprocess.run(
        command, env={**os.environ, **data, **environment}, capture_output=True, text=True, timeout=250
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return two_voices(tmp_path / "clip.flac")


def test_two_voices_are_told_apart_by_the_command(clip: Path) -> None:
    formats = ("--output_format", "json,vtt", "--output_dir", str(clip.parent))
    run = transcribe(clip, "--diarize", "--speaker_model", str(speaker_model()), *formats)
    assert (run.returncode, run.stderr) == (0, "")
    segments = json.loads((clip.parent / "clip.json").read_text(encoding="utf-8"))["segments"]
    turns = [(speaker, " ".join(one["text"] for one in of)) for speaker, of in groupby(segments, itemgetter("speaker"))]
    assert [speaker for speaker, _ in turns] == ["Speaker 1", "Speaker 2"] * 2
    assert [next(word for word in WORDS if word in text) for _, text in turns] == list(WORDS)
    assert "<v Speaker 2>" in (clip.parent / "clip.vtt").read_text(encoding="utf-8")


def test_a_speaker_model_that_cannot_be_had_is_one_line_that_says_what_to_do(clip: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(clip.parent / "cache")}
    run = transcribe(clip, "--diarize", **nowhere)
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)
    assert "Speakers cannot be told apart" in run.stderr
    assert "--speaker_model FILE" in run.stderr
    missing, broken = clip.parent / "none.onnx", clip.parent / "broken.onnx"
    broken.write_bytes(b"no model")
    for file in (missing, broken):
        run = transcribe(clip, "--diarize", "--speaker_model", str(file))
        assert (run.returncode, len(run.stderr.splitlines())) == (1, 1), run.stderr
        assert file.name in run.stderr


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--max_speakers", "2"), "go with diarize"),
        (("--diarize", "--channel", "each"), "Left and Right"),
        (("--diarize", "--min_speakers", "3", "--max_speakers", "2"), "at least min_speakers"),
        (("--diarize", "--hf_token", "x"), "needs no token"),
    ],
)
def test_flags_that_contradict_each_other_are_wrong_usage(flags: tuple[str, ...], why: str) -> None:
    run = transcribe(PODCAST, *flags)
    assert (run.returncode, why in run.stderr) == (2, True), run.stderr
