"""Tests that every queue of this kind should pass, with real workers that are killed, frozen and lied to.

`docs/TESTING.md` says where the others are. `./run chaos` does the same at random, for as long as one likes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support.dying_worker import EXIT_STATUS, POINTS
from support.farm_processes import (
    LEASE_SECONDS,
    Farm,
    Known,
    Recording,
    assert_done_once,
    assert_says,
    busy_cores,
    until,
)
from support.fault_proxy import FaultProxy, Request
from support.postgres import PostgresServer
from support.tone_audio import tone_words

from whisper_farm.protocol.client import FINISHED, AttemptView, JobView
from whisper_farm.store.tables import attempts, jobs, workers
from whisper_farm.worker.claims import CUTS_OF_ONE_OWNER

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="freezes processes with POSIX signals")
OTHER_CLOCK = """
import sys, time
right, shift = time.time, float({seconds})
time.time = lambda: right() + shift
time.time_ns = lambda: int((right() + shift) * 1e9)
print("the clock on this wall says", time.time(), file=sys.stderr, flush=True)
"""
CURED = "import support.tones; support.tones.FAULTS = ()"
"""As a newer recogniser would be, that does not die of the word `die`."""
DAY_SECONDS = 86_400
SHORT_LEASE_SECONDS = 3
ROOM = {"chunk": CUTS_OF_ONE_OWNER, "transcribe": 4}
"""How many jobs of a kind a worker with two slots for two takes at a time."""
RECOVERY_SECONDS = 2 * SHORT_LEASE_SECONDS
"""Whoever waits has a job as soon as its lease is over; the rest is for a machine that has much else to do. If it were
the reaper's to free it, that would take longer: it gives a worker up after three leases of silence."""


def test_kill_at_every_step(tmp_path: Path) -> None:
    """A worker dies at each of the steps, each with a recording of its own: what it held is charged once, nothing else
    is, and another has it when the lease is over. Every word is there once."""
    pace = {"WHISPER_FARM_LEASE_SECONDS": str(SHORT_LEASE_SECONDS), "WHISPER_FARM_HEARTBEAT_SECONDS": "0.6"}
    recording = Recording.long(tmp_path / "short.wav", 40)
    with Farm(tmp_path / "farm", settings=pace) as farm, ExitStack() as stack:
        made = {point: farm.submit(recording, "x20", key=point, label=point) for point in POINTS}
        own = {point: {"WHISPER_FARM_WORKER_LABEL": point} for point in POINTS}
        dying = [stack.enter_context(farm.worker(dies=point, **own[point])) for point in POINTS]
        assert {worker.ended() for worker in dying} == {EXIT_STATUS}
        assert [farm.submit(recording, "x20", key=point) for point in POINTS] == list(made.values()), "for anybody now"
        stack.enter_context(farm.worker())
        for each in made.values():
            assert_says(farm.finished(each), recording)
            assert_done_once(farm.jobs(each))
            assert_charged_once(farm.jobs(each))
        seconds = recoveries(farm)
    assert len(seconds) >= len(POINTS)
    assert max(seconds) < RECOVERY_SECONDS


def assert_charged_once(jobs: list[JobView]) -> None:
    """What the dead worker held was lost once and charged once; nothing else was charged."""
    lost = [[attempt.charged for attempt in job.attempts if attempt.state == "lost"] for job in jobs]
    assert [True] in lost
    assert all(each in ([], [True]) for each in lost), lost
    assert [job.charged_attempts for job in jobs] == [len(each) for each in lost]
    assert {attempt.state for job in jobs for attempt in job.attempts} == {"lost", "done"}


def recoveries(farm: Farm) -> list[float]:
    """For each lost attempt, by the database's clock: how long the worker that has the job now could have had it.

    That is from the end of the lease, or from the coming of this worker, to its attempt, but for the time in which it
    had as many jobs of this kind as it takes.
    """
    wanted = (attempts.c.job_id, attempts.c.number, attempts.c.state, attempts.c.lease_until, attempts.c.started_at)
    query = select(*wanted, attempts.c.ended_at, attempts.c.worker_id, jobs.c.kind, workers.c.registered_at)
    query = query.join(workers, workers.c.id == attempts.c.worker_id).join(jobs, jobs.c.id == attempts.c.job_id)
    rows = farm.look_inside(lambda tx: tx.connection.execute(query).all())
    found = []
    for lost in (row for row in rows if row.state == "lost"):
        [after] = [row for row in rows if (row.job_id, row.number) == (lost.job_id, lost.number + 1)]
        begin, end = max(lost.lease_until, after.registered_at), after.started_at
        its = [row for row in rows if (row.worker_id, row.kind) == (after.worker_id, after.kind)]
        held = [(row.started_at, row.ended_at or inf) for row in its]
        moments = sorted({begin, end, *(moment for both in held for moment in both if begin < moment < end)})
        free = [(a, b) for a, b in pairwise(moments) if sum(x <= a < y for x, y in held) < ROOM[after.kind]]
        found.append(sum(b - a for a, b in free))
    return found


