"""A claim that waits hears of everything after which there may be work for it, by the event alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.hand_farm import TONES
from support.hand_worker import HandWorker, Json, MakeWorker
from support.listening import past
from support.served_farm import ServedFarm, StartFarm, eventually
from support.submitting import submit

from whisper_farm.coordinator import long_poll
from whisper_farm.coordinator.claims import WORK_MAKING
from whisper_farm.leases.transcriptions import NewTranscription, fetched
from whisper_farm.leases.transcriptions import submit as submit_link
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.fetches import take_fetch

Stage = Callable[[ServedFarm, HandWorker, HandWorker], Callable[[], object]]
"""Prepares with a farm, the worker that is going to wait, and another; returns what makes work for the first."""
WAIT_SECONDS = 30
UNHURRIED = Policy(lease_seconds=3600, heartbeat_seconds=900, hedge_min_seconds=3600)
"""No lease lapses and nothing is hedged meanwhile: these would be causes to look again."""


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried without a cause."""
    monkeypatch.setattr(long_poll, "TICK_SECONDS", 1000)


def submitted(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    return lambda: submit(farm.admin)


def relabelled(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    """It was for workers with a label; submitted again with its key, it is for those without."""
    made = submit(farm.admin, key="the same", label="theirs")
    other.register(label="theirs")

    def again() -> None:
        body = {"name": "talk.mp3", "options": made["options"], "key": "the same", "transcription_id": made["id"]}
        answer = farm.admin.post("/api/transcriptions", json=body)
        assert answer.is_success, answer.text
        assert answer.json()["id"] == made["id"]

    return again


def appended(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    submit(farm.admin)
    (cutting,) = other.claim(0, chunk=1)
    return lambda: other.cut(cutting, 1)


def cut_to_the_end(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    """Its one chunk is being recognised; what is left is its listening copy."""
    submit(farm.admin)
    cutting = other.begin(1)
    other.claim(1)
    return lambda: other.complete([other.cut_done(cutting, 1)])


def failed(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    """By somebody who could not do it, and is not to blame: it need not wait."""
    submit(farm.admin)
    (claim,) = other.claim(0, chunk=1)
    return lambda: fail(other, claim)


def fail(worker: HandWorker, claim: Json) -> None:
    failure = {"token": claim["token"], "code": "engine_unavailable", "message": "not here", "charged": False}
    assert worker.told("fail", failures=[failure])["outcomes"][0]["error_code"] is None


def redone(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    """The first chunk decides on another language than was heard in the second."""
    submit(farm.admin)
    other.begin(2)
    first, second = other.claim(2)
    other.finish(second, language="de")
    return lambda: other.finish(first, language="en")


def released(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    submit(farm.admin)
    (claim,) = other.claim(0, chunk=1)
    return lambda: other.told("release", tokens=[claim["token"]])


def retried(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    farm.admin.post(f"{place}/cancel")
    return lambda: farm.admin.post(f"{place}/retry")


def left(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    """What I have failed is left to the other, until it leaves."""
    submit(farm.admin)
    (claim,) = me.claim(0, chunk=1)
    fail(me, claim)
    return lambda: other.told("release", tokens=[], leaving=True)


def fetched_link(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    """By somebody who holds the link from its first moment: the farm's own fetchers leave it alone."""
    link = NewTranscription("ann", "talk.mp3", "link:http://nowhere.invalid/talk.mp3", 0, TONES)

    def held(tx: Transaction) -> str:
        made = submit_link(tx, link)
        assert take_fetch(tx, "somebody", 1)
        return made

    database = farm.coordinator.database
    made = database.write(held)
    return lambda: database.write(lambda tx: fetched(tx, made, "sources/link/1", 1000, "0" * 64))


def resumed(farm: ServedFarm, me: HandWorker, other: HandWorker) -> Callable[[], object]:
    place = f"/api/workers/{me.worker_id}"
    assert farm.admin.post(f"{place}/pause").is_success
    submit(farm.admin)
    return lambda: farm.admin.post(f"{place}/resume")


STAGES: dict[str, Stage] = {
    "transcription_submitted": submitted,
    "transcription_fetched": fetched_link,
    "worker_resumed": resumed,
    "chunks_appended": appended,
    "chunking_done": cut_to_the_end,
    "job_retried": failed,
    "job_redo": redone,
    "job_released": released,
    "transcription_retried": retried,
    "worker_gone": left,
}


def anything(worker: HandWorker) -> Json:
    """A claim that waits for one job of any kind."""
    body = worker.claim_body(1, 1, WAIT_SECONDS)
    return {**body, "jobs": {"chunk": 1, "transcribe": 1, "peaks": 1}}


def test_every_event_that_may_make_work_has_its_test() -> None:
    assert STAGES.keys() == WORK_MAKING


@pytest.mark.parametrize("kind", STAGES)
def test_a_waiting_claim_hears_of_it(start_farm: StartFarm, make_worker: MakeWorker, kind: str) -> None:
    hears_of(start_farm, make_worker, STAGES[kind], kind)


def test_a_waiting_claim_hears_of_what_is_submitted_again_with_its_label(
    start_farm: StartFarm, make_worker: MakeWorker
) -> None:
    hears_of(start_farm, make_worker, relabelled, "transcription_submitted")


def hears_of(start_farm: StartFarm, make_worker: MakeWorker, stage: Stage, kind: str) -> None:
    """A claim that waits is answered by that event alone."""
    farm = start_farm(policy=UNHURRIED)
    me, other = make_worker(farm, "me"), make_worker(farm, "other")
    cause = stage(farm, me, other)
    before = past(farm.admin)[-1].id
    eventually(lambda: farm.coordinator.event_log.position == before, "what was before is told")
    with ThreadPoolExecutor(1) as pool:
        claim = pool.submit(me.told, "claim", **anything(me))
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
        cause()
        assert len(claim.result(2 * WAIT_SECONDS)["claims"]) == 1
    assert {event.kind for event in past(farm.admin, before)} & WORK_MAKING == {kind}, "it is the only cause"
