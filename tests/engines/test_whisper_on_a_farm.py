"""faster-whisper behind the whole farm: command, protocol, worker and child processes around random words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from whisper_farm.engines.cache import digest_of
from whisper_farm.transcript.document import from_json

PODCAST = Path(__file__).resolve().parents[2] / "examples" / "podcast.mp3"
BOUNDED = (
    *(
        "--vad_filter",
        "False",
        "--temperature",
        "0",
        "--temperature_increment_on_fallback",
        "None",
        "--max_new_tokens",
        "24",
    ),
    *("--compression_ratio_threshold", "None", "--logprob_threshold", "None", "--no_speech_threshold", "None"),
)
"""Flags under which a random model says something, and an end of it."""


def test_a_recording_is_transcribed_with_words_by_the_very_model_that_was_named(nano: Path, tmp_path: Path) -> None:
    model = ("--engine", "faster-whisper", "--model", str(nano), "--device", "cpu")
    out = ("--output_dir", str(tmp_path), "--output_format", "json", "--quiet")
    run = subprocess.run(
        [sys.executable, "-m", "whisper_farm", "transcribe", str(PODCAST), *model, *BOUNDED, *out],
        env={**os.environ, "WHISPER_FARM_DATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert (run.returncode, run.stderr) == (0, "")
    transcript = from_json(json.loads((tmp_path / "podcast.json").read_text(encoding="utf-8")))
    maker = transcript.maker
    assert (maker.engine, maker.model, maker.revision) == ("faster-whisper", str(nano), digest_of(nano))
    assert maker.devices == ("cpu",)
    words = [word for segment in transcript.segments for word in segment.words]
    assert words, "what a model of random weights says, and how much, is another thing on every kind of processor"
    assert all(0 <= word.start <= word.end <= transcript.duration for word in words)
    assert transcript.coverage.complete
