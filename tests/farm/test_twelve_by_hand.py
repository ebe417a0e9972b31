"""Tests that every queue of this kind should pass, over real HTTP: those where the worker is driven by hand.

On SQLite and on PostgreSQL. `docs/TESTING.md` says where the others are.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from support.farm_processes import LEASE_SECONDS, Farm, until
from support.hand_worker import HandWorker, Json

from whisper_farm.leases import lapse
from whisper_farm.leases.lapse import reap
from whisper_farm.protocol.client import FINISHED, TranscriptionView
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database
from whisper_farm.store.tables import events, jobs, workers
from whisper_farm.transcript.options import RecognitionOptions

REAPER_PAUSE_SECONDS = 0.005
"""SQLite gives the turn to whoever asks at the right moment: reapers without a pause keep a server out for seconds."""


class Hand(HandWorker):
    """A hand worker that registers again when the farm has given it up, as a real one does. Names need not differ."""

    name = ""

    def register(self, label: str = "") -> Json:
        offer = {"engine": "tones", "version": "1", "models": self.models, "device": "cpu", "batch": 4}
        name = self.name or self.worker_id
        return self.told("register", name=name, version="0", platform="test", slots=2, engines=[offer], label=label)

    def ask(self, call: str, **body: Any) -> httpx.Response:
        answer = super().ask(call, **body)
        if answer.status_code == 404 and answer.json()["error"]["code"] == "worker_unknown":
            self.register()
            answer = super().ask(call, **body)
        return answer


HandMaker = Callable[[str], Hand]


@pytest.fixture(params=["sqlite_farm", "postgres_farm"])
def farm(request: pytest.FixtureRequest) -> Farm:
    """Both farms in turn."""
    farm: Farm = request.getfixturevalue(request.param)
    return farm


@pytest.fixture
def hand(farm: Farm) -> Iterator[HandMaker]:
    """Makes registered workers that do what the test says."""
    with ExitStack() as stack:

        def make(name: str) -> Hand:
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


@pytest.mark.parametrize("name", ["heir", "zombie"])
def test_zombie(farm: Farm, hand: HandMaker, file: Path, name: str) -> None:
    """A falls asleep over its jobs and B (of the same name, even) has them when it wakes up: A is told off each time.

    B holds them still: its leases, its attempts, the audio it cut and the result it made stay as they are to the byte.
    """
    zombie, heir = hand("zombie"), hand(f"{name}-2")
    heir.name = name
    heir.register()
    made = submit(farm, file)
    (cutting,) = zombie.claim(transcribe=0, chunk=1, wait=10)
    place = zombie.told("uploads", token=cutting["token"], positions=[1])["uploads"][0]
    zombie.cut(cutting, 1)
    (hearing,) = zombie.claim(wait=10)
    let_lapse(farm, made)
    (cut_again,) = heir.claim(transcribe=0, chunk=1, wait=10)
    heir.cut(cut_again, 2, first=1)
    held = {claim["position"]: claim for _ in range(3) for claim in heir.claim(wait=10)}
    assert held.keys() == {0, 1, 2}
    assert heir.finish(held[1])[0]["error_code"] is None
    before = farm.every_row(), farm.every_file()
    assert b"sound of chunk 1" in before[1].values()
    for _ in range(2):
        assert_told_off(zombie, cutting, hearing, place)
        assert (farm.every_row(), farm.every_file()) == before
    outcomes = [*heir.complete([heir.cut_done(cut_again, 3)]), *heir.finish(held[0], held[2])]
    assert [outcome["error_code"] for outcome in outcomes] == [None] * 3
    assert farm.finished(made).text == "word0 word1 word2"
    states = [[attempt.state for attempt in job.attempts] for job in farm.jobs(made)]
    assert states == [["lost", "done"], ["lost", "done"], ["done"], ["done"]]
    before = farm.every_row(), farm.every_file()
    assert_told_off(zombie, cutting, hearing, place)
    assert (farm.every_row(), farm.every_file()) == before, "nor is it heard when all is over"


def assert_told_off(zombie: HandWorker, cutting: Json, hearing: Json, place: Json) -> None:
    """Every call that speaks for a lost claim is refused, and says why."""
    lost = [cutting["token"], hearing["token"]]
    assert sorted(zombie.told("heartbeat", tokens=lost)["lost"]) == sorted(lost)
    chunk = {"position": 1, "start_seconds": 10.0, "end_seconds": 20.0, "speech_seconds": 8.0}
    chunk |= {"key": place["key"], "size": 5, "sha256": "0" * 64}
    refused = [
        zombie.ask("uploads", token=cutting["token"], positions=[1]),
        zombie.ask("append", token=cutting["token"], chunks=[chunk]),
        zombie.transfer(place["transfer"], b"wrong"),
        zombie.transfer(cutting["task"]["source"]["transfer"]),
        zombie.transfer(hearing["task"]["transfer"]),
    ]
    assert [answer.status_code for answer in refused] == [409] * 5
    assert {answer.json()["error"]["code"] for answer in refused} == {"lease_lost"}
    failures = [{"token": token, "code": "engine_error", "message": "late", "permanent": True} for token in lost]
    outcomes = [
        *zombie.complete([zombie.cut_done(cutting, 1), *wrong(zombie, hearing)]),
        *zombie.told("fail", failures=failures)["outcomes"],
        *zombie.told("release", tokens=lost)["outcomes"],
    ]
    assert [outcome["error_code"] for outcome in outcomes] == ["lease_lost"] * 6


def wrong(worker: HandWorker, claim: Json) -> list[Json]:
    """A result that nobody else would come to."""
    return [worker.completion(claim, worker.heard(claim, " wrong"))]


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
    before = farm.every_row()
    assert late.told("heartbeat", tokens=[cutting["token"], claim["token"]])["lost"]
    assert farm.every_row() == before, "no beat after the end alters anything"


def reaping(farm: Farm, over: threading.Event, policy: Policy, reaped: Callable[[], object] = lambda: None) -> int:
    """Reap beside the server until it is over; how many jobs were set aside. Tells `reaped` after each run that did."""
    count = 0
    database = Database.open(farm.database)
    while not over.wait(REAPER_PAUSE_SECONDS):
        if jobs := database.write(lambda tx: reap(tx, policy)).jobs_set_aside:
            count += jobs
            reaped()
    database.close()
    return count


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

    def cancelling() -> None:
        for each in made[4:]:
            farm.client.cancel(each)

    def overtaking() -> list[Json]:
        return [outcome for _ in range(8) for claim in quick.claim() for outcome in quick.finish(claim)]

    with ThreadPoolExecutor(5) as pool:
        reapers = [pool.submit(reaping, farm, over, Policy(lease_seconds=LEASE_SECONDS)) for _ in range(2)]
        works = [pool.submit(lambda: [slow.finish(claim)[0] for claim in held.values()])]
        works += [pool.submit(overtaking), pool.submit(cancelling)]
        for work in works:
            work.exception(60)
        over.set()
        assert not sum(reaper.result(60) for reaper in reapers), "somebody was there to claim them"
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


def test_reaper_races_for_jobs_that_nobody_may_try_again(
    farm: Farm, hand: HandMaker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three reapers set jobs aside, two at a time, and the worker they have given up completes them after all, the
    last ones first, but for those of one recording: each has one end, and all counts agree on which."""
    monkeypatch.setattr(lapse, "LAPSED_AT_ONCE", 2)
    late = hand("late")
    made = [submit(farm, file) for _ in range(6)]
    for _ in made:
        (cutting,) = late.claim(transcribe=0, chunk=1, wait=10)
        late.cut(cutting, 4)
        late.complete([late.cut_done(cutting, 4)])
    held = sorted(late.claim(transcribe=24), key=lambda claim: str(claim["token"]), reverse=True)
    assert len(held) == 24
    spent = Policy(lease_seconds=LEASE_SECONDS, max_attempts=1)
    until(lambda: _gone(farm, "late"), "the worker was given up")
    begun, reaped, over = threading.Event(), threading.Event(), threading.Event()
    before = _set_aside(farm)

    def completing() -> list[str | None]:
        outcomes: list[str | None] = []
        for claim in (each for each in held if each["transcription_id"] != made[0]):
            outcomes.append(late.finish(claim)[0]["error_code"])
            begun.set()
            if len(outcomes) == 6:
                assert reaped.wait(60)
        return outcomes

    with ThreadPoolExecutor(4) as pool:
        work = pool.submit(completing)
        assert begun.wait(60)
        reapers = [pool.submit(reaping, farm, over, spent, reaped.set) for _ in range(3)]
        try:
            outcomes = work.result(60)
            ends = [until(lambda each=each: _finished(farm, each), f"{each} has ended") for each in made]
        finally:
            over.set()
        reaped_in_all = sum(reaper.result(60) for reaper in reapers)  # other tests may have left some to them
    set_aside = sum(job.state == "failed" for each in made for job in farm.jobs(each))
    assert _set_aside(farm) - before == reaped_in_all
    assert (outcomes.count(None), outcomes.count("lease_lost")) == (24 - set_aside, set_aside - 4)
    done = [_one_end_each(farm, view) for view in ends]
    assert done[0] == 0
    assert sum(done) == 24 - set_aside > 0


