"""Tests that every queue of this kind should pass, over real HTTP: those where the worker is driven by hand.

`test_model` is the state machine in `tests/leases`; the rest are in `test_twelve_with_workers`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from farm_processes import LEASE_SECONDS, Farm, Known, assert_done_once, until
from hand_worker import HandWorker, Json

from whisper_farm.leases.reap import ReapReport, reap
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database
from whisper_farm.transcript.options import RecognitionOptions

HandMaker = Callable[[str], HandWorker]
pytestmark = pytest.mark.timeout(300)


class Hand(HandWorker):
    """A hand worker that registers again when the farm has given it up, as a real one does."""

    def ask(self, call: str, **body: Any) -> httpx.Response:
        answer = super().ask(call, **body)
        if answer.status_code == 404 and answer.json()["error"]["code"] == "worker_unknown":
            self.register()
            answer = super().ask(call, **body)
        return answer


@pytest.fixture
def hand(farm: Farm) -> Iterator[HandMaker]:
    """Makes registered workers that do what the test says."""
    with ExitStack() as stack:

        def make(name: str) -> HandWorker:
            worker = Hand(farm.url, farm.token, name)
            stack.callback(worker.close)
            worker.register()
            return worker

        yield make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Something to submit when no real worker will look at it."""
    path = tmp_path / "file.wav"
    path.write_bytes(b"never decoded")
    return path


def submit(farm: Farm, file: Path) -> str:
    return farm.client.submit_file(file, options=RecognitionOptions(engine="tones", model="instant")).id


def let_lapse(farm: Farm, *transcriptions: str) -> None:
    """Wait until no lease of these recordings can be running any more. Hand workers do not beat."""
    latest = max(attempt.started_at for each in transcriptions for job in farm.jobs(each) for attempt in job.attempts)
    until(lambda: time.time() > latest + 1.25 * LEASE_SECONDS, "the leases ran out")


def test_zombie(farm: Farm, hand: HandMaker, talk: Known) -> None:
    """A cuts, falls asleep, and wakes up when others have done everything: each of its calls is refused."""
    zombie = hand("zombie")
    made = farm.submit(talk.recording)
    (claim,) = zombie.claim(transcribe=0, chunk=1, wait=10)
    token = claim["token"]
    place = zombie.told("uploads", token=token, positions=[0])["uploads"][0]
    chunk = zombie.upload(claim, 0)
    let_lapse(farm, made)
    with farm.worker():
        assert talk.same(farm.finished(made))
    before = farm.jobs(made)
    assert zombie.told("heartbeat", tokens=[token])["lost"] == [token]
    refused = [
        zombie.ask("uploads", token=token, positions=[0]),
        zombie.ask("append", token=token, chunks=[chunk]),
        zombie.transfer(place["transfer"], b"the wrong sound"),
        zombie.transfer(claim["chunk"]["source"]["transfer"]),
    ]
    assert [answer.status_code for answer in refused] == [409] * 4
    assert {answer.json()["error"]["code"] for answer in refused} == {"lease_lost"}
    failure = {"token": token, "code": "engine_error", "message": "too late", "permanent": True}
    outcomes = [
        *zombie.complete([zombie.cut_done(claim, 1)]),
        *zombie.told("fail", failures=[failure])["outcomes"],
        *zombie.told("release", tokens=[token])["outcomes"],
    ]
    assert [outcome["error_code"] for outcome in outcomes] == ["lease_lost"] * 3
    assert farm.jobs(made) == before
    assert talk.same(farm.client.transcript(made))
    assert [attempt.state for attempt in before[0].attempts] == ["lost", "done"]


def test_late_but_alone(farm: Farm, hand: HandMaker, file: Path) -> None:
    """Nobody overtook it: what comes after the lease has run out is taken, and nothing is charged."""
    late = hand("late")
    made = submit(farm, file)
    (cutting,) = late.claim(transcribe=0, chunk=1, wait=10)
    late.cut(cutting, 1)
    let_lapse(farm, made)
    assert late.complete([late.cut_done(cutting, 1)])[0]["error_code"] is None
    (claim,) = late.claim(wait=10)
    let_lapse(farm, made)
    assert late.finish(claim)[0]["error_code"] is None
    assert farm.finished(made).text == "word0"
    assert [[attempt.state for attempt in job.attempts] for job in farm.jobs(made)] == [["done"], ["done"]]
    assert not any(job.charged_attempts for job in farm.jobs(made))


