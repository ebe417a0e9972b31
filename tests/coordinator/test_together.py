"""Completions that come at the same time: each has its own outcomes and its own claims."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support.hand_worker import HandWorker
from support.served_farm import PATIENCE_SECONDS, ServedFarm
from support.submitting import submit

WORKERS = 6


def test_workers_that_complete_together_get_their_own_outcomes_and_claims(
    either_farm: ServedFarm, make_worker: Callable[..., HandWorker]
) -> None:
    farm, ready = either_farm, threading.Barrier(WORKERS)
    made = submit(farm.admin)
    workers = [make_worker(farm, f"w-{number}") for number in range(WORKERS)]
    (cutting,) = workers[0].claim(0, chunk=1)
    workers[0].cut(cutting, 2 * WORKERS)
    held = [worker.claim(1)[0] for worker in workers]
    forged = workers[1].completion(held[0], workers[1].heard(held[0]))

    def complete(worker: HandWorker, claim: Any) -> Any:
        own = worker.completion(claim, worker.heard(claim))
        more = [forged] if worker is workers[1] else []
        ready.wait(PATIENCE_SECONDS)
        return worker.told("complete", completions=[*more, own], claim=worker.claim_body(1))

    with ThreadPoolExecutor(WORKERS) as threads:
        found = list(threads.map(complete, workers, held))
    codes = [[outcome["error_code"] for outcome in one["outcomes"]] for one in found]
    assert codes == [["lease_lost", None] if number == 1 else [None] for number in range(WORKERS)]
    claimed = [claim["job_id"] for one in found for claim in one["claims"]]
    assert len(claimed) == len(set(claimed)) == WORKERS
    progress = farm.admin.get(f"/api/transcriptions/{made['id']}").json()["progress"]
    assert progress["chunks_done"] == WORKERS
