"""Claims that wait, the long polls and the queue together: who is tried first, and who must not be forgotten."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from support.hand_farm import Farm

from whisper_farm.coordinator import long_poll
from whisper_farm.coordinator.claims import try_claims
from whisper_farm.coordinator.long_poll import LongPolls, Tried
from whisper_farm.protocol.worker import ClaimRequest

PATIENCE_SECONDS = 60.0


def waits(farm: Farm, worker: str) -> ClaimRequest:
    return farm.request(worker).model_copy(update={"wait_seconds": 30.0})


def test_the_end_of_a_backoff_wakes_the_one_waiting_worker_that_may_have_the_job(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that failed it has waited longer, and finds nothing."""
    monkeypatch.setattr(long_poll, "TICK_SECONDS", 1000)
    farm.recording(1)
    for name in ("one", "two"):
        farm.worker(name)
    farm.fail(farm.claim("one")[0])

    async def scenario() -> str:
        time, began = asyncio.get_running_loop().time, inf  # the farm's begins when both wait

        async def attempt(request: ClaimRequest) -> Tried:
            at = farm.now + max(0.0, time() - began)
            return farm.database.write(lambda tx: try_claims(tx, [request], farm.policy)[0], now=at)

        polls = LongPolls(attempt)
        serving = asyncio.create_task(polls.run())
        calls = {}
        for number, name in enumerate(("one", "two"), 1):
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            calls[asyncio.create_task(polls.claim(waits(farm, name), gone))] = name
            while len(polls) < number:  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0)
        began = time()
        served, _ = await asyncio.wait(calls, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await polls.close()
        await serving
        return ", ".join(calls[one] for one in served)

    assert asyncio.run(scenario()) == "two"


def test_of_a_waiting_worker_it_is_known_whether_it_has_the_model_loaded(farm: Farm) -> None:
    """Those are tried first (`test_long_polls.py`)."""
    farm.worker("cold")
    farm.worker("warm", loaded=["instant"])
    asked = [waits(farm, name) for name in ("cold", "warm")]
    tried = farm.write(lambda tx: try_claims(tx, asked, farm.policy))
    assert [one.warm for one in tried] == [False, True]


@pytest.mark.parametrize("loses", [False, True])
def test_a_worker_that_leaves_a_job_to_others_keeps_none_of_them_from_being_tried(farm: Farm, loses: bool) -> None:
    """It would find nothing where the others may find something."""
    farm.recording(1)
    for name in ("other", "leaver"):
        farm.worker(name)

    def interest(name: str) -> str:
        tried: Tried = farm.write(lambda tx: try_claims(tx, [waits(farm, name)], farm.policy)[0])
        assert not tried.claims
        return tried.interest

    (job,) = farm.claim("leaver")
    before = interest("leaver")
    assert before == interest("other")
    if loses:
        farm.now += farm.policy.lease_seconds + 1
    else:
        farm.fail(job)
        assert interest("other") == before
    assert interest("leaver") != before
