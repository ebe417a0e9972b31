"""On PostgreSQL heartbeats lock rows beside the writer: whatever both want, neither waits for the other in a circle.
And a heartbeat that has waited goes by what the writer did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from support.hand_farm import Farm, claim

from whisper_farm.errors import WorkerUnknown
from whisper_farm.leases.attempts import heartbeat
from whisper_farm.leases.claim import Claimed
from whisper_farm.leases.complete import complete
from whisper_farm.leases.lapse import ReapReport, reap
from whisper_farm.leases.transcriptions import cancel
from whisper_farm.protocol.worker import HeartbeatAnswer, HeartbeatRequest
from whisper_farm.store.database import Transaction

PATIENCE_SECONDS = 60.0
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture(autouse=True)
def _rows_are_locked(farm: Farm) -> None:
    if farm.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer: heartbeats take their turn")


class Beat:
    """A heartbeat in a thread of its own."""

    def __init__(self, farm: Farm, worker: str, *tokens: str) -> None:
        self._heard: list[HeartbeatAnswer | Exception] = []
        self._thread = threading.Thread(target=self._beat, args=[farm, worker, *tokens])

    def _beat(self, farm: Farm, worker: str, *tokens: str) -> None:
        try:
            self._heard.append(farm.beat(worker, *tokens))
        except Exception as error:
            self._heard.append(error)

    def begin(self, tx: Transaction) -> None:
        """Begin beside that transaction; returns when the heartbeat waits for a lock, or has ended."""
        self._thread.start()
        wait_for(tx, lambda: not self._thread.is_alive(), "the heartbeat neither waits nor ends")

    @property
    def waits(self) -> bool:
        """Whether it has no answer yet."""
        return not self._heard

    def answer(self) -> HeartbeatAnswer:
        """What it was told, or the error that was raised."""
        self._thread.join(PATIENCE_SECONDS)
        (heard,) = self._heard
        if isinstance(heard, Exception):
            raise heard
        return heard


def wait_for(tx: Transaction, ended: Callable[[], bool], what: str) -> None:
    """Until somebody waits for a lock in this database, or that has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ended() and not tx.connection.scalar(WAITING):
        assert time.monotonic() < deadline, what


@contextmanager
def beating(farm: Farm, worker: str, *tokens: str) -> Iterator[Beat]:
    """A heartbeat of that worker to begin in the block; it must have ended well after it."""
    beat = Beat(farm, worker, *tokens)
    yield beat
    beat.answer()


@contextmanager
def locking(farm: Farm, first: str, second: str) -> Iterator[None]:
    """What a slow heartbeat does: it has locked the first when the block begins, and wants the second when the block
    waits for it."""
    locked, mine = threading.Event(), text("SELECT token FROM attempts WHERE token = :token FOR UPDATE")

    def beat(tx: Transaction) -> None:
        tx.connection.execute(mine, {"token": first})
        locked.set()
        wait_for(tx, lambda: False, "the writer does not wait for the heartbeat")
        tx.connection.execute(mine, {"token": second})

    with ThreadPoolExecutor(1) as other:
        beating = other.submit(farm.database.beat, beat)
        assert locked.wait(PATIENCE_SECONDS)
        yield
        beating.result(PATIENCE_SECONDS)


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


def test_a_completion_with_a_claim_asked_again_beside_a_heartbeat(farm: Farm) -> None:
    farm.recording(4)
    farm.worker("ann")
    (first,) = farm.claim("ann", request="asked-again")
    (second,) = farm.claim("ann")
    assert first.token < second.token, "the heartbeat locks them in this order"
    with beating(farm, "ann", first.token, second.token) as beat:

        def work(tx: Transaction) -> list[str]:
            complete(tx, [farm.finished(second)], farm.policy, farm.mint)
            beat.begin(tx)
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
    with locking(farm, late.token, soon.token):
        outcomes = farm.finish(farm.finished(soon), farm.finished(hedge))
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
    with beating(farm, "silent", one.token, two.token) as beat:

        def work(tx: Transaction) -> list[list[str]]:
            first = claim(tx, farm.request("ann"), farm.policy, farm.mint)
            beat.begin(tx)
            return [[job.job_id for job in first], [job.job_id for job in claim(tx, farm.request("bob"), farm.policy)]]

        assert farm.write(work) == [[one.job_id], []], "what is being renewed is left alone"


