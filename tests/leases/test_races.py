"""Workers, heartbeats and reapers at the same time, on the real clock: one result each, nobody stuck, no deadlock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from support.hand_farm import Farm

from whisper_farm.errors import FarmError, LeaseError
from whisper_farm.leases.claim import Claimed
from whisper_farm.leases.lapse import lapsed_jobs, overtake
from whisper_farm.leases.rules import RANDOM
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import attempts, jobs

DEADLINE_SECONDS = 60
CHUNKS = 40


class Crowd:
    """Threads that run until told to stop, and remember what went wrong."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def add(self, step: Callable[[random.Random], None], seed: int) -> None:
        def run() -> None:
            chance = random.Random(seed)
            try:
                while not self.stop.is_set():
                    step(chance)
            except BaseException as error:
                self.errors.append(error)
                self.stop.set()

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(timeout=DEADLINE_SECONDS)


def test_a_careless_crowd_finishes_every_chunk_once(farm: Farm) -> None:
    farm.mint, farm.now = RANDOM, None  # type: ignore[assignment] # the real clock
    farm.policy = farm.policy.model_copy(
        update={"lease_seconds": 0.3, "heartbeat_seconds": 0.1, "retry_base_seconds": 0.01, "max_attempts": 20}
    )
    recordings = [farm.recording(CHUNKS, f"{number}.mp3").id for number in range(2)]
    crowd = Crowd()
    for number in range(3):
        _add_worker(farm, crowd, f"w{number}", number)
    crowd.add(lambda _: (farm.reap(), time.sleep(0.02))[1], 99)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not crowd.stop.wait(0.05) and time.monotonic() < deadline:
        if all(farm.find(one).state == "assembling" for one in recordings):
            break
    crowd.join()
    assert crowd.errors == []
    assert [farm.find(one).state for one in recordings] == ["assembling"] * 2
    assert [farm.find(one).chunks_done for one in recordings] == [CHUNKS] * 2
    _one_result_each(farm)


def _add_worker(farm: Farm, crowd: Crowd, name: str, seed: int) -> None:
    """A worker that completes, fails, hands back, or forgets what it claims, while another thread beats for it."""
    farm.worker(name)
    held: dict[str, Claimed] = {}

    def work(chance: random.Random) -> None:
        try:
            claims = farm.claim(name, transcribe=4)
        except LeaseError:
            farm.worker(name)
            return
        held.update({job.token: job for job in claims})
        time.sleep(chance.choice((0, 0, 0.01, 0.35)))
        for job in claims:
            act = chance.choice((farm.done, farm.done, farm.done, farm.fail, lambda job, me: farm.release(me, job)))
            if chance.random() < 0.9:
                act(job, name)
            held.pop(job.token, None)

    def beat(chance: random.Random) -> None:
        try:
            farm.beat(name, *list(held))
        except LeaseError:
            farm.worker(name)
        time.sleep(chance.choice((0.01, 0.05, 0.4)))

    crowd.add(work, seed)
    crowd.add(beat, seed + 1000)


def _one_result_each(farm: Farm) -> None:
    accepted = select(attempts.c.job_id, func.count()).where(attempts.c.state == "done").group_by(attempts.c.job_id)
    live = select(func.count()).select_from(attempts).where(attempts.c.state == "live")
    undone = select(func.count()).select_from(jobs).where(jobs.c.state != "done")
    counted = farm.database.read(lambda tx: dict(map(tuple, tx.connection.execute(accepted))))
    assert set(counted.values()) == {1}
    assert farm.database.read(lambda tx: (tx.connection.scalar(live), tx.connection.scalar(undone))) == (0, 0)


def test_a_lease_renewed_while_it_is_being_overtaken_stays(farm: Farm) -> None:
    """PostgreSQL only: there a heartbeat runs beside a claim that has already seen the lease lapsed."""
    if farm.database.dialect == "sqlite":
        pytest.skip("heartbeats take their turn here")
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 21

    def race(tx: Transaction) -> set[str]:
        lapsed = lapsed_jobs(tx)
        assert list(lapsed) == [job.job_id]
        assert farm.beat("ann", job.token).lost == ()
        return overtake(tx, lapsed)

    assert farm.write(race) == set()
    assert farm.attempt(job.token).state == "live"
    assert farm.job(job.job_id).charged_attempts == 0


def test_cancel_and_complete_at_the_same_moment_have_one_winner(farm: Farm) -> None:
    farm.worker("ann")
    for number in range(10):
        recording = farm.recording(1, f"{number}.mp3").id
        (job,) = farm.claim("ann")
        start = threading.Barrier(2)
        seen: list[str | None] = []

        def complete(job: Claimed = job, start: threading.Barrier = start, seen: list[str | None] = seen) -> None:
            start.wait(timeout=10)
            seen.append(farm.done(job, "ann").error_code)

        other = threading.Thread(target=complete)
        other.start()
        start.wait(timeout=10)
        try:
            farm.cancel(recording)
        except FarmError as error:
            raise AssertionError("what waits for its transcript can still be cancelled") from error
        other.join(timeout=10)
        assert farm.find(recording).state == "cancelled"
        state = farm.job(job.job_id).state
        assert (state, seen) in (("done", [None]), ("cancelled", ["lease_lost"]))
