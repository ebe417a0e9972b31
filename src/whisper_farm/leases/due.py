"""When a waiting claim should look again though nothing has happened: leases lapse and back-offs end in silence."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select, text

from whisper_farm.leases.hedge import next_overdue
from whisper_farm.leases.held import LIVE
from whisper_farm.leases.policy import stretched
from whisper_farm.leases.workers import Worker
from whisper_farm.protocol.work import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import attempts, jobs, literally

_ENDED = LIVE, attempts.c.lease_until <= bindparam("now")
_MOMENTS = select(
    select(func.min(attempts.c.lease_until)).where(LIVE, attempts.c.lease_until > bindparam("now")).scalar_subquery(),
    select(func.min(jobs.c.available_at))
    .where(jobs.c.state == literally("queued"), text("available_at > 0"), jobs.c.available_at > bindparam("now"))
    .scalar_subquery(),
    select(attempts.c.token).where(*_ENDED, attempts.c.worker_id == bindparam("me")).exists(),
)
"""The next lapse, the next end of a back-off, and whether a lease of this worker's own has ended."""


def next_due(tx: Transaction, worker: Worker, request: ClaimRequest, policy: Policy) -> float | None:
    """Seconds until a lapse, the end of a back-off or a hedge may give this worker something; None: nothing pending.

    It may name a moment too early, never one too late; what happens before then is an event.
    """
    *moments, forgotten = tx.connection.execute(_MOMENTS, {"me": worker.id, "now": tx.now}).one()
    if request.transcribe_jobs:
        moments.append(next_overdue(tx, worker.offers, request, policy))
    if forgotten:
        moments.append(tx.now + stretched(policy, worker.present).heartbeat_seconds)
    return min((moment - tx.now for moment in moments if moment is not None), default=None)
