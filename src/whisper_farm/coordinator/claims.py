"""Claims as the API makes them, each with what one that waits needs to know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from whisper_farm.coordinator.coalescing import Coalescing
from whisper_farm.coordinator.long_poll import Tried
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.leases.claim import Asking, Granted, claim_all
from whisper_farm.leases.waiting import next_due
from whisper_farm.leases.workers import must_be_there
from whisper_farm.protocol.events import EventKind
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction

WORK_MAKING: frozenset[EventKind] = frozenset({
    "transcription_submitted", "transcription_fetched", "transcription_retried", "chunks_appended", "chunking_done",
    "job_retried", "job_redo", "job_released", "worker_gone", "worker_resumed",
})  # fmt: skip
"""Events after which a waiting claim may find something. `worker_gone`: what that worker held may be taken over now."""


class Claims:
    """Makes claims for the long polls, and for workers that ask now: those that come together, together."""

    def __init__(self, store: StoreThreads, policy: Policy, metrics: Metrics) -> None:
        self._store, self._policy, self._metrics = store, policy, metrics
        self._group_commit = Coalescing(self._attempt)

    async def attempt(self, request: ClaimRequest) -> Tried:
        """Try this claim; raises `WorkerUnknown`."""
        return must_be_there(request.worker_id, await self._group_commit.ask(request))

    async def _attempt(self, requests: Sequence[ClaimRequest]) -> list[Tried | None]:
        tried = await self._store.write(lambda tx: try_claims(tx, requests, self._policy))
        count_claims(self._metrics, tried)
        return tried


def try_claims(tx: Transaction, requests: Sequence[ClaimRequest], policy: Policy) -> list[Tried | None]:
    """These claims, and when each is worth trying again if it found nothing. None: the worker is not known."""
    answers = claim_all(tx, requests, policy)
    return [_tried(tx, *each) for each in zip(requests, answers, strict=True)]


def _tried(tx: Transaction, request: ClaimRequest, answer: Granted | None) -> Tried | None:
    if answer is None:
        return None
    worker, claims = answer
    if claims or worker.drains or not request.wait_seconds:
        return Tried(tuple(claims), drain=worker.drains and not claims)
    if worker.paused:
        return Tried(interest="paused")
    return Tried(
        interest=_interest(worker, request),
        warm=any(offer["loaded"] for offer in worker.engines),
        due_seconds=next_due(tx),
    )


def count_claims(metrics: Metrics, tried: Iterable[Tried | None]) -> None:
    """Count what was handed out, once that is committed."""
    for claimed in (claimed for one in tried if one is not None for claimed in one.claims):
        metrics.claims.labels(claimed.kind, "yes" if claimed.hedge else "no").inc()


def _interest(worker: Asking, request: ClaimRequest) -> str:
    """The same for workers that may claim the same jobs, whatever model they have loaded."""
    offered = worker.engines if request.jobs.get("transcribe") else []
    engines = sorted(json.dumps([offer["engine"], offer["models"], offer["resting"]]) for offer in offered)
    kinds = sorted(kind for kind, room in request.jobs.items() if room)
    wanted = [kinds, worker.cuts, engines, worker.label, worker.id if worker.leaves else None]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
