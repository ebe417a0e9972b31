"""What a claim promises: one holder, a fence, nothing stranded, nobody robbed."""

from __future__ import annotations

import pytest
from support.hand_farm import SHA, Farm

from whisper_farm.errors import LeaseLost, WorkerUnknown
from whisper_farm.leases.fail import take_back
from whisper_farm.leases.workers import dismiss, drain, pause


def test_a_recording_goes_from_submission_to_assembling(farm: Farm) -> None:
    cutter, hearer = farm.worker("cutter"), farm.worker("hearer", cuts=False)
    made = farm.submit("talk.mp3")
    assert made.state == "queued"
    assert farm.claim(hearer, transcribe=4, chunk=1) == []
    (cutting,) = farm.claim(cutter, chunk=1)
    assert (cutting.kind, cutting.source, cutting.resume_position) == ("chunk", "blob:sources/talk.mp3", 0)
    assert farm.append(cutting, 2).next_position == 2
    first, second = farm.claim(hearer, transcribe=4)
    assert [first.position, second.position] == [0, 1]
    assert first.token != second.token
    assert farm.done(first).error_code is None
    assert farm.append(cutting, 1, first=2).next_position == 3
    assert farm.finish_cutting(cutting, 3).error_code is None
    assert farm.done(second).error_code is None
    (third,) = farm.claim(cutter)
    assert farm.find(made.id).state == "running"
    assert farm.done(third).error_code is None
    row = farm.find(made.id)
    assert (row.state, row.chunks, row.chunks_done, row.done_seconds) == ("assembling", 3, 3, 90.0)
    assert (row.language, row.revision, row.duration_seconds, row.chunking_done) == ("en", "r1", 90.0, True)
    kinds = [event["kind"] for event in farm.events() if not event["kind"].startswith("worker_")]
    assert kinds == [
        "transcription_submitted", "transcription_started", "chunks_appended", "job_done", "language_decided",
        "chunks_appended", "chunking_done", "job_done", "job_done", "transcription_assembling",
    ]  # fmt: skip


def test_a_zombie_changes_nothing(farm: Farm) -> None:
    recording = farm.recording(1)
    farm.worker("ann")
    (old,) = farm.claim("ann")
    farm.now += 21
    farm.worker("bob")
    (new,) = farm.claim("bob")
    assert new.job_id == old.job_id
    assert new.alone
    before = farm.snapshot()
    assert farm.beat("ann", old.token).lost == (old.token,)
    assert farm.done(old, "ann").error_code == "lease_lost"
    assert farm.fail(old, "ann").error_code == "lease_lost"
    assert farm.release("ann", old)[0].error_code == "lease_lost"
    assert farm.done(new, "ann").error_code == "lease_lost", "another worker's token is no better"
    assert farm.beat("ann", new.token).lost == (new.token,)
    assert farm.snapshot() == before
    assert farm.done(new).error_code is None
    assert farm.done(old, "ann").error_code == "lease_lost"
    assert farm.find(recording.id).state == "assembling"
    assert [farm.attempt(one.token).state for one in (old, new)] == ["lost", "done"]


def test_a_zombie_that_cuts_appends_nothing(farm: Farm) -> None:
    farm.worker("ann")
    farm.submit()
    (old,) = farm.claim("ann", chunk=1)
    farm.append(old, 2)
    farm.now += 21
    farm.worker("bob")
    (new,) = farm.claim("bob", chunk=1, transcribe=0)
    before = farm.snapshot()
    with pytest.raises(LeaseLost):
        farm.append(old, 1, first=2)
    assert farm.finish_cutting(old, 2).error_code == "lease_lost"
    assert farm.snapshot() == before
    assert new.resume_position == 2


def test_late_but_alone_is_accepted(farm: Farm) -> None:
    recording = farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 10_000
    assert farm.done(job).error_code is None
    assert farm.find(recording.id).state == "assembling"
    assert farm.job(job.job_id).charged_attempts == 0


