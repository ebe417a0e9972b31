"""Tests that every queue of this kind should pass: those in which answers get lost. One worker, alone on a bad line.

`docs/TESTING.md` says where the others are. `./run chaos` does the same at random, for as long as one likes.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from support.farm_processes import LEASE_SECONDS, Farm, Known, assert_done_once
from support.fault_proxy import Fault, FaultProxy

LATE_SECONDS = LEASE_SECONDS / 3
"""Not so late that a worker, which beats meanwhile for what it knows of, has lost what it was given."""
HASTY = {"WHISPER_FARM_WORKER_REQUEST_TIMEOUT_SECONDS": "1.5"}
"""A worker that soon gives up a call whose answer is held."""


@pytest.fixture(scope="module")
def line(farm: Farm) -> Iterator[FaultProxy]:
    """A line to the farm with one worker at its end, and nobody else."""
    with FaultProxy(farm.port, delay_seconds=LATE_SECONDS) as line, farm.worker(at=line.url, **HASTY):
        yield line


@pytest.fixture
def bad_line(line: FaultProxy) -> Iterator[FaultProxy]:
    """The same, with a count of its own; good again afterwards."""
    line.suffered.clear()
    yield line
    line.mend()


def in_turn(calls: set[str], *faults: Fault | None) -> Callable[[str], Fault | None]:
    """These faults one after the other, for these calls."""
    cycle = itertools.cycle(faults)
    return lambda call: next(cycle) if call in calls else None


def test_lost_claim_reply(farm: Farm, bad_line: FaultProxy, talk: Known) -> None:
    """Two of three answers to claims are lost, some late, with requests besides: nothing is stranded, nothing claimed
    twice. The one that is held is a completion's, which claims the next: a claim by itself is waited for too long."""
    bad_line.next("complete", "hold_reply")
    bad_line.next("claim", "late_reply", 3)
    bad_line.chance = in_turn({"claim", "complete"}, "lose_reply", "lose_reply", "lose_request", None, None)
    made = farm.submit(talk.recording)
    assert talk.same(farm.finished(made))
    assert (bad_line.suffered["hold_reply", "complete"], bad_line.suffered["late_reply", "claim"]) == (1, 3)
    assert bad_line.suffered["lose_reply", "claim"] + bad_line.suffered["lose_reply", "complete"] > 3
    assert all([attempt.state for attempt in job.attempts] == ["done"] for job in farm.jobs(made))


def test_lost_completion_reply(farm: Farm, bad_line: FaultProxy, talk: Known) -> None:
    """Completions are lost, held, late, doubled, delayed, answered by a stranger: each job is done, and told, once."""
    befall: tuple[Fault, ...] = ("lose_reply", "hold_reply", "garble", "late_reply", "duplicate", "delay")
    for fault in befall:
        bad_line.next("complete", fault)
    bad_line.chance = in_turn({"complete"}, "lose_reply", "duplicate", None, "garble")
    made = farm.submit(talk.recording, "x5")
    assert talk.same(farm.finished(made))
    assert {fault for (fault, call) in bad_line.suffered if call == "complete"} == set(befall)
    assert all([attempt.state for attempt in job.attempts] == ["done"] for job in farm.jobs(made))
    stream = farm.client.events(after=0, transcription=made)
    kinds = []
    for event in stream:
        kinds.append(event.kind)
        if event.kind == "transcription_done":
            stream.close()
    assert kinds.count("job_done") == len(farm.jobs(made)) - 1
    assert kinds.count("chunking_done") == kinds.count("transcription_done") == 1


def test_coordinator_and_database_murder_on_sqlite(farm: Farm, bad_line: FaultProxy, talk: Known) -> None:
    """The process that holds the database is killed while it writes: the file is whole, and nothing is missing."""
    made = farm.submit(talk.recording, "x10")
    for done in (2, 10):
        farm.progress(made, chunks_done=done)
        farm.server.kill()
        farm.start()
    assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))
    with closing(sqlite3.connect(farm.data / "farm.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