def test_coordinator_and_database_murder(tmp_path: Path, talk: Known) -> None:
    """The coordinator is killed twice and PostgreSQL once, the line is half open for a lease; all goes on by itself."""
    with PostgresServer(fsync=True) as postgres:
        database = postgres.create("murdered")
        subprocess.run(
            [sys.executable, "-m", "whisper_farm", "db", "upgrade", "--database", database],
            check=True,
            timeout=90,
            capture_output=True,
        )
        hasty = {"WHISPER_FARM_WORKER_REQUEST_TIMEOUT_SECONDS": "3"}
        with Farm(tmp_path, database) as farm, FaultProxy(farm.port) as line, farm.worker(at=line.url, **hasty):
            made = farm.submit(talk.recording, "x10")
            farm.progress(made, chunks_done=2)
            farm.server.kill()
            farm.start()
            farm.progress(made, chunks_done=6)
            postgres.kill()
            postgres.start()
            farm.progress(made, chunks_done=10)
            line.cut_off()
            farm.server.kill()
            farm.start()
            line.mend()
            assert talk.same(farm.finished(made))
            assert_done_once(farm.jobs(made))


def test_starved_beat(tmp_path: Path) -> None:
    """Every core is busy for ten leases, and a worker recognises all the while: it loses nothing."""
    lease = 0.8
    patience = {"WHISPER_FARM_HEDGE_MIN_SECONDS": "3600"}
    pace = {"WHISPER_FARM_LEASE_SECONDS": str(lease), "WHISPER_FARM_HEARTBEAT_SECONDS": str(lease / 4)}
    recording = Recording.long(tmp_path / "slow.wav", 10)
    with Farm(tmp_path / "starved", settings=patience | pace) as farm, farm.worker(), farm.worker():
        made = farm.submit(recording, "x0.25")
        until(lambda: farm.attempts(made, "live") and farm.attempts(made, "done"), "it is cut, and heard")
        with busy_cores():
            began = time.time()
            until(lambda: time.time() > began + 10 * lease, "ten leases have passed")
            ended = time.time()
        assert farm.finished(made).text.split() == [word for word, _ in recording.words]
        jobs = farm.jobs(made)
    assert_done_once(jobs)
    assert {len(job.attempts) for job in jobs} == {1}, "the other worker would have taken what was lost"
    hearing = [attempt for job in jobs[1:] for attempt in job.attempts]
    assert any(each.started_at < began and ended < (each.ended_at or 0) for each in hearing)


def test_starved_beat_of_a_worker_frozen_for_two_leases(farm: Farm, talk: Known) -> None:
    """It wakes up among others who have its jobs: what it made of them it throws away, and then works as before.

    It falls asleep in the middle of a chunk, not with a result on its way: nobody could ask in time then.
    """
    completed: list[str] = []

    def heard(request: Request) -> None:
        if request.call == "complete":
            completed.extend(each["token"] for each in json.loads(request.body)["completions"])

    made = farm.submit(talk.recording, "x4")
    with FaultProxy(farm.port) as line, farm.worker("--slots", "1", "--batch_size", "1", at=line.url) as frozen:
        farm.progress(made, chunking_done=True)
        farm.progress(made, chunks_done=farm.client.get(made).progress.chunks_done + 1)
        mine = {attempt.worker_id for attempt in farm.attempts(made, "done")}
        query = select(attempts.c.token).where(attempts.c.state == "lost", attempts.c.worker_id.in_(mine))
        frozen.freeze()
        frozen_at = time.monotonic()
        with farm.worker():
            until(lambda: farm.attempts(made, "lost"), "the frozen worker has lost a job")
            until(lambda: time.monotonic() > frozen_at + 2 * LEASE_SECONDS, "two leases have passed")
            lost, thawed_at = farm.attempts(made, "lost"), time.time()
            tokens = set(farm.look_inside(lambda tx: tx.connection.scalars(query).all()))
            line.heard = heard
            line.next("heartbeat", "delay")
            frozen.thaw()
            again = until(lambda: _more_by(farm, made, mine, lost), "the thawed worker does something again")
            assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))
    assert {attempt.worker_id for attempt in lost} == mine
    assert again
    afterwards = [each for each in farm.attempts(made, "lost") if each.started_at > thawed_at]
    assert mine.isdisjoint(each.worker_id for each in afterwards), "it loses no other lease afterwards"
    assert tokens
    assert tokens.isdisjoint(completed), "nothing of what it lost in its sleep is offered"
    assert completed


