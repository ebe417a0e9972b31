"""Speech in, words out: a real recogniser on two workers of a served farm, through the command that users type."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.farm_processes import Farm, Process, until

from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.error_rate import word_error_rate, words_of
from whisper_farm.transcript.transcript import Transcript

pytestmark = pytest.mark.timeout(600)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENT = {"WHISPER_FARM_LEASE_SECONDS": "60", "WHISPER_FARM_HEARTBEAT_SECONDS": "2"}
POCKETSPHINX = ("--engine", "pocketsphinx", "--slots", "1")


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm with two workers, `worker1` and `worker2`, that understand English."""
    folder = tmp_path_factory.mktemp("listening")
    with Farm(folder, settings=PATIENT) as farm, farm.worker(*POCKETSPHINX), farm.worker(*POCKETSPHINX):
        until(lambda: len(list(farm.client.workers())) == 2, "both workers are there")
        yield farm


def transcribed(farm: Farm, recording: Path, folder: Path) -> Transcript:
    """What `whisper-farm transcribe` writes as JSON, with times that are possible, all of the recording covered."""
    where = ["--server", farm.url, "--token", farm.token, "--engine", "pocketsphinx"]
    run = Process(folder / "run.log", ["transcribe", str(recording), "-o", str(folder), *where], {})
    try:
        assert run.ended(500) == 0, run.said()
    finally:
        run.kill()
    transcript = from_json(json.loads((folder / f"{recording.stem}.json").read_text(encoding="utf-8")))
    for spans in (transcript.segments, [word for segment in transcript.segments for word in segment.words]):
        assert all(0 <= span.start < span.end <= transcript.duration for span in spans)
        assert all(one.end <= other.start for one, other in pairwise(spans))
    assert transcript.coverage.complete
    assert transcript.coverage.covered == pytest.approx(transcript.duration)
    return transcript


def test_the_sample_podcast_is_understood_by_two_workers_together(listening: Farm, tmp_path: Path) -> None:
    transcript = transcribed(listening, EXAMPLES / "podcast.mp3", tmp_path)
    assert word_error_rate((EXAMPLES / "podcast.txt").read_text(encoding="utf-8"), transcript.text) < 0.1
    assert transcript.maker.workers == ("worker1", "worker2")
    assert transcript.maker.engine == "pocketsphinx"
    assert 180 < transcript.duration < 240


@pytest.mark.skipif(
    "WHISPER_FARM_REAL_AUDIO" not in os.environ, reason="WHISPER_FARM_REAL_AUDIO names no folder of speech"
)
def test_a_real_speaker_is_understood_in_part(listening: Farm, tmp_path: Path) -> None:
    transcript = transcribed(listening, Path(os.environ["WHISPER_FARM_REAL_AUDIO"]) / "jfk.flac", tmp_path)
    assert len({"ask", "not", "your", "country", "can", "do", "for", "you"} & set(words_of(transcript.text))) >= 5
    assert 10 < transcript.duration < 12
