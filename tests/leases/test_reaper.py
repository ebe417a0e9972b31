"""The reaper gives up on silence, and on nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete
from support.hand_farm import Farm

from whisper_farm.errors import WorkerUnknown
from whisper_farm.leases.lapse import ReapReport
from whisper_farm.leases.workers import dismiss, drain
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import workers

HALF_WAY = Path(__file__).parents[1] / "support" / "reaper_process.py"
PATIENCE_SECONDS = 60.0


def test_a_worker_that_was_given_up_in_its_sleep_does_not_rob_itself_when_it_registers(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 61
    farm.reap()
    farm.worker("ann")  # as it does when the farm does not know it
    assert farm.claim("ann") == [], "it has not beaten since: perhaps it is still at it"
    assert farm.beat("ann", job.token).lost == ()
    assert farm.done(job).error_code is None


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


@pytest.mark.parametrize("how", ["silent", "left"])
def test_who_was_told_to_leave_is_told_again_when_it_comes_back(farm: Farm, how: str) -> None:
    farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    (job,) = farm.claim("ann")
    farm.write(lambda tx: drain(tx, "ann"))
    farm.write(lambda tx: dismiss(tx, "bob"))
    if how == "left":
        farm.release("ann", leaving=True)
        farm.release("bob", leaving=True)
    farm.now += 61
    farm.reap()
    assert len(farm.events("worker_gone")) == 3
    for name in ("ann", "bob"):
        farm.worker(name)
    draining, dismissed = farm.beat("ann", job.token), farm.beat("bob")
    assert (draining.drain, draining.dismissed) == (True, False)
    assert (dismissed.drain, dismissed.dismissed) == (True, True)
    assert farm.claim("ann") == farm.claim("bob") == []
    assert draining.lost == ((job.token,) if how == "left" else ()), "what it holds it may finish"


@pytest.mark.parametrize("hours", [1, 24])
def test_a_clock_that_was_set_back_keeps_no_job_from_others(farm: Farm, hours: float) -> None:
    """It was ahead when they were claimed or put off: at the start of a machine without a clock of its own, say."""
    farm.recording(2)
    farm.worker("ann")
    farm.worker("ill")
    farm.claim("ann")
    farm.fail(farm.claim("ill")[0])
    farm.now -= hours * 3600
    farm.worker("bob")
    farm.reap()
    for _ in range(4):
        farm.now += 25
        farm.beat("bob")
        farm.reap()
    assert len(farm.claim("bob", 2)) == 2
    assert {event["worker_id"] for event in farm.events("worker_gone")} == {"ann", "cutter", "ill"}


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


@contextmanager
def _half_way(farm: Farm) -> Iterator[subprocess.Popen[str]]:
    """Another process, whose reaper has done all it does but the commit."""
    place = farm.database.place if farm.database.dialect == "postgresql" else f"sqlite:///{farm.database.place}"
    command = [sys.executable, str(HALF_WAY), place, str(farm.now), farm.policy.model_dump_json()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def test_a_reaper_killed_half_way_has_done_nothing_and_the_next_does_all_of_it(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    recording = farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 61
    assert farm.reap() == ReapReport(workers_gone=1)
    before, told = farm.snapshot(), farm.events()
    with _half_way(farm) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline().strip() == str(ReapReport(jobs_set_aside=1))
        assert (farm.snapshot(), farm.events()) == (before, told), "nobody sees what is not committed"
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(farm.reap)
            killed.kill()
            assert other.result(PATIENCE_SECONDS) == ReapReport(jobs_set_aside=1), "the turn is free, the work undone"
    assert farm.reap() == ReapReport()
    assert [event["kind"] for event in farm.events()[len(told) :]] == ["job_set_aside", "transcription_failed"]
    assert farm.attempt(job.token).state == "lost"
    assert farm.job(job.job_id).charged_attempts == 1
    assert farm.find(recording.id).state == "failed"


def test_a_completion_takes_the_turn_of_a_reaper_that_is_killed_half_way(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    recording = farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 61
    farm.reap()
    with _half_way(farm) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline().strip() == str(ReapReport(jobs_set_aside=1))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(farm.done, job, "ann")
            killed.kill()
            assert late.result(PATIENCE_SECONDS).error_code is None
    assert farm.reap() == ReapReport()
    assert farm.find(recording.id).state == "assembling"
    assert farm.job(job.job_id).charged_attempts == 0


def _forget(farm: Farm, worker: str) -> None:
    """An operator deletes the row of a worker."""

    def forget(tx: Transaction) -> None:
        tx.connection.execute(delete(workers).where(workers.c.id == worker))

    farm.write(forget)


def test_a_deleted_worker_is_unknown_and_its_job_goes_on(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    late, overtaken = farm.claim("ann", transcribe=2)
    _forget(farm, "ann")
    before = farm.snapshot()
    assert farm.reap() == ReapReport()
    with pytest.raises(WorkerUnknown):
        farm.beat("ann", late.token, overtaken.token)
    assert farm.snapshot() == before
    assert farm.done(late, "ann").error_code is None, "the token is the claim, whatever became of the row"
    farm.now += 21
    farm.beat("bob")
    assert farm.reap() == ReapReport(), "bob may claim it"
    (heir,) = farm.claim("bob")
    assert heir.job_id == overtaken.job_id
    before = farm.snapshot()
    farm.worker("ann")
    assert farm.beat("ann", overtaken.token).lost == (overtaken.token,)
    assert farm.done(overtaken, "ann").error_code == "lease_lost"
    assert farm.snapshot() == before
    assert farm.done(heir).error_code is None
    assert farm.find(recording.id).state == "assembling"


def test_jobs_of_a_deleted_worker_that_nobody_is_left_to_claim_are_set_aside_once_spent(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    recording = farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    _forget(farm, "ann")
    assert farm.reap() == ReapReport(), "its lease is running"
    farm.now += 21
    assert farm.reap() == ReapReport(jobs_set_aside=1)
    assert farm.reap() == ReapReport()
    assert farm.attempt(job.token).state == "lost"
    assert farm.find(recording.id).state == "failed"


def test_a_worker_deleted_while_it_recovers_leaves_its_claims_to_others(farm: Farm) -> None:
    """The row goes between two calls of a worker that says everything twice: it registers again and has it all."""
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann", request="r-1")
    _forget(farm, "ann")
    with pytest.raises(WorkerUnknown):
        farm.claim("ann", request="r-1")
    farm.worker("ann")
    assert [one.token for one in farm.claim("ann", request="r-1")] == [job.token]
    assert farm.job(job.job_id).charged_attempts == 0


@pytest.mark.parametrize("end", ["done", "failed", "released", "cancelled", "lost"])
def test_no_beat_after_the_end_alters_anything(farm: Farm, end: str) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    farm.worker("bob")
    (job,) = farm.claim("ann")
    if end == "lost":
        farm.now += 21
        (heir,) = farm.claim("bob")
        assert heir.job_id == job.job_id
    else:
        ends = {"done": farm.done, "failed": farm.fail, "released": lambda one: farm.release("ann", one)}
        ends.get(end, lambda _: farm.cancel(recording.id))(job)
    assert farm.attempt(job.token).state == end
    before, told = farm.snapshot(), farm.events()
    for _ in range(3):
        farm.now += 1
        answer = farm.beat("ann", job.token)
        assert (answer.lost, answer.cancelled)[end == "cancelled"] == (job.token,)
    assert farm.snapshot() == before
    assert farm.events() == told