def test_a_heartbeat_that_waited_for_an_overtaking_claim_hears_that_it_lost(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 21
    farm.worker("bob")
    before, beat = farm.attempt(job.token).lease_until, Beat(farm, "ann", job.token)

    def work(tx: Transaction) -> list[str]:
        claims = claim(tx, farm.request("bob"), farm.policy, farm.mint)
        beat.begin(tx)
        assert beat.waits
        return [one.job_id for one in claims]

    assert farm.write(work) == [job.job_id]
    assert beat.answer().lost == (job.token,)
    assert (farm.attempt(job.token).state, farm.attempt(job.token).lease_until) == ("lost", before)


def test_a_heartbeat_that_waited_for_a_cancel_hears_of_it(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    held = farm.claim("ann", transcribe=2)
    tokens = tuple(job.token for job in held)
    before, beat = [farm.attempt(token).lease_until for token in tokens], Beat(farm, "ann", *tokens)
    farm.now += 5

    def work(tx: Transaction) -> None:
        cancel(tx, recording.id)
        beat.begin(tx)
        assert beat.waits

    farm.write(work)
    assert (beat.answer().cancelled, beat.answer().lost) == (tokens, ())
    assert [farm.attempt(token).lease_until for token in tokens] == before


def test_a_heartbeat_that_waited_for_the_reaper_hears_that_its_worker_was_given_up(farm: Farm) -> None:
    """It had found its worker there, and renewed a lease: that is undone, so that the worker registers first."""
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    before, beat = farm.attempt(job.token).lease_until, Beat(farm, "ann", job.token)
    farm.now += 61

    def work(tx: Transaction) -> ReapReport:
        report = reap(tx, farm.policy)
        beat.begin(tx)
        assert beat.waits
        return report

    assert farm.write(work) == ReapReport(workers_gone=1)
    with pytest.raises(WorkerUnknown):
        beat.answer()
    assert farm.attempt(job.token).lease_until == before
    farm.worker("ann")
    assert farm.beat("ann", job.token).lost == ()


def held_the_other_way_round(farm: Farm) -> list[Claimed]:
    """Two jobs, in their order; a heartbeat locks the second one first."""
    farm.worker("ann")
    one, two = farm.claim("ann", transcribe=2)
    farm.release("ann", one)
    (one,) = farm.claim("ann")
    assert one.position < two.position
    assert one.token > two.token, "the heartbeat locks the other first"
    return [one, two]


def test_a_cancel_beside_a_heartbeat(farm: Farm) -> None:
    """Neither its rows nor their jobs lie in the order of the tokens, and the cancel may come by them as they lie."""
    farm.write(lambda tx: tx.connection.execute(text("TRUNCATE attempts")))  # what is written later lies further back
    recording = farm.recording(2)
    one, two = held_the_other_way_round(farm)
    farm.beat("ann", two.token)
    places = farm.database.read(
        lambda tx: tx.connection.scalars(text("SELECT token FROM attempts ORDER BY ctid")).all()
    )
    assert places[-2:] == [one.token, two.token]

    def work(tx: Transaction) -> None:
        for way in ("indexscan", "bitmapscan", "hashjoin", "nestloop"):
            tx.connection.execute(text(f"SET LOCAL enable_{way} = off"))
        cancel(tx, recording.id)

    with locking(farm, two.token, one.token):
        farm.write(work)
    assert {farm.attempt(job.token).state for job in (one, two)} == {"cancelled"}


def test_deleting_what_was_cancelled_beside_a_heartbeat(farm: Farm) -> None:
    recording = farm.recording(3)
    one, two = held_the_other_way_round(farm)
    farm.cancel(recording.id)
    with locking(farm, two.token, one.token):
        farm.delete(recording.id)
