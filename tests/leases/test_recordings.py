"""Whole recordings: cutting, language, revision, cancel, retry, delete, and how they end."""

from __future__ import annotations

import pytest
from support.hand_farm import SHA, TONES, Farm

from whisper_farm.coordinator.transcripts import gaps_of, maker_of
from whisper_farm.errors import InvalidRequest, LeaseLost, NotFound, PositionConflict, TooLarge, WrongState
from whisper_farm.leases.append import append
from whisper_farm.leases.transcriptions import Assembled, assembled, blob_keys_of, next_to_assemble, results_of
from whisper_farm.protocol.worker import AppendRequest, NewChunk
from whisper_farm.store.transcriptions import find
from whisper_farm.transcript.transcript import Coverage, MissingStretch

WHOLE = Coverage(duration=90, covered=90, chunks=3)
HOLED = Coverage(duration=90, covered=60, chunks=3, missing=(MissingStretch(0, 30, "engine_error"),))


def _finish(farm: Farm, recording: str, coverage: Coverage = WHOLE, key: str = "transcripts/one.json") -> str:
    made = Assembled(key, 5, coverage, farm.database.read(lambda tx: results_of(tx, recording)))
    return str(farm.write(lambda tx: assembled(tx, recording, made)).state)


def test_the_same_key_of_the_same_owner_is_the_same_recording(farm: Farm) -> None:
    first = farm.submit("a.mp3", key="k")
    told = farm.events()
    assert farm.submit("b.mp3", key="k", priority=3) == first
    assert farm.events() == told
    assert farm.submit("a.mp3", key="k", owner="bob").id != first.id
    assert farm.submit("a.mp3").id != farm.submit("a.mp3").id


