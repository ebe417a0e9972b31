"""Claims that wait, the room and the queue together: who is tried first, and who must not be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from support.hand_farm import Farm

from whisper_farm.coordinator.claiming import waiting
from whisper_farm.coordinator.claiming.claims import try_claims
from whisper_farm.coordinator.claiming.waiting import Tried, WaitingRoom
from whisper_farm.protocol.worker import ClaimRequest

PATIENCE_SECONDS = 20.0


def waits(farm: Farm, worker: str) -> ClaimRequest:
    return farm.request(worker).model_copy(update={"wait_seconds": 30.0})


def test_the_end_of_a_backoff_wakes_the_one_waiting_worker_that_may_have_the_job(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that failed it have waited longer, and find nothing."""
    monkeypatch.setattr(waiting, "TICK_SECONDS", 1000)
    farm.recording(1)
    for name in ("one", "two", "three"):
        farm.worker(name)
    for name in ("one", "two"):
        farm.now += 100
        for worker in ("one", "two", "three"):
            farm.beat(worker)
        farm.fail(farm.claim(name)[0])

    async def scenario() -> str:
        began = asyncio.get_running_loop().time()

        async def attempt(requests: Sequence[ClaimRequest]) -> Sequence[Tried | None]:
            at = farm.now + asyncio.get_running_loop().time() - began
            return farm.database.write(lambda tx: try_claims(tx, requests, farm.policy), now=at)

        room = WaitingRoom(attempt)
        serving = asyncio.create_task(room.run())
        calls = {}
        for number, name in enumerate(("one", "two", "three"), 1):
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            calls[asyncio.create_task(room.claim(waits(farm, name), gone))] = name
            while len(room) < number:  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0)
        served, _ = await asyncio.wait(calls, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await room.close()
        await serving
        return ", ".join(calls[one] for one in served)

    assert asyncio.run(scenario()) == "three"


def test_of_waiting_workers_the_one_with_the_model_loaded_gets_the_job(farm: Farm) -> None:
    farm.worker("cold")
    farm.worker("warm", loaded=["instant"])
    farm.recording(1)
    requests = [waits(farm, "cold"), waits(farm, "warm")]
    cold, warm = farm.write(lambda tx: try_claims(tx, requests, farm.policy))
    assert (len(cold.claims), len(warm.claims)) == (0, 1)


def test_what_those_with_the_model_loaded_leave_goes_to_the_others(farm: Farm) -> None:
    farm.worker("cold")
    farm.worker("warm", loaded=["instant"])
    farm.recording(3)
    requests = [waits(farm, "cold"), waits(farm, "unknown"), waits(farm, "warm")]
    cold, unknown, warm = farm.write(lambda tx: try_claims(tx, requests, farm.policy))
    assert [job.position for job in (*warm.claims, *cold.claims)] == [0, 1]
    assert unknown.error is not None
