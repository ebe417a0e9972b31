"""Claims as the API makes them: each in a transaction of its own, with what a waiting one needs to know."""

from __future__ import annotations

import hashlib
import json

from whisper_farm.coordinator.claiming.long_poll import Tried
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.leases.claim import claim, left_something, next_due
from whisper_farm.leases.workers import Offers, known_worker
from whisper_farm.protocol.events import EventKind
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction

WORK_MAKING: frozenset[EventKind] = frozenset(
    {
        "transcription_submitted",
        "transcription_fetched",
        "chunks_appended",
        "chunking_done",
        "job_retried",
        "job_redo",
        "job_released",
        "transcription_retried",
        "worker_gone",
        "worker_resumed",
    }
)
"""Events after which a waiting claim may find something. `worker_gone`: what that worker held may be taken over now."""


class Claims:
    """Makes claims for the long polls."""

    def __init__(self, store: StoreThreads, policy: Policy, metrics: Metrics) -> None:
        self._store = store
        self._policy = policy
        self._metrics = metrics

    async def attempt(self, request: ClaimRequest) -> Tried:
        """Try this claim; raises `WorkerUnknown`."""
        tried = await self._store.write(lambda tx: try_claim(tx, request, self._policy))
        count_claims(self._metrics, tried)
        return tried


def try_claim(tx: Transaction, request: ClaimRequest, policy: Policy) -> Tried:
    """One claim, and when it is worth trying again if it found nothing."""
    if claims := claim(tx, request, policy):
        return Tried(tuple(claims))
    worker = known_worker(tx, request.worker_id)
    if worker.drains:
        return Tried(drain=True)
    if not request.wait_seconds:
        return Tried()
    if worker.paused:
        return Tried(interest="paused")
    return Tried(
        interest=_interest(worker, request),
        warm=any(offer["loaded"] for offer in worker.engines),
        due_seconds=next_due(tx),
        denied=left_something(tx, worker.id, policy),
    )


def count_claims(metrics: Metrics, tried: Tried) -> None:
    """Count what was handed out, once that is committed."""
    for claimed in tried.claims:
        metrics.claims.labels(claimed.kind, "yes" if claimed.hedge else "no").inc()


def _interest(offers: Offers, request: ClaimRequest) -> str:
    """The same for workers that may claim the same jobs, whatever model they have loaded."""
    offered = offers.engines if request.jobs.get("transcribe") else []
    engines = sorted(json.dumps([offer["engine"], offer["models"], offer["resting"]]) for offer in offered)
    kinds = sorted(kind for kind, room in request.jobs.items() if room)
    wanted = [kinds, offers.cuts, engines, offers.label]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
