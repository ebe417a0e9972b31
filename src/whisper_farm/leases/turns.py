"""Round-robin over recordings by start-time fair queueing: whose turn it is when a chunk comes in.

Every chunk of a recording has the turn after the one before it, and the first the turn at which the service stands
now; lower turns go first. So a short recording does not wait for a long one that came before. The service stands at
the first chunk that waits for the same model with the same priority; where none does, at the largest turn that was
handed out at all. Workers of other models may be far ahead of that, or far behind.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select

from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import farm, jobs, literally

_HEAD = Prepared(
    select(jobs.c.turn)
    .where(jobs.c.state == literally("queued"), jobs.c.needs == bindparam("needs"))
    .where(jobs.c.priority == bindparam("priority"), jobs.c.available_at <= bindparam("now"))
    .order_by(jobs.c.turn)
    .limit(1)
)


_FARM = Prepared(select(farm.c.turn))


def present_turn(tx: Transaction, needs: str, priority: int) -> int:
    """The turn at which work for that engine and model, of that priority, is being handed out."""
    head = tx.first(_HEAD, {"needs": needs, "priority": priority, "now": tx.now})
    found = head or tx.first(_FARM, {})
    return found.turn if found else 0
