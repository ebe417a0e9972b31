"""When a waiting claim should look again though nothing has happened: leases lapse and back-offs end in silence."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select, text

from whisper_farm.leases.hedge import next_overdue
from whisper_farm.leases.held import LIVE
from whisper_farm.leases.policy import stretched
from whisper_farm.leases.workers import known_worker
from whisper_farm.protocol.work import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import attempts, jobs, literally

_LAPSE = select(func.min(attempts.c.lease_until)).where(LIVE, attempts.c.lease_until > bindparam("now"))
_FORGOTTEN = select(attempts.c.token).where(
    LIVE, attempts.c.worker_id == bindparam("me"), attempts.c.lease_until <= bindparam("now")
)
_RETRY = select(func.min(jobs.c.available_at)).where(
    jobs.c.state == literally("queued"), text("available_at > 0"), jobs.c.available_at > bindparam("now")
)


def next_due(tx: Transaction, request: ClaimRequest, policy: Policy) -> float | None:
    """Seconds until a lapse, the end of a back-off or a hedge may give this worker something; None: nothing pending.

    It may name a moment too early, never one too late; what happens before then is an event.
    """
    asked = {"me": request.worker_id, "now": tx.now}
    moments = [tx.connection.scalar(_LAPSE, asked), tx.connection.scalar(_RETRY, asked)]
    worker = known_worker(tx, request.worker_id)
    if request.transcribe_jobs:
        moments.append(next_overdue(tx, worker.offers, request, policy))
    if tx.connection.scalar(_FORGOTTEN.limit(1), asked) is not None:
        moments.append(tx.now + stretched(policy, worker.present).heartbeat_seconds)
    return min((moment - tx.now for moment in moments if moment is not None), default=None)
