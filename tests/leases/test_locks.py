"""On PostgreSQL heartbeats lock rows beside the writer: whatever both want, neither waits for the other in a circle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hand_farm import Farm
from sqlalchemy import text

from whisper_farm.leases.claim import claim
from whisper_farm.leases.complete import complete
from whisper_farm.store.database import Transaction

PATIENCE_SECONDS = 10
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture(autouse=True)
def _rows_are_locked(farm: Farm) -> None:
    if farm.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer: heartbeats take their turn")


@contextmanager
def beating(farm: Farm, worker: str, *tokens: str) -> Iterator[Callable[[Transaction], None]]:
    """Yields what begins a heartbeat of that worker and returns when it waits for a lock, or has ended."""
    heard: list[Any] = []

    def beat() -> None:
        try:
            heard.append(farm.beat(worker, *tokens))
        except Exception as error:
            heard.append(error)

    thread = threading.Thread(target=beat)

    def begin(tx: Transaction) -> None:
        thread.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while thread.is_alive() and not tx.connection.scalar(WAITING):
            assert time.monotonic() < deadline, "the heartbeat neither waits nor ends"

    yield begin
    thread.join(PATIENCE_SECONDS)
    (answer,) = heard
    assert not isinstance(answer, Exception), answer


def test_a_completion_with_a_claim_asked_again_beside_a_heartbeat(farm: Farm) -> None:
    farm.recording(4)
    farm.worker("ann")
    (first,) = farm.claim("ann", request="asked-again")
    (second,) = farm.claim("ann")
    assert first.token < second.token, "the heartbeat locks them in this order"
    with beating(farm, "ann", first.token, second.token) as begin:

        def work(tx: Transaction) -> list[str]:
            complete(tx, [farm.finished(second)], farm.policy, farm.mint)
            begin(tx)
            asked = farm.request("ann", request="asked-again")
            return [one.token for one in claim(tx, asked, farm.policy, farm.mint)]

        assert farm.write(work) == [first.token]


def test_results_of_several_workers_and_of_a_hedge_beside_a_heartbeat(farm: Farm) -> None:
    """The slow worker beats for two jobs, one of which it has just finished, and the other somebody else."""
    farm.recording(3)
    for name in ("slow", "fast"):
        farm.worker(name)
    late, soon = farm.claim("slow", transcribe=2)
    farm.done(farm.claim("fast")[0])
    assert late.token < soon.token, "the heartbeat locks them in this order"
    for _ in range(4):
        farm.now += 15
        farm.beat("slow", late.token, soon.token)
        farm.beat("fast")
    (hedge,) = farm.claim("fast")
    assert hedge.job_id == late.job_id
    locked, mine = threading.Event(), text("SELECT token FROM attempts WHERE token = :token FOR UPDATE")

    def beat(tx: Transaction) -> None:
        tx.connection.execute(mine, {"token": late.token})
        locked.set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not tx.connection.scalar(WAITING):
            assert time.monotonic() < deadline, "the writer does not wait for the heartbeat"
        tx.connection.execute(mine, {"token": soon.token})

    with ThreadPoolExecutor(1) as other:
        beating = other.submit(farm.database.beat, beat)
        assert locked.wait(PATIENCE_SECONDS)
        outcomes = farm.finish(farm.finished(soon), farm.finished(hedge))
        beating.result(PATIENCE_SECONDS)
    assert [outcome.error_code for outcome in outcomes] == [None, None]
    assert farm.attempt(late.token).state == "superseded"


def test_two_claims_that_overtake_one_worker_who_wakes_up(farm: Farm) -> None:
    farm.recording(2)
    for name in ("silent", "ann", "bob"):
        farm.worker(name)
    one, two = farm.claim("silent", transcribe=2)
    farm.release("silent", one)
    (one,) = farm.claim("silent")
    assert one.position < two.position, "the first is overtaken first"
    assert one.token > two.token, "and locked last by the heartbeat"
    farm.now += 21
    with beating(farm, "silent", one.token, two.token) as begin:

        def work(tx: Transaction) -> list[list[str]]:
            first = claim(tx, farm.request("ann"), farm.policy, farm.mint)
            begin(tx)
            return [[job.job_id for job in first], [job.job_id for job in claim(tx, farm.request("bob"), farm.policy)]]

        assert farm.write(work) == [[one.job_id], []], "what is being renewed is left alone"
