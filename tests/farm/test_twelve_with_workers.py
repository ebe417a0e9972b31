"""Tests that every queue of this kind should pass, with real workers that are killed, frozen and lied to.

The others are in `test_twelve_by_hand` and `test_twelve_on_a_bad_line`; `test_model` is the state machine in
`tests/leases`. `./run chaos` does the same at random, for as long as one likes.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from farm_processes import Farm, Known, Recording, assert_done_once, busy_cores, until
from fault_proxy import FaultProxy
from postgres import PostgresServer

from whisper_farm.engines.tone_audio import tone_words
from whisper_farm.protocol.client import FINISHED
from whisper_farm.worker.deaths import EXIT_STATUS, POINTS, VARIABLE

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="freezes processes with POSIX signals"),
]


def test_kill_at_every_step(farm: Farm, talk: Known) -> None:
    """A worker dies at each of the steps, four of them side by side: every word is there once."""
    made = [farm.submit(talk.recording, "x20")]
    with farm.worker(**{VARIABLE: "after_upload"}) as cutter:
        assert cutter.ended() == EXIT_STATUS
    with ExitStack() as stack:
        points = [point for point in POINTS if point != "after_upload"]
        dying = [stack.enter_context(farm.worker("--no_cuts", **{VARIABLE: point})) for point in points]
        stack.enter_context(farm.worker())
        while alive := [worker for worker in dying if worker.status is None]:
            until(lambda alive=alive: any(each.status for each in alive) or _over(farm, made[-1]), "one dies")
            if _over(farm, made[-1]):
                made.append(farm.submit(talk.recording, "x20"))
        assert {worker.status for worker in dying} == {EXIT_STATUS}
        for each in made:
            assert talk.same(farm.finished(each))
            assert_done_once(farm.jobs(each))


def _over(farm: Farm, transcription: str) -> bool:
    view = farm.look(transcription)
    return view is not None and view.state in FINISHED


def test_coordinator_and_database_murder(tmp_path: Path, talk: Known) -> None:
    """The coordinator is killed twice and PostgreSQL once, the line is half open for a lease; all goes on by itself."""
    with PostgresServer(fsync=True) as postgres:
        database = postgres.create("murdered")
        subprocess.run(
            [sys.executable, "-m", "whisper_farm.cli.main", "db", "upgrade", "--database", database],
            check=True,
            timeout=90,
            capture_output=True,
        )
        with Farm(tmp_path, database) as farm, FaultProxy(farm.port) as line, farm.worker(at=line.url):
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


def test_starved_beat(farm: Farm, talk: Known) -> None:
    """A worker frozen for two leases publishes nothing it lost; with every core busy all the while, nothing differs."""
    made = farm.submit(talk.recording, "x10")
    with farm.worker() as frozen:
        farm.progress(made, chunks_done=1)
        frozen.freeze()
        with farm.worker(), busy_cores():
            until(lambda: farm.attempts(made, "lost"), "the frozen worker has lost a job")
            frozen.thaw()
            assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))


def test_rolling_restart(farm: Farm, talk: Known) -> None:
    """A worker and the server are told to stop in the middle of the work: what they held goes on, uncharged."""
    made = farm.submit(talk.recording, "x10")
    with farm.worker() as old:
        farm.progress(made, chunks_done=2)
        old.terminate()
        assert old.ended() == 0
    assert {attempt.state for job in farm.jobs(made) for attempt in job.attempts} <= {"done", "released"}
    assert not any(job.charged_attempts for job in farm.jobs(made))
    farm.server.terminate()
    with farm.worker():
        assert farm.server.ended() == 0
        farm.start()
        assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))


def test_poison_chunk(tmp_path: Path) -> None:
    """A chunk that takes every recogniser down is set aside with its evidence; its neighbours are done."""
    words = tone_words(40, 5000)
    poisoned = Recording.of(tmp_path / "poisoned.wav", [*words[:20], "die", *words[20:]])
    with Farm(tmp_path, settings={"WHISPER_FARM_MAX_ATTEMPTS": "2"}) as farm, farm.worker(), farm.worker():
        made = farm.submit(poisoned, "faulty")
        view = until(lambda: _finished(farm, made), "it is finished")
        assert view == "incomplete"
        (gap,) = farm.client.get(made).gaps
        (guilty,) = [job for job in farm.jobs(made) if job.state == "failed"]
        start = dict(poisoned.words)["die"]
        assert gap.start_seconds <= start < gap.end_seconds
        assert (guilty.start_seconds, guilty.end_seconds) == (gap.start_seconds, gap.end_seconds)
        charged = [attempt for attempt in guilty.attempts if attempt.charged]
        assert len({attempt.worker_id for attempt in charged}) == 2
        assert all("exit status 70" in (attempt.error_message or "") for attempt in charged)
        assert all(job.state == "done" for job in farm.jobs(made) if job is not guilty and job.id != guilty.id)
        heard = farm.client.transcript(made).text.split()
        gone = {word for word, at in poisoned.words if gap.start_seconds <= at < gap.end_seconds}
        assert heard == [word for word, _ in poisoned.words if word not in gone]
        assert farm.client.retry(made).state in ("running", "queued")


def _finished(farm: Farm, transcription: str) -> str:
    view = farm.look(transcription)
    return view.state if view and view.state in FINISHED else ""
