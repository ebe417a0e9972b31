"""The reaper gives up on silence, and on nothing else."""

from __future__ import annotations

import pytest
from hand_farm import Farm

from whisper_farm.errors import WorkerUnknown
from whisper_farm.leases.reap import ReapReport


def test_a_silent_worker_is_given_up_after_three_leases_and_may_come_back(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 60
    assert farm.reap() == ReapReport()
    farm.now += 1
    assert farm.reap() == ReapReport(workers_gone=1)
    assert farm.reap() == ReapReport()
    assert [event["worker_id"] for event in farm.events("worker_gone")] == ["cutter", "ann"]
    with pytest.raises(WorkerUnknown):
        farm.beat("ann", job.token)
    farm.worker("ann")
    assert farm.beat("ann", job.token).lost == ()
    assert farm.done(job).error_code is None, "nobody else has taken it"


def test_claiming_is_a_sign_of_life(farm: Farm) -> None:
    farm.worker("ann")
    farm.now += 59
    farm.claim("ann")
    farm.now += 59
    assert farm.reap() == ReapReport()


def test_the_reaper_touches_no_job_that_somebody_may_still_finish_or_claim(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    farm.claim("ann", transcribe=2)
    farm.now += 21
    farm.beat("bob")
    before = farm.snapshot()
    assert farm.reap() == ReapReport()
    assert farm.snapshot() == before
    farm.now += 50
    farm.beat("bob")
    assert farm.reap() == ReapReport(workers_gone=1)
    assert farm.reap() == ReapReport()
    assert farm.snapshot() == before, "bob may claim them, so the reaper leaves them to him"


def test_spent_jobs_that_nobody_is_left_to_claim_are_set_aside(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    recording = farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 61
    assert farm.reap() == ReapReport(workers_gone=1), "a machine that wakes up has time to renew its leases"
    assert farm.reap() == ReapReport(jobs_set_aside=1)
    assert farm.attempt(job.token).state == "lost"
    row = farm.find(recording.id)
    assert (row.state, row.error_code) == ("failed", "lease_lost")
    told = farm.events()
    assert farm.reap() == ReapReport()
    assert farm.events() == told
    assert farm.done(job).error_code == "lease_lost"


def test_a_completion_before_the_reaper_wins(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    recording = farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 61
    farm.reap()
    assert farm.done(job).error_code is None
    assert farm.reap() == ReapReport()
    assert farm.find(recording.id).state == "assembling"
