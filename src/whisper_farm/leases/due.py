"""When a waiting claim should look again though nothing has happened: leases lapse and back-offs end in silence.

What grows old slowly has no moment of its own: a job that may be hedged, or is left to others no longer, is found by
the look that the waiting room takes every few seconds.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select, text

from whisper_farm.leases.attempts import LIVE
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import attempts, jobs, literally

_LAPSE = select(func.min(attempts.c.lease_until)).where(LIVE, attempts.c.lease_until > bindparam("now"))
_RETRY = select(func.min(jobs.c.available_at)).where(
    jobs.c.state == literally("queued"), text("available_at > 0"), jobs.c.available_at > bindparam("now")
)
_MOMENTS = Prepared(select(_LAPSE.scalar_subquery(), _RETRY.scalar_subquery()))


def next_due(tx: Transaction) -> float | None:
    """Seconds until the next lapse or the end of the next back-off; None: nothing pending."""
    moments = tx.first(_MOMENTS, {"now": tx.now})
    return min((moment - tx.now for moment in moments if moment is not None), default=None)
