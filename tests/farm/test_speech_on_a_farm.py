"""Speech in, words out: real Whisper on two workers of a served farm, through the command that users type."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from support.farm_processes import Farm, Process, until
from support.recordings import two_voices

from bench.error_rate import word_error_rate
from examples.weights import tiny_en
from whisper_farm.engines.cache import repository, repository_folder
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.transcript import Segment, Transcript, Word

pytestmark = pytest.mark.timeout(600)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENT = {"WHISPER_FARM_LEASE_SECONDS": "60", "WHISPER_FARM_HEARTBEAT_SECONDS": "2", "WHISPER_FARM_LOCAL_MODELS": "1"}
WHISPER = ("--engine", "faster-whisper", "--device", "cpu", "--slots", "1", "--batch_size", "1")


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm with two workers, `worker1` and `worker2`, that understand English."""
    folder = tmp_path_factory.mktemp("listening")
    models = ("--model_dir", str(cached_tiny_en(folder / "models")), "--local_files_only")
    with Farm(folder, settings=PATIENT) as farm, farm.worker(*WHISPER, *models), farm.worker(*WHISPER, *models):
        until(lambda: len(list(farm.client.workers())) == 2, "both workers are there")
        yield farm


def cached_tiny_en(folder: Path) -> Path:
    """A folder of models as the model hub's library keeps it, with `tiny.en`: a server takes models by name only."""
    home, commit = repository_folder(repository("tiny.en"), str(folder)), "0" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit, encoding="utf-8")
    shutil.copytree(tiny_en(), home / "snapshots" / commit)
    return folder


def transcribed(farm: Farm, recording: Path, folder: Path) -> Transcript:
    """What `whisper-farm transcribe` writes as JSON, with times that are possible, all of the recording covered."""
    where = ["--server", farm.url, "--token", farm.token, "--model", "tiny.en"]
    run = Process(folder / "run.log", ["transcribe", str(recording), "-o", str(folder), *where], {})
    try:
        assert run.ended(500) == 0, run.said()
    finally:
        run.kill()
    transcript = from_json(json.loads((folder / f"{recording.stem}.json").read_text(encoding="utf-8")))
    words = [word for segment in transcript.segments for word in segment.words]
    all_spans: list[Sequence[Segment | Word]] = [transcript.segments, words]
    for spans in all_spans:
        assert all(0 <= span.start <= span.end <= transcript.duration for span in spans)
        assert all(one.end <= other.start for one, other in pairwise(spans))
    assert transcript.coverage.complete
    assert transcript.coverage.covered == pytest.approx(transcript.duration)
    assert transcript.maker.engine == "faster-whisper"
    return transcript


def test_without_a_speaker_model_the_words_come_and_one_line_says_that_speakers_do_not(
    listening: Farm, tmp_path: Path
) -> None:
    clip = two_voices(tmp_path / "clip.flac")
    where = ["--server", listening.url, "--token", listening.token, "--model", "tiny.en"]
    run = Process(tmp_path / "run.log", ["transcribe", str(clip), "-o", str(tmp_path), "--diarize", *where], {})
    try:
        assert run.ended(200) == 0, run.said()
    finally:
        run.kill()
    assert run.said().count("Speakers are not told apart") == 1, run.said()
    transcript = from_json(json.loads(clip.with_suffix(".json").read_text(encoding="utf-8")))
    assert "valley" in transcript.text
    assert {segment.speaker for segment in transcript.segments} == {None}
    assert "--speaker_model" in str(transcript.coverage.without_speakers)


def wrong(recording: Path, transcript: Transcript) -> float:
    """The word error rate against the known words."""
    return word_error_rate(recording.with_suffix(".txt").read_text(encoding="utf-8"), transcript.text)


def test_the_sample_podcast_is_understood_by_two_workers_together(listening: Farm, tmp_path: Path) -> None:
    podcast = EXAMPLES / "podcast.mp3"
    transcript = transcribed(listening, podcast, tmp_path)
    assert wrong(podcast, transcript) < 0.04
    assert transcript.maker.workers == ("worker1", "worker2")
    assert 180 < transcript.duration < 240


def test_a_real_speaker_is_understood_to_the_word(listening: Farm, tmp_path: Path) -> None:
    speech = EXAMPLES / "inaugural.flac"
    transcript = transcribed(listening, speech, tmp_path)
    assert wrong(speech, transcript) == 0
    assert 10 < transcript.duration < 12
