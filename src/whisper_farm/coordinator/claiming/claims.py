"""Claims as the API makes them: several in one transaction, each with what a waiting one needs to know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from whisper_farm.coordinator.claiming.waiting import EMPTY_HANDS, Tried
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import WorkerUnknown
from whisper_farm.leases.claim import Claiming
from whisper_farm.leases.due import next_due
from whisper_farm.leases.workers import Offers
from whisper_farm.protocol.events import EventKind
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction

WORK_MAKING: frozenset[EventKind] = frozenset(
    {
        "transcription_submitted",
        "chunks_appended",
        "job_retried",
        "job_redo",
        "job_released",
        "transcription_retried",
        "worker_gone",
    }
)
"""Events after which a waiting claim may find something. The last one: a job it failed may now be left to it alone."""


class Claims:
    """Makes claims for the waiting room."""

    def __init__(self, store: StoreThreads, policy: Policy, metrics: Metrics) -> None:
        self._store = store
        self._policy = policy
        self._metrics = metrics

    async def attempt(self, requests: Sequence[ClaimRequest]) -> list[Tried | None]:
        """Try these claims in one transaction until enough in a row have found nothing; None for the rest."""
        tried = await self._store.write(lambda tx: try_claims(tx, requests, self._policy))
        for one in tried:
            for claimed in one.claims if one is not None else ():
                self._metrics.claimed(claimed.kind, claimed.hedge)
        return tried


def try_claims(tx: Transaction, requests: Sequence[ClaimRequest], policy: Policy) -> list[Tried | None]:
    """See `Claims.attempt`. Workers with the right model loaded come first; those that do not wait are all tried."""
    claiming = Claiming(tx, requests, policy)
    tried: list[Tried | None] = [None] * len(requests)
    empty = 0
    for number in sorted(range(len(requests)), key=lambda number: claiming.is_cold(requests[number])):
        tried[number] = one = _try(tx, claiming, requests[number])
        if one.settled or not requests[number].wait_seconds:
            empty = 0
        elif not one.denied:
            empty += 1
        if empty == EMPTY_HANDS:
            break
    claiming.write()
    return tried


def _try(tx: Transaction, claiming: Claiming, request: ClaimRequest) -> Tried:
    """One claim, and when it is worth trying again if it found nothing."""
    try:
        if claims := claiming.claim(request):
            return Tried(tuple(claims))
        worker = claiming.worker(request)
    except WorkerUnknown as error:
        return Tried(error=error)
    if worker.drains:
        return Tried(drain=True)
    if not request.wait_seconds:
        return Tried()
    claiming.write()
    interest = _interest(worker.offers, request)
    return Tried(interest=interest, due_seconds=next_due(tx), denied=claiming.denied)


def _interest(offers: Offers, request: ClaimRequest) -> str:
    """The same for workers that may claim the same jobs, whatever model they have loaded."""
    offered = offers.engines if request.transcribe_jobs else ()
    engines = sorted(json.dumps([offer["engine"], offer["models"]]) for offer in offered)
    wanted = [bool(request.chunk_jobs and offers.cuts), bool(request.transcribe_jobs), engines, request.only]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