def _more_by(farm: Farm, transcription: str, workers: set[str], lost: list[AttemptView]) -> list[AttemptView]:
    """What these workers have begun and done since they lost those."""
    since = max(attempt.ended_at or 0 for attempt in lost)
    done = farm.attempts(transcription, "done")
    return [attempt for attempt in done if attempt.worker_id in workers and attempt.started_at > since]


def test_rolling_restart(farm: Farm, talk: Known, tmp_path: Path) -> None:
    """A worker and the server are told to stop in the middle of the work: what they held goes on, uncharged.

    The clock of the old worker is an hour fast, that of the new one an hour slow. It matters to nobody: none of them
    ever says what time it is.
    """
    told: list[Request] = []
    made = farm.submit(talk.recording, "x10")
    with FaultProxy(farm.port) as line:
        line.heard = told.append
        with farm.worker(at=line.url, **_clock(tmp_path / "fast", 3600)) as old:
            farm.progress(made, chunks_done=2)
            old.terminate()
            assert old.ended() == 0
        assert "the clock on this wall" in old.said()
        assert {attempt.state for job in farm.jobs(made) for attempt in job.attempts} <= {"done", "released"}
        assert not any(job.charged_attempts for job in farm.jobs(made))
        farm.server.terminate()
        with farm.worker(at=line.url, **_clock(tmp_path / "slow", -3600)):
            assert farm.server.ended() == 0
            farm.start()
            assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))
    assert not farm.attempts(made, "lost")
    said = [json.loads(request.body) for request in told if request.call not in ("upload", "audio", "source")]
    assert len(said) > 20
    assert [each for one in said for each in _times(one)] == []


def _clock(folder: Path, seconds: float) -> dict[str, str]:
    """The environment of a process whose wall clock is that much ahead."""
    return _customised(folder, OTHER_CLOCK.format(seconds=seconds))


def _customised(folder: Path, program: str) -> dict[str, str]:
    """The environment of a process that runs this program before anything else, as do its children."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(program)
    return {"PYTHONPATH": str(folder)}


def _times(said: Any) -> Iterator[Any]:
    """Whatever in a message could be the time of day: a number or a date near now."""
    if isinstance(said, dict | list):
        for each in said.values() if isinstance(said, dict) else said:
            yield from _times(each)
    elif isinstance(said, int | float):
        if any(abs(said / unit - time.time()) < 2 * DAY_SECONDS for unit in (1, 1e3, 1e6, 1e9)):
            yield said
    elif isinstance(said, str) and said.startswith(time.strftime("%Y-")):
        yield said


def test_poison_chunk(tmp_path: Path) -> None:
    """A chunk that takes every recogniser down is set aside with its evidence; its neighbours are done. Tried again by
    a worker that can do it, it is done, too, and nothing is missing any more."""
    words = tone_words(40, 5000)
    poisoned = Recording.of(tmp_path / "poisoned.wav", [*words[:20], "die", *words[20:]])
    with Farm(tmp_path, settings={"WHISPER_FARM_MAX_ATTEMPTS": "2"}) as farm:
        with farm.worker(), farm.worker():
            made = farm.submit(poisoned, "faulty")
            assert until(lambda: _finished(farm, made), "it is finished") == "incomplete"
        guilty = assert_set_aside(farm, made, poisoned)
        before = {job.id: job.attempts for job in farm.jobs(made)}
        farm.client.retry(made)
        with farm.worker(**_customised(tmp_path / "cured", CURED)):
            assert_says(farm.finished(made), poisoned)
        after = {job.id: job.attempts for job in farm.jobs(made)}
    *evidence, healed = after.pop(guilty.id)
    assert (tuple(evidence), healed.state) == (before.pop(guilty.id), "done")
    assert after == before, "what was done stays done"


def assert_set_aside(farm: Farm, transcription: str, recording: Recording) -> JobView:
    """The job with the word that kills is failed, on the evidence of two workers; the transcript has all others."""
    (gap,) = farm.client.get(transcription).gaps
    (guilty,) = [job for job in farm.jobs(transcription) if job.state == "failed"]
    start = dict(recording.words)["die"]
    assert gap.start_seconds <= start < gap.end_seconds
    assert (guilty.start_seconds, guilty.end_seconds) == (gap.start_seconds, gap.end_seconds)
    charged = [attempt for attempt in guilty.attempts if attempt.charged]
    assert len({attempt.worker_id for attempt in charged}) == 2
    assert all("exit status 70" in (attempt.error_message or "") for attempt in charged)
    assert all(job.state == "done" for job in farm.jobs(transcription) if job.id != guilty.id)
    heard = farm.client.transcript(transcription).text.split()
    gone = {word for word, at in recording.words if gap.start_seconds <= at < gap.end_seconds}
    assert heard == [word for word, _ in recording.words if word not in gone]
    return guilty


def _finished(farm: Farm, transcription: str) -> str:
    view = farm.look(transcription)
    return view.state if view and view.state in FINISHED else ""