def test_reaper_races(farm: Farm, hand: HandMaker, file: Path) -> None:
    """A late completion, a re-claim, a cancel and two reapers all go for the same lapsed jobs: each has one end."""
    slow, quick = hand("slow"), hand("quick")
    made = [submit(farm, file) for _ in range(8)]
    while cuttings := slow.claim(transcribe=0, chunk=8):
        for cutting in cuttings:
            slow.cut(cutting, 1)
            slow.complete([slow.cut_done(cutting, 1)])
    held = {claim["transcription_id"]: claim for claim in slow.claim(transcribe=8)}
    assert set(held) == set(made)
    let_lapse(farm, *made)
    over = threading.Event()

    def reaping() -> list[ReapReport]:
        reports = []
        database = Database.open(farm.data / "farm.db")
        while not over.is_set():
            reports.append(database.write(lambda tx: reap(tx, Policy(lease_seconds=LEASE_SECONDS))))
        database.close()
        return reports

    def cancelling() -> None:
        for each in made[4:]:
            farm.client.cancel(each)

    def overtaking() -> list[Json]:
        return [outcome for _ in range(8) for claim in quick.claim() for outcome in quick.finish(claim)]

    with ThreadPoolExecutor(5) as pool:
        reapers = [pool.submit(reaping) for _ in range(2)]
        works = [pool.submit(lambda: [slow.finish(claim)[0] for claim in held.values()])]
        works += [pool.submit(overtaking), pool.submit(cancelling)]
        for work in works:
            work.exception(60)
        over.set()
        assert not sum(report.jobs_set_aside for reaper in reapers for report in reaper.result(60))
        outcomes = [outcome["error_code"] for work in works[:2] for outcome in work.result()]
    accepted = 0
    for each in made:
        view = until(lambda each=each: _ended(farm, each), f"{each} has ended")
        states = [attempt.state for attempt in farm.jobs(each)[1].attempts]
        assert states.count("done") == (view == "done")
        assert "live" not in states
        accepted += states.count("done")
    assert outcomes.count(None) == accepted
    assert set(outcomes) <= {None, "lease_lost"}


def _ended(farm: Farm, transcription: str) -> str:
    state = farm.client.get(transcription).state
    return state if state in ("done", "cancelled") else ""


def test_load(farm: Farm, hand: HandMaker, file: Path) -> None:
    """Many claimers on a long recording: no error reaches one, and a short recording behind it starts at once."""
    chunks, claimers = 240, 8
    cutter = hand("cutter")
    long = submit(farm, file)
    (cutting,) = cutter.claim(transcribe=0, chunk=1, wait=10)
    cutter.cut(cutting, chunks)
    cutter.complete([cutter.cut_done(cutting, chunks)])
    short = submit(farm, file)
    (cutting,) = cutter.claim(transcribe=0, chunk=1, wait=10)
    cutter.cut(cutting, 3)
    cutter.complete([cutter.cut_done(cutting, 3)])
    order: list[tuple[str, int]] = []

    def working(worker: HandWorker) -> None:
        claims = worker.claim(4)
        while claims:
            order.extend((claim["transcription_id"], claim["position"]) for claim in claims)
            assert worker.told("heartbeat", tokens=[claim["token"] for claim in claims])["lost"] == []
            completions = [worker.completion(claim, transcribe=worker.heard(claim)) for claim in claims]
            answer = worker.told("complete", completions=completions, claim=worker.claim_body(4))
            assert all(outcome["error_code"] is None for outcome in answer["outcomes"])
            claims = answer["claims"]

    with ThreadPoolExecutor(claimers) as pool:
        for done in [pool.submit(working, hand(f"claimer{number}")) for number in range(claimers)]:
            done.result(90)
    assert len(order) == len(set(order)) == chunks + 3
    first_of_short = min(place for place, (each, _) in enumerate(order) if each == short)
    assert first_of_short < 4 * claimers
    words = farm.finished(long).text.split()
    assert words == [f"word{position}" for position in range(chunks)]
    assert_done_once(farm.jobs(short))
