"""What nobody wants any more stops on the machine it runs on: cancelled recordings, and chunks that another finished.

A real server, on SQLite and on PostgreSQL, and real workers, seen through the farm alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from support.farm_processes import Farm, Process, Recording, assert_says, until
from support.fault_proxy import FaultProxy, Request
from support.postgres import PostgresServer

from whisper_farm.protocol.client import AttemptView
from whisper_farm.store.tables import attempts, jobs
from whisper_farm.transcript.options import RecognitionOptions

HEARTBEAT_SECONDS = 0.3
SETTINGS = {
    "WHISPER_FARM_LEASE_SECONDS": "60",
    "WHISPER_FARM_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
    "WHISPER_FARM_HEDGE_MIN_SECONDS": "0.5",
    "WHISPER_FARM_HEDGE_FACTOR": "1",
}
"""Leases so long that whatever ends here does not end by a lapse."""
ONE_SLOT = ("--slots", "1", "--batch_size", "1")
FREE_BEATS = 10
"""Until the next recording is recognised: one tells the worker, three pass while the recogniser hears that recording,
and the rest is for a loaded machine. The chunk that was cancelled would have taken two hundred."""


@pytest.fixture(params=["sqlite", "postgresql"])
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Farm]:
    """A server of its own on either database."""
    if request.param == "sqlite":
        with Farm(tmp_path / "farm", settings=SETTINGS) as farm:
            yield farm
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create(f"farm_{tmp_path.name}", template=request.getfixturevalue("postgres_template"))
    with Farm(tmp_path / "farm", url, SETTINGS) as farm:
        yield farm
    server.drop(f"farm_{tmp_path.name}")


def recogniser(worker: Process) -> psutil.Process:
    """The one child of the worker that recognises."""
    (child,) = until(lambda: worker.children("recogniser"), "there is a recogniser")
    return child


def hearing(farm: Farm, transcription: str, state: str) -> list[AttemptView]:
    """Attempts at its chunks."""
    chunks = [job for job in farm.jobs(transcription) if job.kind == "transcribe"]
    return [attempt for job in chunks for attempt in job.attempts if attempt.state == state]


def test_what_is_cancelled_leaves_its_slot_within_a_heartbeat_and_the_next_recording_has_it(
    farm: Farm, tmp_path: Path
) -> None:
    """The worker's own heartbeats are the clock: the first after the cancel tells it, the second is without the job."""
    slow = RecognitionOptions(engine="tones", model="x0.5")
    long, short = Recording.long(tmp_path / "long.wav", 200), Recording.long(tmp_path / "short.wav", 1, first=500)
    told: list[Request] = []
    with FaultProxy(farm.port) as line, farm.worker(*ONE_SLOT, at=line.url) as worker:
        cancelled = farm.client.submit_file(long.path, options=slow, chunk_seconds=30).id
        until(lambda: hearing(farm, cancelled, "live") and worker.children("recogniser"), "it is being recognised")
        child = recogniser(worker)
        assert min(job.end_seconds - job.start_seconds for job in farm.jobs(cancelled)[1:2]) / 0.5 > 50
        following = farm.submit(short, "x0.5")
        farm.progress(following, chunks=1)
        farm.client.cancel(cancelled)
        line.heard = told.append
        assert_says(farm.finished(following), short)
        assert worker.children("recogniser") == [child], "the same process: it only let go"
        until(lambda: len(named(told)) > 1, "it beats a second time")
    assert tokens_of(farm, cancelled).isdisjoint(named(told)[1])
    heard = next(place for place, request in enumerate(told) if is_result(request))
    assert len(named(told[:heard])) <= FREE_BEATS
    (first, *_) = hearing(farm, cancelled, "cancelled")
    (then,) = hearing(farm, following, "done")
    assert then.worker_id == first.worker_id
    assert not hearing(farm, cancelled, "live") + hearing(farm, cancelled, "done")
    assert farm.client.get(cancelled).state == "cancelled"
    assert "dropped" in worker.said()


def named(told: list[Request]) -> list[list[str]]:
    """The tokens that each heartbeat named."""
    return [json.loads(request.body)["tokens"] for request in told if request.call == "heartbeat"]


def is_result(request: Request) -> bool:
    """Whether it hands in what a recogniser heard."""
    return request.call == "complete" and any(
        each["kind"] == "transcribe" for each in json.loads(request.body)["completions"]
    )


def tokens_of(farm: Farm, transcription: str) -> set[str]:
    """Every claim there was of any of its jobs."""
    query = select(attempts.c.token).join(jobs, jobs.c.id == attempts.c.job_id)
    mine = query.where(jobs.c.transcription_id == transcription)
    return set(farm.look_inside(lambda tx: tx.connection.scalars(mine).all()))


def test_who_comes_second_with_a_hedged_chunk_is_told_and_has_its_slot_back(farm: Farm, tmp_path: Path) -> None:
    """One recogniser stands still while its worker beats on: another gets its chunks, too, and is the first."""
    talk, more = Recording.long(tmp_path / "talk.wav", 60), Recording.long(tmp_path / "more.wav", 20, first=500)
    with farm.worker(*ONE_SLOT) as slow:
        made = farm.submit(talk, "x5")
        farm.progress(made, chunks_done=2)
        child = recogniser(slow)
        child.suspend()
        stuck = until(lambda: hearing(farm, made, "live"), "the slow one has begun a chunk")
        with farm.worker("--no_cuts", *ONE_SLOT):
            assert_says(farm.finished(made), talk)
        until(lambda: slow.said().count("dropped") >= len(hearing(farm, made, "superseded")), "it is told of each")
        child.resume()
        assert_says(farm.finished(farm.submit(more, "x5")), more)
        assert slow.children("recogniser") == [child], "the same process: it only let go"
    second = hearing(farm, made, "superseded")
    assert {(each.worker_id, each.hedge, each.charged) for each in second} == {(stuck[0].worker_id, False, False)}
    for job in farm.jobs(made):
        done = [attempt for attempt in job.attempts if attempt.state == "done"]
        beaten = [attempt for attempt in job.attempts if attempt.state == "superseded"]
        assert job.state == "done"
        assert len(done) == 1
        assert len(job.attempts) == 1 + len(beaten), "nothing was lost, nothing failed"
        assert done[0].hedge == bool(beaten)
        assert not beaten or done[0].worker_id != beaten[0].worker_id
