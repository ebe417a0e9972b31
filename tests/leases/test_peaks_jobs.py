"""The job that makes a listening copy: it comes after cutting, and nothing waits for it or ends worse without it."""

from __future__ import annotations

import pytest
from support.hand_farm import SHA, Farm

from whisper_farm.errors import WrongState
from whisper_farm.leases.claim import Claimed
from whisper_farm.leases.complete import Finished
from whisper_farm.leases.transcriptions import Assembled, assembled, results_of
from whisper_farm.protocol.jobs import ListeningCopy, PeaksResult
from whisper_farm.protocol.worker import Outcome
from whisper_farm.store.jobs import playable
from whisper_farm.transcript.transcript import Coverage


def made(farm: Farm, job: Claimed, digest: str = SHA) -> Outcome:
    audio = ListeningCopy(key=f"listening/{job.transcription_id}/{job.token}", size=7)
    result = PeaksResult(duration_seconds=60, peaks=(-0.5, 0.5), audio=audio)
    return farm.finish(Finished(farm.holder(job.token), job.token, digest, result, "results/peaks", 9))[0]


def assemble(farm: Farm, recording: str) -> None:
    results = farm.database.read(lambda tx: results_of(tx, recording))
    document = Assembled("transcripts/x", 1, Coverage(60, 60, 2, (), 0), results)
    farm.write(lambda tx: assembled(tx, recording, document))


def test_it_is_made_when_the_recording_is_cut_and_taken_by_who_cuts_and_asks_for_it(farm: Farm) -> None:
    made_one = farm.submit(peaks=True)
    farm.worker("ann")
    farm.worker("bob", cuts=False)
    (cutting,) = farm.claim("ann", 0, chunk=1, peaks=1)
    assert cutting.kind == "chunk", "there is nothing else yet"
    farm.append(cutting, 2)
    assert farm.claim("ann", 0, peaks=1) == []
    farm.finish_cutting(cutting, 2)
    assert farm.claim("bob", 0, peaks=1) == farm.claim("ann", 0, chunk=1) == []
    (job,) = farm.claim("ann", 0, peaks=4)
    assert (job.kind, job.job_id, job.source) == ("peaks", f"{made_one.id}.p", made_one.source)
    assert made(farm, job).error_code is None
    assert made(farm, job).error_code is None, "a lost answer"
    assert made(farm, job, "b" * 64).error_code == "result_conflict"
    assert farm.events("peaks_done") == [{"kind": "peaks_done", "duration_seconds": 60.0}]
    row = farm.database.read(lambda tx: playable(tx, made_one.id))
    assert row is not None
    assert (row.audio_key, row.audio_size, row.result_key) == (
        f"listening/{made_one.id}/{job.token}",
        7,
        "results/peaks",
    )


def test_nobody_makes_it_where_nobody_wants_it(farm: Farm) -> None:
    farm.recording(2)
    farm.worker("ann")
    assert farm.claim("ann", 0, peaks=1) == []


@pytest.mark.parametrize("how", ["waits", "runs", "failed"])
def test_a_transcription_ends_whatever_becomes_of_it(farm: Farm, how: str) -> None:
    recording = farm.recording(2, peaks=True)
    farm.worker("ann")
    if how != "waits":
        (job,) = farm.claim("ann", 0, peaks=1)
    if how == "failed":
        farm.fail(job, permanent=True)
        assert farm.job(job.job_id).state == "failed"
    for chunk in farm.claim("ann", 2):
        farm.done(chunk)
    assert farm.find(recording.id).state == "assembling"
    assemble(farm, recording.id)
    assert farm.find(recording.id).state == "done"
    assert farm.find(recording.id).chunks_failed == 0
    if how == "runs":
        assert made(farm, job).error_code is None, "it is welcome afterwards"