def test_a_chunk_job_that_died_is_resumed_without_hole_or_duplicate(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (old,) = farm.claim("ann", chunk=1)
    farm.append(old, 3, tag="old-")
    farm.now += 21
    farm.worker("bob")
    (new,) = farm.claim("bob", chunk=1, transcribe=0)
    assert (new.resume_position, new.resume_seconds) == (3, 90.0)
    assert farm.append(new, 4, first=1, tag="new-").next_position == 5
    assert farm.finish_cutting(new, 5).error_code is None
    jobs = [farm.job(f"{recording.id}.{position}") for position in range(5)]
    bounds = [(row.start_seconds, row.end_seconds) for row in jobs]
    assert bounds == [(30.0 * n, 30.0 * (n + 1)) for n in range(5)]
    assert ["old-" in row.audio_key for row in jobs] == [True, True, True, False, False]
    assert [event["first"] for event in farm.events("chunks_appended")] == [0, 3]


def test_chunks_must_continue_and_agree(farm: Farm) -> None:
    farm.submit()
    farm.worker("ann")
    (job,) = farm.claim("ann", chunk=1)
    farm.append(job, 2)
    before = farm.snapshot()

    def chunk(position: int, start: float, end: float) -> None:
        new = NewChunk(position=position, start_seconds=start, end_seconds=end, speech_seconds=1, key="k", size=1,
                       sha256=SHA)  # fmt: skip
        request = AppendRequest(worker_id="ann", token=job.token, chunks=(new,))
        farm.write(lambda tx: append(tx, request, farm.policy))

    for wrong in ((3, 60, 90), (2, 61, 90), (2, 59, 90), (1, 30, 61), (0, 1, 30)):
        with pytest.raises(PositionConflict):
            chunk(*wrong)
    with pytest.raises(InvalidRequest):
        chunk(2, 60, 60)
    chunk(0, 0, 30)
    assert farm.snapshot() == before
    farm.policy = farm.policy.model_copy(update={"max_chunks": 2})
    with pytest.raises(TooLarge):
        chunk(2, 60, 90)
    with pytest.raises(LeaseLost):
        farm.append(job, 1, worker="bob")


def test_a_cut_that_does_not_add_up_is_refused(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (job,) = farm.claim("ann", chunk=1)
    farm.append(job, 2)
    assert farm.finish_cutting(job, 3).error_code == "invalid_request"
    assert farm.finish_cutting(job, 2, length=31).error_code == "invalid_request"
    assert farm.finish_cutting(job, 2, damaged_packets=4, damaged_seconds=((1.0, 2.0),)).error_code is None
    row = farm.find(recording.id)
    assert (row.damaged_packets, row.damaged, row.duration_seconds) == (4, [[1.0, 2.0]], 60.0)


def test_the_language_of_a_tag_is_expected_until_another_is_heard(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    farm.append(cutting, 2, language="de")
    assert farm.find(recording.id).tagged_language == "de"
    (job,) = farm.claim("ann", transcribe=1)
    assert job.expected_language == "de"
    farm.done(job, language="fr")
    (job,) = farm.claim("ann", transcribe=1)
    assert job.expected_language == "fr"


def test_silence_is_done_at_once(farm: Farm) -> None:
    recording = farm.recording(3, speech=[0, 20, 0])
    row = farm.find(recording.id)
    assert (row.chunks_done, row.done_seconds) == (2, 60.0)
    assert [event["position"] for event in farm.events("job_done")] == [0, 2]
    farm.worker("ann")
    (job,) = farm.claim("ann", transcribe=9)
    assert job.position == 1
    farm.done(job)
    assert farm.find(recording.id).state == "assembling"
    results = farm.database.read(lambda tx: results_of(tx, recording.id))
    assert [(position, key is None) for position, _, _, key in results] == [(0, True), (1, False), (2, True)]


def test_a_recording_of_nothing_but_silence_is_assembled_too(farm: Farm) -> None:
    assert farm.recording(2, speech=[0, 0]).state == "assembling"
    assert farm.recording(0).state == "assembling"


def test_the_first_chunk_with_enough_speech_decides_the_language(farm: Farm) -> None:
    recording = farm.recording(5, speech=[2, 20, 20, 20, 20])
    farm.worker("ann")
    zero, one, two, three, four = farm.claim("ann", transcribe=5)
    farm.done(zero, language="fr")
    farm.done(two, language="de")
    farm.done(three, language="en")
    assert farm.find(recording.id).language is None
    assert farm.find(recording.id).done_seconds == 90.0
    farm.done(one, language="de")
    row = farm.find(recording.id)
    assert (row.language, row.chunks_done, row.done_seconds) == ("de", 2, 60.0)
    assert [event["position"] for event in farm.events("job_redo")] == [0, 3]
    assert farm.done(four, language="en").error_code is None
    assert farm.attempt(four.token).state == "superseded"
    assert farm.job(four.job_id).state == "queued"
    again = farm.claim("ann", transcribe=9)
    assert [(job.position, job.expected_language) for job in again] == [(0, "de"), (3, "de"), (4, "de")]
    for job in again:
        assert farm.done(job, language="nl" if job.position == 4 else "de").error_code is None
    row = farm.find(recording.id)
    assert (row.state, row.chunks_done, row.done_seconds) == ("assembling", 5, 150.0)
    assert farm.job(four.job_id).language == "de", "an engine that was told the language is taken at its word"


def test_where_every_chunk_has_its_own_language_no_result_is_thrown_away(farm: Farm) -> None:
    recording = farm.recording(3, speech=[20, 20, 20], options=TONES.model_copy(update={"multilingual": True}))
    farm.worker("ann")
    zero, one = farm.claim("ann", transcribe=2)
    farm.done(one, language="en")
    farm.done(zero, language="fr")
    assert farm.find(recording.id).language == "fr", "that of the first chunk stands for the recording"
    (two,) = farm.claim("ann", transcribe=1)
    assert two.expected_language is None, "nobody is told what to hear"
    farm.done(two, language="de")
    row = farm.find(recording.id)
    assert (row.state, row.chunks_done) == ("assembling", 3)
    assert [farm.job(job.job_id).language for job in (zero, one, two)] == ["fr", "en", "de"]
    assert farm.events("job_redo") == []


def test_a_result_that_is_sure_of_its_language_is_kept_whatever_is_decided(farm: Farm) -> None:
    recording = farm.recording(5)
    farm.worker("ann")
    zero, one, two, three = farm.claim("ann", transcribe=4)
    farm.done(one, language="en", sure=True)
    farm.done(two, language="en")
    farm.done(zero, language="fr", sure=True)
    assert farm.find(recording.id).language == "fr"
    assert [event["position"] for event in farm.events("job_redo")] == [2]
    assert farm.done(three, language="de", sure=True).error_code is None, "it was claimed before the decision"
    (again, four) = farm.claim("ann", transcribe=9)
    assert [job.expected_language for job in (again, four)] == ["fr", "fr"]
    farm.done(again, language="fr")
    farm.done(four, language="es", sure=True)
    assert farm.find(recording.id).state == "assembling"
    assert [farm.job(job.job_id).language for job in (zero, one, two, three, four)] == ["fr", "en", "fr", "de", "es"]


def test_the_language_is_decided_within_one_call_as_in_many(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    zero, one, two = farm.claim("ann", transcribe=3)
    outcomes = farm.finish(farm.finished(two, language="en"), farm.finished(zero, language="de"),
                           farm.finished(one, language="en"))  # fmt: skip
    assert [outcome.error_code for outcome in outcomes] == [None, None, None]
    assert [farm.attempt(job.token).state for job in (two, zero, one)] == ["done", "done", "done"]
    assert farm.states() == {"done": 2, "queued": 2}
    assert farm.find(recording.id).language == "de"


def test_with_little_speech_anywhere_the_chunk_with_most_decides(farm: Farm) -> None:
    recording = farm.recording(3, speech=[1, 4, 2])
    farm.worker("ann")
    for job, language in zip(farm.claim("ann", transcribe=3), ("fr", "de", "fr"), strict=True):
        farm.done(job, language=language)
    row = farm.find(recording.id)
    assert (row.state, row.language, row.chunks_done) == ("running", "de", 1)
    for job in farm.claim("ann", transcribe=3):
        farm.done(job, language="de")
    assert farm.find(recording.id).state == "assembling"


def test_when_the_deciding_chunk_is_set_aside_the_next_one_decides(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    zero, one, two = farm.claim("ann", transcribe=3)
    farm.done(one, language="de")
    farm.done(two, language="en")
    assert farm.find(recording.id).language is None
    farm.fail(zero, permanent=True)
    assert farm.find(recording.id).language == "de"
    assert farm.job(two.job_id).state == "queued"


def test_a_language_that_was_asked_for_is_told_and_kept(farm: Farm) -> None:
    farm.recording(1, options=TONES.model_copy(update={"language": "de"}))
    farm.worker("ann")
    (job,) = farm.claim("ann")
    assert job.options.language == "de"
    assert farm.done(job, language="en").error_code is None
    assert farm.job(job.job_id).language == "de"
    assert farm.events("language_decided") == []


def test_the_first_result_pins_the_revision(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    farm.worker("bob")
    (one,) = farm.claim("ann")
    (two,) = farm.claim("bob")
    farm.done(one, revision="r1")
    assert farm.done(two, revision="r2").error_code == "model_mismatch"
    row = farm.job(two.job_id)
    assert (row.state, row.charged_attempts, row.available_at) == ("queued", 0, farm.now)
    assert farm.attempt(two.token).state == "failed"
    assert farm.claim("ann", transcribe=2)[0].options.revision == "r1"
    assert farm.find(recording.id).revision == "r1"


def test_cancel_and_completion_have_one_winner(farm: Farm) -> None:
    second, first = farm.recording(1, "b.mp3"), farm.recording(2, "a.mp3")
    farm.worker("ann")
    (job,) = farm.claim("ann")
    assert farm.cancel(first.id).state == "cancelled"
    before = farm.snapshot()
    assert farm.done(job).error_code == "lease_lost"
    assert farm.beat("ann", job.token).cancelled == (job.token,)
    assert farm.cancel(first.id).state == "cancelled"
    assert farm.snapshot() == before
    assert len(farm.events("transcription_cancelled")) == 1
    (job,) = farm.claim("ann")
    farm.done(job)
    assert _finish(farm, second.id) == "done"
    with pytest.raises(WrongState):
        farm.cancel(second.id)


def test_a_cancelled_recording_is_not_assembled(farm: Farm) -> None:
    recording = farm.recording(1, speech=[0])
    assert farm.write(next_to_assemble) == recording.id
    farm.cancel(recording.id)
    assert _finish(farm, recording.id) == "cancelled"
    assert farm.write(next_to_assemble) is None
    assert farm.retry(recording.id).state == "assembling"


def test_retry_gives_what_failed_a_fresh_start(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    for _ in range(3):
        (job,) = farm.claim("ann")
        farm.fail(job)
        farm.now += 10
        farm.beat("ann")
    (other,) = farm.claim("ann")
    with pytest.raises(WrongState):
        farm.retry(recording.id)
    farm.done(other)
    assert _finish(farm, recording.id, HOLED) == "incomplete"
    assert farm.retry(recording.id).state == "running"
    row = farm.find(recording.id)
    assert (row.chunks_done, row.chunks_failed, row.finished_at) == (1, 0, None)
    for left in (2, 1, 0):
        (job,) = farm.claim("ann")
        assert job.position == 0
        assert farm.job(job.job_id).charged_attempts == 2 - left, "the old attempts are forgiven"
        if left:
            farm.fail(job)
            farm.now += 10
            farm.beat("ann")
    assert job.attempt == 6
    farm.done(job)
    assert _finish(farm, recording.id) == "done"
    with pytest.raises(WrongState):
        farm.retry(recording.id)


def test_one_job_is_tried_again_and_the_others_stay_set_aside(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    jobs = farm.claim("ann", transcribe=3)
    for job in jobs[:2]:
        farm.fail(job, permanent=True)
    with pytest.raises(WrongState):
        farm.retry(recording.id, jobs[0].job_id)
    farm.done(jobs[2])
    assert _finish(farm, recording.id, HOLED) == "incomplete"
    for not_set_aside in (jobs[2].job_id, "r9.0", f"{recording.id}.9"):
        with pytest.raises(WrongState):
            farm.retry(recording.id, not_set_aside)
    assert farm.retry(recording.id, jobs[0].job_id).state == "running"
    row = farm.find(recording.id)
    assert (row.chunks_done, row.chunks_failed) == (1, 1)
    (again,) = farm.claim("ann", transcribe=3)
    assert again.job_id == jobs[0].job_id
    farm.done(again)
    assert _finish(farm, recording.id, HOLED) == "incomplete", "the other is still missing"
    farm.retry(recording.id)
    farm.cancel(recording.id)
    with pytest.raises(WrongState):
        farm.retry(recording.id, jobs[1].job_id)


def test_retry_forgets_who_failed_before(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    recording = farm.recording(1)
    farm.worker("ann")
    farm.fail(farm.claim("ann")[0])
    assert farm.retry(recording.id).state == "running"
    farm.worker("bob")
    (job,) = farm.claim("bob")
    farm.fail(job)
    assert farm.job(job.job_id).state == "queued", "ann's failure of old does not count; she may try again"
    farm.now += 1
    farm.fail(farm.claim("ann")[0])
    assert farm.find(recording.id).state == "failed"


def test_retry_of_a_recording_nobody_ever_touched_queues_it(farm: Farm) -> None:
    recording = farm.submit()
    farm.cancel(recording.id)
    assert farm.retry(recording.id).state == "queued"
    farm.worker("ann")
    assert len(farm.claim("ann", chunk=1)) == 1


def test_retry_with_nothing_to_try_assembles_again(farm: Farm) -> None:
    recording = farm.recording(1, speech=[0])
    assert _finish(farm, recording.id, HOLED) == "incomplete"
    assert farm.retry(recording.id).state == "assembling"


def test_when_nothing_came_of_any_chunk_the_recording_failed(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    one, two = farm.claim("ann", transcribe=2)
    farm.fail(two, code="recogniser_crashed", permanent=True)
    assert farm.find(recording.id).state == "running"
    farm.fail(one, code="engine_error", permanent=True)
    row = farm.find(recording.id)
    assert (row.state, row.error_code) == ("failed", "engine_error"), "the first failure in order of position"
    assert farm.retry(recording.id).error_code is None
    assert len(farm.claim("ann", transcribe=2)) == 2


def test_what_was_cut_before_the_cutting_failed_is_finished(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    farm.append(cutting, 2)
    farm.fail(cutting, code="source_unreadable", permanent=True)
    for job in farm.claim("ann", transcribe=2):
        assert farm.find(recording.id).state == "running"
        farm.done(job)
    assert farm.find(recording.id).state == "assembling"
    (gap,) = farm.database.read(lambda tx: gaps_of(tx, [find(tx, recording.id)])[recording.id])
    assert (gap.start_seconds, gap.position) == (60.0, None)
    assert "source_unreadable" in gap.reason


def test_gaps_name_what_was_set_aside_and_what_the_file_promised(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    farm.append(cutting, 3)
    farm.finish_cutting(cutting, 3, declared_seconds=100.0)
    jobs = farm.claim("ann", transcribe=3)
    farm.fail(jobs[1], permanent=True)
    for job in (jobs[0], jobs[2]):
        farm.done(job)
    gaps = farm.database.read(lambda tx: gaps_of(tx, [find(tx, recording.id)])[recording.id])
    assert [(gap.start_seconds, gap.end_seconds, gap.position) for gap in gaps] == [(30, 60, 1), (90, 100, None)]


def test_damage_that_lasts_longer_than_a_second_is_a_gap_and_shorter_damage_a_count(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    farm.append(cutting, 3)
    farm.finish_cutting(cutting, 3, damaged_packets=7, damaged_seconds=((1.0, 2.0), (50.0, 83.5)))
    zero, one, two = farm.claim("ann", transcribe=3)
    farm.fail(two, permanent=True)
    farm.done(zero)
    farm.done(one)
    gaps = farm.database.read(lambda tx: gaps_of(tx, [find(tx, recording.id)])[recording.id])
    assert [(gap.start_seconds, gap.end_seconds, gap.position) for gap in gaps] == [(50, 83.5, None), (60, 90, 2)]
    assert gaps[0].reason == "7 packets of the file are damaged"


def test_assembling_ends_once(farm: Farm) -> None:
    recording = farm.recording(1, speech=[0])
    assert _finish(farm, recording.id) == "done"
    assert _finish(farm, recording.id, HOLED, key="transcripts/late.json") == "done"
    row = farm.find(recording.id)
    assert (row.transcript_key, row.transcript_size) == ("transcripts/one.json", 5)
    assert row.coverage is not None
    assert row.coverage["covered"] == 90
    assert len(farm.events("transcription_done")) == 1
    other = farm.recording(1, speech=[0])
    assert farm.write(lambda tx: next_to_assemble(tx, skip=[other.id])) is None


def test_a_transcript_of_an_earlier_round_changes_nothing(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    bad, good = farm.claim("ann", transcribe=2)
    farm.fail(bad, permanent=True)
    farm.done(good)
    late = Assembled("transcripts/late.json", 5, HOLED, farm.database.read(lambda tx: results_of(tx, recording.id)))
    assert _finish(farm, recording.id, HOLED) == "incomplete"
    farm.retry(recording.id)
    farm.done(farm.claim("ann")[0])
    assert farm.write(lambda tx: assembled(tx, recording.id, late)).state == "assembling"
    assert _finish(farm, recording.id, key="transcripts/new.json") == "done"
    assert farm.find(recording.id).transcript_key == "transcripts/new.json"


def test_a_chunk_whose_stored_result_is_lost_is_named_and_recognised_again_by_a_retry(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    for job in farm.claim("ann", transcribe=2):
        farm.done(job)
    results = farm.database.read(lambda tx: results_of(tx, recording.id))
    made = Assembled("transcripts/one.json", 5, HOLED, results, lost={1})
    assert farm.write(lambda tx: assembled(tx, recording.id, made)).state == "incomplete"
    gaps = farm.database.read(lambda tx: gaps_of(tx, [find(tx, recording.id)])[recording.id])
    assert [(gap.start_seconds, gap.end_seconds, gap.position) for gap in gaps] == [(30, 60, 1)]
    assert "blob_missing" in gaps[0].reason
    farm.retry(recording.id)
    (again,) = farm.claim("ann", transcribe=2)
    assert again.position == 1
    farm.done(again)
    assert _finish(farm, recording.id) == "done"


def test_deleting_forgets_the_rows_and_names_the_blobs(farm: Farm) -> None:
    recording, twin = farm.recording(2, "same.mp3"), farm.recording(1, "same.mp3", speech=[0])
    farm.worker("ann")
    with pytest.raises(WrongState):
        farm.delete(recording.id)
    for job in farm.claim("ann", transcribe=2):
        farm.done(job)
    _finish(farm, recording.id)
    keys = farm.database.read(lambda tx: blob_keys_of(tx, recording.id))
    assert len(keys) == 6
    assert set(farm.delete(recording.id)) == set(keys) - {"sources/same.mp3"}, "the twin needs the source"
    with pytest.raises(NotFound):
        farm.find(recording.id)
    farm.cancel(twin.id)
    assert "sources/same.mp3" in farm.delete(twin.id)
    assert len(farm.events("transcription_deleted")) == 2


def test_the_makers_are_those_whose_results_count(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    (one,) = farm.claim("ann")
    (two,) = farm.claim("bob")
    farm.done(two, language="de", digest="b" * 64)
    farm.done(one, language="en")
    (two,) = farm.claim("ann")
    farm.done(two, language="en", digest="c" * 64)
    maker = farm.database.read(lambda tx: maker_of(tx, find(tx, recording.id)))
    assert (maker.engine, maker.model, maker.revision, maker.workers) == ("tones", "instant", "r1", ("ann",))