def _set_aside(farm: Farm) -> int:
    """How many jobs of all tests are set aside."""
    database = Database.open(farm.database)
    failed = select(func.count()).where(jobs.c.state == "failed")
    count: int = database.read(lambda tx: tx.connection.scalar(failed))
    database.close()
    return count


def _gone(farm: Farm, worker: str) -> bool:
    """Reap once, while more may be tried; whether that worker has been given up."""
    database = Database.open(farm.database)
    database.write(lambda tx: reap(tx, Policy(lease_seconds=LEASE_SECONDS)))
    state = database.read(lambda tx: tx.connection.scalar(select(workers.c.state).where(workers.c.id == worker)))
    database.close()
    return state == "gone"


def _finished(farm: Farm, transcription: str) -> TranscriptionView | None:
    view = farm.client.get(transcription)
    return view if view.state in FINISHED else None


def _one_end_each(farm: Farm, view: TranscriptionView) -> int:
    """Every chunk was done or set aside, once, and the recording says the same; how many were done."""
    jobs = [job for job in farm.jobs(view.id) if job.kind == "transcribe"]
    ends = [(job.state, job.charged_attempts, [attempt.state for attempt in job.attempts]) for job in jobs]
    assert all(end in (("done", 0, ["done"]), ("failed", 1, ["lost"])) for end in ends), ends
    done = [job.position for job in jobs if job.state == "done"]
    assert (view.progress.chunks_done, view.progress.chunks_failed) == (len(done), len(jobs) - len(done))
    assert view.state == ("failed" if not done else "done" if len(done) == len(jobs) else "incomplete")
    told = select(events.c.kind).where(events.c.transcription_id == view.id)
    kinds = farm.look_inside(lambda tx: Counter(tx.connection.scalars(told).all()))
    assert (kinds["job_done"], kinds["job_set_aside"]) == (len(done), len(jobs) - len(done))
    assert kinds[f"transcription_{view.state}"] == 1
    if done:
        assert farm.client.transcript(view.id).text.split() == [f"word{position}" for position in done]
    return len(done)
