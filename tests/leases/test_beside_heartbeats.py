"""Heartbeats run beside the writer on PostgreSQL: a lease being renewed counts, and nobody waits in a circle."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from support.hand_farm import Farm

from whisper_farm.leases.attempts import heartbeat
from whisper_farm.protocol.worker import HeartbeatAnswer, HeartbeatRequest
from whisper_farm.store.database import Transaction

PATIENCE_SECONDS = 60.0
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture(autouse=True)
def _beside(farm: Farm) -> None:
    if farm.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer: heartbeats take their turn")


@contextmanager
def renewing(farm: Farm, worker: str, token: str) -> Iterator[None]:
    """A heartbeat that has renewed the lease, and commits after the block."""
    renewed, commit = threading.Event(), threading.Event()

    def beat(tx: Transaction) -> HeartbeatAnswer:
        answer = heartbeat(tx, HeartbeatRequest(worker_id=worker, tokens=(token,)), farm.policy)
        renewed.set()
        assert commit.wait(PATIENCE_SECONDS)
        return answer

    with ThreadPoolExecutor(1) as pool:
        beating = pool.submit(farm.database.beat, beat, farm.now)
        try:
            assert renewed.wait(PATIENCE_SECONDS)
            yield
        finally:
            commit.set()
        assert beating.result(PATIENCE_SECONDS).lost == ()


@pytest.mark.parametrize("max_attempts", [3, 1])
@pytest.mark.parametrize("worker", ["slow", "fast"])
def test_a_hedged_job_is_left_alone_while_one_of_its_leases_is_being_renewed(
    farm: Farm, worker: str, max_attempts: int
) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": max_attempts})
    recording, job, hedge = farm.hedged()
    mine = {"slow": job, "fast": hedge}[worker]
    farm.now += 21
    farm.worker("third")
    with renewing(farm, worker, mine.token):
        assert farm.claim("third") == []
    assert (farm.job(job.job_id).state, farm.job(job.job_id).charged_attempts) == ("running", 0)
    assert farm.done(mine).error_code is None
    assert farm.find(recording).state == "assembling"


def test_deleting_a_recording_and_a_heartbeat_for_what_was_cancelled_do_not_wait_in_a_circle(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    one, two = farm.claim("ann", transcribe=2)
    farm.release("ann", one)
    (one,) = farm.claim("ann")
    assert one.position < two.position
    assert one.token > two.token
    farm.cancel(recording.id)
    mine, locked = text("SELECT token FROM attempts WHERE token = :token FOR UPDATE"), threading.Event()

    def beat(tx: Transaction) -> None:
        """Locks in order of token, as a heartbeat does, and waits in between until the other waits too."""
        tx.connection.execute(mine, {"token": two.token})
        locked.set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not tx.connection.scalar(WAITING):
            assert time.monotonic() < deadline
        tx.connection.execute(mine, {"token": one.token})

    with ThreadPoolExecutor(2) as pool:
        beating = pool.submit(farm.database.beat, beat)
        assert locked.wait(PATIENCE_SECONDS)
        deleting = pool.submit(farm.delete, recording.id)
        beating.result(PATIENCE_SECONDS)
        deleting.result(PATIENCE_SECONDS)
