"""Where nobody who is there can tell speakers apart, a recording goes on with its words alone, and says so."""

from __future__ import annotations

from support.hand_farm import TONES, Farm

from whisper_farm.coordinator.views import transcription_view
from whisper_farm.errors import SpeakersUnavailable

SPEAKERS = TONES.model_copy(update={"diarize": True, "min_speakers": 2, "speaker_model": "/voices.onnx"})


def cannot(farm: Farm, worker: str) -> bool:
    """This worker claims a chunk and cannot have the speaker model; whether it was asked for speakers."""
    farm.beat(worker)
    (job,) = farm.claim(worker)
    asked = job.options.diarize
    farm.fail(job, code=SpeakersUnavailable.code, charged=False)
    farm.now += 1
    return asked


def test_the_words_come_when_the_only_worker_cannot_tell_speakers_apart(farm: Farm) -> None:
    made = farm.recording(2, options=SPEAKERS)
    farm.worker("ann")
    assert cannot(farm, "ann")
    for _ in range(2):
        (job,) = farm.claim("ann")
        asked = job.options
        assert (asked.diarize, asked.min_speakers, asked.speaker_model) == (False, None, None)
        farm.finish(farm.finished(job))
    view = farm.database.read(lambda tx: transcription_view(tx, made.id, farm.policy), now=farm.now)
    assert (view.state, view.options.diarize, view.warning_code) == ("assembling", True, "without_speakers")
    assert "It broke." in str(view.warning)
    assert f"whisper-farm retry {made.id}" in str(view.warning)


def test_whoever_is_there_and_has_not_tried_is_asked_for_speakers_first(farm: Farm) -> None:
    made = farm.recording(1, options=SPEAKERS)
    farm.worker("ann")
    farm.worker("bob")
    assert cannot(farm, "ann")
    assert farm.claim("ann") == []
    assert farm.find(made.id).without_speakers is None
    assert cannot(farm, "bob")
    assert farm.find(made.id).without_speakers == "It broke."


def test_a_worker_that_has_left_is_not_waited_for(farm: Farm) -> None:
    farm.recording(1, options=SPEAKERS)
    farm.worker("ann")
    farm.worker("bob")
    farm.release("bob", leaving=True)
    assert cannot(farm, "ann")
    (job,) = farm.claim("ann")
    assert not job.options.diarize


def test_a_recording_that_asks_for_no_speakers_is_not_said_to_lack_them(farm: Farm) -> None:
    made = farm.recording(1)
    farm.worker("ann")
    assert not cannot(farm, "ann")
    view = farm.database.read(lambda tx: transcription_view(tx, made.id, farm.policy), now=farm.now)
    assert view.warning is None


def test_a_worker_that_says_so_again_and_again_is_heard_no_longer_than_for_another_model(farm: Farm) -> None:
    made = farm.recording(1, options=SPEAKERS)
    farm.worker("ann")
    for _ in range(4 * farm.policy.max_attempts):
        farm.now += 130
        cannot(farm, "ann")
    assert farm.find(made.id).state == "failed"
