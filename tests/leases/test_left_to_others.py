"""Who failed a job is the last to get it again: it is left to others, while somebody may be expected to take it."""

from __future__ import annotations

import pytest
from support.hand_farm import Farm

from whisper_farm.leases import lapse
from whisper_farm.leases.rules import ATTEMPT_PACE


@pytest.fixture(autouse=True)
def _short_patience(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"retry_max_seconds": 10.0})


def test_nothing_is_left_to_a_worker_with_another_label(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    farm.worker("bob", label="another")
    (job,) = farm.claim("ann")
    farm.fail(job)
    farm.now += 1
    assert len(farm.claim("ann")) == 1


def test_poison_is_set_aside_though_there_is_a_worker_with_another_label(farm: Farm) -> None:
    mine = farm.recording(1, "mine.mp3", label="mine")
    farm.recording(1, "other.mp3", label="other")
    for _ in range(farm.policy.max_attempts):
        farm.now += 130
        farm.worker("ann", label="mine")
        farm.worker("bob", label="other")
        (job,) = farm.claim("ann")
        farm.fail(job, code="recogniser_crashed")
    assert farm.find(mine.id).state == "failed"


def test_a_job_is_not_left_for_ever_to_a_live_worker_that_never_takes_it(farm: Farm) -> None:
    farm.recording(1)
    for name in ("ann", "busy"):
        farm.worker(name)
    (job,) = farm.claim("ann")
    farm.fail(job)
    began = farm.job(job.job_id).available_at
    while not farm.claim("ann"):
        farm.now += 1
        farm.beat("ann")
        farm.beat("busy")
    assert farm.now - began == pytest.approx(farm.policy.retry_max_seconds, abs=1)


def test_a_lapsed_job_is_not_left_for_ever_to_a_live_worker_that_never_takes_it(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    farm.claim("ann")
    farm.now += 20
    farm.worker("busy")
    farm.beat("ann")
    lapsed = farm.now
    while not farm.claim("ann"):
        farm.now += 1
        farm.beat("ann")
        farm.beat("busy")
    assert farm.now - lapsed == farm.policy.retry_max_seconds


def test_poison_is_tried_twice_as_often_at_most_while_it_is_left_to_somebody_else(farm: Farm) -> None:
    recording = farm.recording(1)
    tries = 0
    while farm.find(recording.id).state == "running":
        farm.now += 2 * farm.policy.retry_max_seconds
        for name in ("ann", "busy"):
            farm.worker(name)
        (job,) = farm.claim("ann")
        farm.fail(job, code="recogniser_crashed")
        tries += 1
    assert tries == 2 * farm.policy.max_attempts


def test_lapsed_jobs_of_others_do_not_hide_those_a_worker_asks_for(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapse, "LAPSED_AT_ONCE", 3)
    farm.recording(5, "other.mp3")
    farm.worker("ann")
    farm.claim("ann", transcribe=5)
    farm.now += 1
    farm.recording(1, "mine.mp3", label="mine")
    farm.worker("cid", label="mine")
    (job,) = farm.claim("cid")
    farm.now += 21
    farm.worker("bob", label="mine")
    (again,) = farm.claim("bob")
    assert again.job_id == job.job_id


def test_a_worker_that_only_beats_loses_its_jobs_in_the_end(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("beats")
    farm.submit("other.mp3")
    jobs = [*farm.claim("beats"), *farm.claim("beats", transcribe=0, chunk=1)]
    began = farm.now
    while farm.now < began + farm.policy.attempt_seconds + 30 * ATTEMPT_PACE + 1:
        farm.now += 15
        assert not farm.beat("beats", *(job.token for job in jobs)).lost
    farm.worker("honest")
    again = [*farm.claim("honest"), *farm.claim("honest", transcribe=0, chunk=1)]
    assert {job.job_id for job in again} == {job.job_id for job in jobs}
    assert len(farm.beat("beats", *(job.token for job in jobs)).lost) == 2


def test_whoever_claims_a_recording_and_only_beats_loses_it_soon(farm: Farm) -> None:
    farm.submit()
    for name in ("beats", "honest"):
        farm.worker(name)
    (job,) = farm.claim("beats", transcribe=0, chunk=1)
    began = farm.now
    while farm.now < began + farm.policy.cut_seconds:
        assert not farm.claim("honest", transcribe=0, chunk=1)
        farm.now += 15
        farm.beat("beats", job.token)
    (again,) = farm.claim("honest", transcribe=0, chunk=1)
    assert again.job_id == job.job_id
    assert farm.beat("beats", job.token).lost == (job.token,)


def test_nobody_holds_a_recording_by_crumbs_of_it(farm: Farm) -> None:
    """A second of sound gives ten back, and no more than there were at first."""
    farm.submit()
    for name in ("crumbs", "honest"):
        farm.worker(name)
    (job,) = farm.claim("crumbs", transcribe=0, chunk=1)
    for number in range(9):
        farm.now += 60
        farm.beat("crumbs", job.token)
        farm.append(job, 1, first=number, length=0.1)
        assert not farm.claim("honest", transcribe=0, chunk=1)
    farm.now += 75
    farm.beat("crumbs", job.token)
    assert farm.claim("honest", transcribe=0, chunk=1)


def test_whoever_goes_on_cutting_keeps_the_job(farm: Farm) -> None:
    farm.submit()
    farm.worker("slow")
    (job,) = farm.claim("slow", transcribe=0, chunk=1)
    for number in range(4):
        farm.now += 0.4 * farm.policy.cut_seconds
        farm.beat("slow", job.token)
        farm.append(job, 1, first=number)
    farm.worker("other")
    assert not farm.claim("other", transcribe=0, chunk=1)


def test_a_slow_job_is_tried_beside_its_worker_by_anybody_but_the_one_that_left_it(farm: Farm) -> None:
    farm.recording(2)
    for name in ("ann", "slow", "bob"):
        farm.worker(name)
    (quick,) = farm.claim("ann")
    farm.now += 3
    farm.done(quick)
    (job,) = farm.claim("ann")
    farm.fail(job, charged=False)
    assert len(farm.claim("slow")) == 1
    farm.now += 11
    assert farm.claim("ann") == []
    assert [one.hedge for one in farm.claim("bob")] == [True]
