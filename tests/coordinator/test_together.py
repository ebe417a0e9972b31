"""Calls that come together: served in groups, each with its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.hand_worker import HandWorker
from support.served_farm import PATIENCE_SECONDS, ServedFarm, eventually
from support.submitting import submit

from whisper_farm.coordinator.coalescing import Coalescing
from whisper_farm.errors import InvalidRequest, StoreUnavailable

WORKERS = 6


class Kitchen:
    """Serves numbers, tenfold, a group at a time and only when told to; refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.trouble: dict[int, Exception] = {}

    async def serve(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        self.begun.set()
        await self.go.wait()
        for number in numbers:
            if error := self.trouble.get(number):
                raise error
        return [10 * number for number in numbers]


def answers(
    kitchen: Kitchen, most: int, asked: Sequence[int], leaving: int | None = None, patience: float = PATIENCE_SECONDS
) -> list[Any]:
    """What each is answered when the first is alone and the others come while it is served."""

    async def scene() -> list[Any]:
        together = Coalescing(kitchen.serve, most, patience)
        first = asyncio.create_task(together.ask(asked[0]))
        await kitchen.begun.wait()
        others = [asyncio.create_task(together.ask(number)) for number in asked[1:]]
        await asyncio.sleep(0)
        if leaving is not None:
            others[leaving].cancel()
        if patience < PATIENCE_SECONDS:
            await asyncio.wait(others)
        kitchen.go.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.gather(first, *others, return_exceptions=True)

    return asyncio.run(scene())


def test_who_comes_first_is_served_at_once_and_who_comes_meanwhile_together() -> None:
    kitchen = Kitchen()
    assert answers(kitchen, 3, [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
    assert kitchen.groups == [[1], [2, 3, 4], [5]]


def test_a_store_that_cannot_serve_is_told_to_the_whole_group_and_to_no_other() -> None:
    kitchen = Kitchen()
    kitchen.trouble[3] = StoreUnavailable("The database is away.")
    one, two, three, four = answers(kitchen, 2, [1, 2, 3, 4])
    assert (one, four) == (10, 40)
    assert two is three is kitchen.trouble[3]


@pytest.mark.parametrize("error", [ZeroDivisionError(), InvalidRequest("Three is no number.")])
def test_any_other_error_is_the_answer_only_to_who_caused_it(error: Exception) -> None:
    kitchen = Kitchen()
    kitchen.trouble[3] = error
    one, two, three, four = answers(kitchen, 8, [1, 2, 3, 4])
    assert (one, two, four) == (10, 20, 40)
    assert three is kitchen.trouble[3]
    assert kitchen.groups == [[1], [2, 3, 4], [2], [3], [4]]


def test_who_leaves_does_not_take_the_others_along() -> None:
    one, two, three = answers(Kitchen(), 8, [1, 2, 3], leaving=0)
    assert (one, three) == (10, 30)
    assert isinstance(two, asyncio.CancelledError)


def test_who_has_waited_too_long_is_refused_and_not_served_behind_its_back() -> None:
    kitchen = Kitchen()
    told = answers(kitchen, 8, [1, 2, 3], patience=0.05)
    assert [type(one) for one in told] == [StoreUnavailable] * 3
    assert kitchen.groups == [[1]]


def test_workers_that_complete_together_get_their_own_outcomes_and_claims(
    either_farm: ServedFarm, make_worker: Callable[..., HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    farm, blobs = either_farm, either_farm.coordinator.blobs
    made = submit(farm.admin)
    workers = [make_worker(farm, f"w-{number}") for number in range(WORKERS)]
    workers[0].begin(2 * WORKERS)
    held = [worker.claim(1)[0] for worker in workers]
    forged = workers[1].completion(held[0], workers[1].heard(held[0]))
    put_all, groups, all_are_here = blobs.put_all, [], asyncio.Event()

    async def put(results: Mapping[str, bytes]) -> None:
        groups.append(len(results))
        await all_are_here.wait()
        await put_all(results)

    def complete(worker: HandWorker, claim: Any) -> Any:
        own = worker.completion(claim, worker.heard(claim))
        more = [forged] if worker is workers[1] else []
        return worker.told("complete", completions=[*more, own], claim=worker.claim_body(1))

    monkeypatch.setattr(blobs, "put_all", put)
    with ThreadPoolExecutor(WORKERS) as threads:
        told = [threads.submit(complete, workers[0], held[0])]
        eventually(lambda: groups, "the first is served alone")
        told += [threads.submit(complete, *one) for one in zip(workers[1:], held[1:], strict=True)]
        eventually(lambda: len(farm.coordinator.completions.group_commit) == WORKERS - 1, "all but the first wait")
        farm.on_loop(_set(all_are_here))
        found = [one.result(PATIENCE_SECONDS) for one in told]
    assert len(groups) == 2
    codes = [[outcome["error_code"] for outcome in one["outcomes"]] for one in found]
    assert codes == [["lease_lost", None] if number == 1 else [None] for number in range(WORKERS)]
    claimed = [claim["job_id"] for one in found for claim in one["claims"]]
    assert len(claimed) == len(set(claimed)) == WORKERS
    progress = farm.admin.get(f"/api/transcriptions/{made['id']}").json()["progress"]
    assert progress["chunks_done"] == WORKERS


def _set(event: asyncio.Event) -> Callable[[], Coroutine[Any, Any, None]]:
    async def now() -> None:
        event.set()

    return now