def test_a_lapsed_lease_alone_changes_nothing_and_a_heartbeat_renews_it(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 21
    assert farm.beat("ann", job.token).lost == ()
    farm.worker("bob")
    assert farm.claim("bob") == []
    farm.now += 19
    assert farm.claim("bob") == []
    farm.now += 2
    assert len(farm.claim("bob")) == 1


def test_a_lost_claim_reply_is_asked_for_again(farm: Farm) -> None:
    farm.recording(5)
    farm.worker("ann")
    first = farm.claim("ann", transcribe=3, request="r-1")
    assert len(first) == 3
    farm.done(first[0])
    farm.now += 15
    again = farm.claim("ann", transcribe=3, request="r-1")
    assert [one.token for one in again] == [one.token for one in first[1:]]
    assert [one.start_seconds for one in again] == [30.0, 60.0]
    farm.now += 10
    farm.worker("bob")
    assert {one.position for one in farm.claim("bob", transcribe=9)} == {3, 4}, "asking again renewed the leases"
    for one in again:
        farm.done(one)
    assert farm.claim("ann", transcribe=3, request="r-1") == [], "a request that was answered is never answered anew"


def test_a_lost_claim_reply_reaches_a_worker_that_is_told_to_drain(farm: Farm) -> None:
    farm.recording(2)
    farm.worker("ann")
    (job,) = farm.claim("ann", request="r-1")
    farm.write(lambda tx: drain(tx, "ann"))
    assert [one.token for one in farm.claim("ann", request="r-1")] == [job.token]
    assert farm.claim("ann") == []
    answer = farm.beat("ann", job.token)
    assert (answer.drain, answer.dismissed) == (True, False)
    farm.write(lambda tx: dismiss(tx, "ann"))
    answer = farm.beat("ann", job.token)
    assert (answer.drain, answer.dismissed) == (True, True)
    assert farm.done(job).error_code is None


def test_a_paused_worker_finishes_what_it_holds_and_is_given_more_only_when_it_is_resumed(farm: Farm) -> None:
    farm.recording(3)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.write(lambda tx: pause(tx, "ann"))
    farm.write(lambda tx: pause(tx, "ann"))
    assert farm.claim("ann") == []
    answer = farm.beat("ann", job.token)
    assert (answer.drain, answer.dismissed, answer.lost) == (False, False, ())
    assert farm.done(job).error_code is None
    farm.worker("ann")
    assert farm.claim("ann") == [], "registering again does not resume it"
    farm.write(lambda tx: pause(tx, "ann", paused=False))
    assert len(farm.claim("ann")) == 1


def test_what_a_worker_holds_that_is_paused_at_once_goes_to_others_uncharged(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    farm.worker("bob")
    (job,) = farm.claim("ann")
    farm.write(lambda tx: pause(tx, "ann"))
    farm.write(lambda tx: take_back(tx, "ann", farm.policy))
    assert farm.beat("ann", job.token).lost == (job.token,)
    assert farm.done(job).error_code == "lease_lost"
    (again,) = farm.claim("bob")
    assert again.position == job.position
    assert farm.done(again).error_code is None


def test_the_same_request_id_of_two_workers_is_two_requests(farm: Farm) -> None:
    farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    one, other = farm.claim("ann", request="r"), farm.claim("bob", request="r")
    assert one[0].job_id != other[0].job_id


def test_a_lost_completion_reply_is_given_again(farm: Farm) -> None:
    farm.recording(2)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    assert farm.done(job).error_code is None
    before, told = farm.snapshot(), farm.events()
    farm.now += 100
    assert farm.done(job).error_code is None
    assert farm.done(job, digest="b" * 64).error_code == "result_conflict"
    assert farm.snapshot() == before
    assert farm.events() == told
    assert farm.job(job.job_id).result_digest == SHA


def test_completions_of_one_call_stand_each_for_itself(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    one, two, three = farm.claim("ann", transcribe=3)
    farm.release("ann", two)
    again = farm.finished(one)
    outcomes = farm.finish(again, again, farm.finished(two), farm.finished(one, digest="b" * 64),
                           farm.finished(three))  # fmt: skip
    codes = [outcome.error_code for outcome in outcomes]
    assert codes == [None, None, "lease_lost", "result_conflict", None]
    assert farm.find(recording.id).chunks_done == 2


def test_a_result_of_the_wrong_kind_is_refused_and_the_claim_lives_on(farm: Farm) -> None:
    farm.worker("ann")
    farm.recording(1)
    (job,) = farm.claim("ann")
    assert farm.finish_cutting(job, 1).error_code == "invalid_request"
    assert farm.attempt(job.token).state == "live"
    assert farm.done(job).error_code is None


def test_an_unknown_worker_must_register_again(farm: Farm) -> None:
    with pytest.raises(WorkerUnknown):
        farm.claim("nobody")
    with pytest.raises(WorkerUnknown):
        farm.beat("nobody")


def test_a_worker_that_wakes_from_sleep_does_not_rob_itself(farm: Farm) -> None:
    """Its claim may come before its heartbeat; only a worker that has beaten since has forgotten the job."""
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 3600
    assert farm.claim("ann") == []
    assert farm.beat("ann", job.token).lost == ()
    assert farm.done(job).error_code is None


def test_a_lone_worker_gets_back_a_job_it_forgot(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (forgotten,) = farm.claim("ann")
    farm.now += 21
    farm.beat("ann")
    (job,) = farm.claim("ann")
    assert job.job_id == forgotten.job_id
    assert farm.attempt(forgotten.token).state == "lost"


def test_a_released_job_is_not_charged_and_goes_to_the_next(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    assert farm.release("ann", job)[0].error_code is None
    assert farm.attempt(job.token).state == "released"
    row = farm.job(job.job_id)
    assert (row.state, row.charged_attempts) == ("queued", 0)
    (again,) = farm.claim("ann")
    assert (again.attempt, again.alone) == (2, False)


def test_a_worker_that_leaves_hands_back_even_what_it_does_not_know_of(farm: Farm) -> None:
    farm.recording(3)
    farm.worker("ann")
    known = farm.claim("ann")
    farm.claim("ann", transcribe=2)
    assert [one.error_code for one in farm.release("ann", *known, leaving=True)] == [None]
    assert farm.states() == {"done": 1, "queued": 3}
    with pytest.raises(WorkerUnknown):
        farm.beat("ann")
    assert [event["worker_id"] for event in farm.events("worker_gone")][-1] == "ann"


def test_a_worker_with_a_label_works_on_what_bears_it_and_on_nothing_else(farm: Farm) -> None:
    farm.recording(3, "first.mp3")
    mine = farm.recording(2, "mine.mp3", label="mine")
    farm.submit("third.mp3")
    farm.submit("fourth.mp3", label="mine")
    farm.worker("ann", label="mine")
    claims = farm.claim("ann", transcribe=9, chunk=9)
    assert sorted(one.source_name for one in claims) == ["fourth.mp3", "mine.mp3", "mine.mp3"]
    farm.now += 21
    farm.worker("bob")
    assert sorted(one.source_name for one in farm.claim("bob", transcribe=9, chunk=9)) == ["first.mp3"] * 3 + [
        "third.mp3"
    ]
    farm.worker("cid", label="mine")
    lapsed = farm.claim("cid", transcribe=9)
    assert {one.transcription_id for one in lapsed} == {mine.id}
    assert len(lapsed) == 2


def test_what_is_submitted_again_with_another_label_is_worked_on_by_those_who_have_it(farm: Farm) -> None:
    recording = farm.recording(2, key="the-same", label="before")
    farm.worker("before", label="before")
    farm.worker("after", label="after")
    (job,) = farm.claim("before")
    assert farm.submit(key="the-same", label="after").id == recording.id
    assert farm.claim("before") == []
    assert [one.position for one in farm.claim("after", transcribe=2)] == [1]
    assert farm.done(job).error_code is None, "what was claimed before is not lost"


def test_leases_and_heartbeats_stretch_with_the_fleet(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"beats_per_second": 1.0})
    for number in range(10):
        farm.worker(f"w{number}")
    answer = farm.beat("w0")
    assert (answer.heartbeat_seconds, answer.lease_seconds) == (10.0, 40.0)
    farm.recording(1)
    assert farm.claim("w0")[0].lease_seconds == 40.0
    farm.release("w9", leaving=True)
    assert farm.beat("w0").heartbeat_seconds == 9.0


def test_a_waiting_claim_knows_when_to_look_again(farm: Farm) -> None:
    farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    assert farm.due() is None
    one, _ = farm.claim("ann", transcribe=2)
    assert farm.due() == 20.0
    farm.now += 5
    farm.fail(one, charged=True)
    assert farm.due() == 0.75


def test_an_append_does_not_shorten_a_lease_whose_worker_knows_a_longer_one(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"beats_per_second": 1.0})
    crowd = [farm.worker(f"w{number}") for number in range(50)]
    farm.submit()
    (job,) = farm.claim("w0", chunk=1)
    pace = farm.beat("w0", job.token)
    for name in crowd[1:]:
        farm.release(name, leaving=True)
    farm.append(job, 1)
    assert farm.attempt(job.token).lease_until - farm.now >= pace.heartbeat_seconds, "its next beat would come too late"


def test_many_submissions_of_one_owner_do_not_all_come_before_the_first_of_another(farm: Farm) -> None:
    for number in range(20):
        farm.submit(f"{number}.mp3", owner="greedy")
    modest = farm.submit("modest.mp3", owner="modest")
    farm.worker("ann")
    cut = [farm.claim("ann", transcribe=0, chunk=1)[0].transcription_id for _ in range(3)]
    assert modest.id in cut