@pytest.mark.parametrize("alone", [True, False], ids=["by itself", "with all of it"])
@pytest.mark.parametrize("state", ["running", "assembling", "done"])
def test_one_that_failed_is_tried_again_whatever_its_transcription_does(farm: Farm, state: str, alone: bool) -> None:
    recording = farm.recording(2, peaks=True)
    farm.worker("ann")
    (job,) = farm.claim("ann", 0, peaks=1)
    farm.fail(job, permanent=True)
    chunks = farm.claim("ann", 2)
    for chunk in chunks[state == "running" :]:
        farm.done(chunk)
    if state == "done":
        assemble(farm, recording.id)
    before = farm.find(recording.id)
    assert before.state == state
    assert farm.retry(recording.id, job.job_id if alone else None) == before == farm.find(recording.id)
    with pytest.raises(WrongState):
        farm.retry(recording.id, job.job_id if alone else None)
    (again,) = farm.claim("ann", 0, peaks=1)
    assert (again.job_id, farm.job(job.job_id).charged_attempts) == (job.job_id, 0)
    assert made(farm, again).error_code is None
    assert farm.database.read(lambda tx: playable(tx, recording.id)) is not None
    assert farm.find(recording.id).state == state


def test_what_failed_with_the_whole_is_tried_again_with_it_or_alone(farm: Farm) -> None:
    recording = farm.recording(1, peaks=True)
    farm.worker("ann")
    (job,), (chunk,) = farm.claim("ann", 0, peaks=1), farm.claim("ann")
    farm.fail(job, permanent=True)
    farm.fail(chunk, permanent=True)
    assert farm.retry(recording.id, job.job_id).state == "failed", "its transcript is no nearer"
    farm.fail(farm.claim("ann", 0, peaks=1)[0], permanent=True)
    assert farm.retry(recording.id).state == "running"
    assert len(farm.claim("ann", 1, peaks=1)) == 2
    farm.cancel(recording.id)
    with pytest.raises(WrongState):
        farm.retry(recording.id, job.job_id)


def test_where_every_chunk_fails_the_transcription_says_why_they_did(farm: Farm) -> None:
    recording = farm.recording(1, peaks=True)
    farm.worker("ann")
    (job,) = farm.claim("ann", 0, peaks=1)
    farm.fail(job, code="not_audio", permanent=True)
    (chunk,) = farm.claim("ann")
    farm.fail(chunk, code="engine_error", permanent=True)
    ended = farm.find(recording.id)
    assert (ended.state, ended.error_code) == ("failed", "engine_error")


def test_a_label_moves_it_too(farm: Farm) -> None:
    recording = farm.recording(1, key="k", peaks=True)
    farm.submit(key="k", label="mine")
    farm.worker("ann")
    farm.worker("own", label="mine")
    assert farm.claim("ann", 0, peaks=1) == []
    assert [job.transcription_id for job in farm.claim("own", 0, peaks=1)] == [recording.id]


def test_it_is_cancelled_tried_again_and_deleted_with_its_transcription(farm: Farm) -> None:
    recording = farm.recording(1, peaks=True)
    farm.worker("ann")
    (job,) = farm.claim("ann", 0, peaks=1)
    farm.cancel(recording.id)
    assert farm.beat("ann", job.token).cancelled == (job.token,)
    farm.retry(recording.id)
    (job,) = farm.claim("ann", 0, peaks=1)
    made(farm, job)
    farm.cancel(recording.id)
    keys = farm.delete(recording.id)
    assert {f"listening/{recording.id}/{job.token}", "results/peaks"} <= set(keys)


def test_one_that_a_worker_loses_is_taken_by_another(farm: Farm) -> None:
    farm.recording(1, peaks=True)
    farm.worker("ann")
    farm.worker("bob")
    (lost,) = farm.claim("ann", 0, peaks=1)
    farm.now += 100
    farm.worker("bob")
    (job,) = farm.claim("bob", 0, peaks=1)
    assert job.job_id == lost.job_id
    assert made(farm, lost).error_code == "lease_lost"
    assert made(farm, job).error_code is None
