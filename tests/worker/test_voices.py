"""A worker makes voices for those who ask, whatever its engine; what it cannot have costs nobody else anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.work_here import add_speech, speech, until, worker_settings, working

from examples.speaker_weights import speaker_model
from whisper_farm.protocol.jobs import TranscribeResult
from whisper_farm.transcript.options import RecognitionOptions


def diarized(file: Path) -> RecognitionOptions:
    return RecognitionOptions(engine="tones", model="instant", diarize=True, speaker_model=str(file))


def test_voices_come_with_the_words_of_those_who_ask_and_one_process_serves_all() -> None:
    farm = FakeFarm()
    for options in (diarized(speaker_model()), RecognitionOptions(engine="tones", model="instant")):
        farm.options = options
        add_speech(farm, speech(0, words=12))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.all_are("done"), "both are done")
                assert len(worker.said("model_ready")) <= 2

    asyncio.run(scene())
    asked, other = (job.result for job in farm.chunks)
    assert isinstance(asked, TranscribeResult)
    assert isinstance(other, TranscribeResult)
    assert asked.voices is not None
    assert other.voices is None
    words = [word for segment in asked.segments for word in segment.words]
    spans = asked.voices.spans
    assert (spans[0][0], spans[-1][1]) == (words[0].start, words[-1].end)
    assert all(0.3 <= end - start <= 1.51 for start, end in spans)
    assert len(asked.voices.vectors) == len(spans) * 192 * 4 / 3
    assert asked.voices.narrow


@pytest.mark.parametrize("file", ["none.onnx", "broken.onnx"])
def test_a_speaker_model_that_cannot_be_had_fails_its_jobs_uncharged_and_others_are_done(
    tmp_path: Path, file: str
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    farm = FakeFarm()
    farm.retry_seconds = 3600
    add_speech(farm, speech(0))
    farm.add_chunk(b"not needed", 10, 1, diarized(tmp_path / file))
    farm.options = RecognitionOptions(engine="tones", model="instant")

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.chunks[0].state == "done" and farm.chunks[1].failures, "both ended")
                assert file in worker.said("model_unavailable")[0].message
                add_speech(farm, speech(1))
                await until(lambda: farm.chunks[2].state == "done", "the next one is done")
                assert not farm.chunks[2].failures
                assert len(worker.said("model_ready")) == 1

    asyncio.run(scene())
    failure = farm.chunks[1].failures[0]
    assert (failure.code, failure.charged, failure.permanent) == ("speakers_unavailable", False, False)
