"""Leases are renewed: one call for all of a worker's."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, select, update

from whisper_farm.errors import WorkerUnknown
from whisper_farm.leases.rules import stretched
from whisper_farm.leases.workers import known_worker
from whisper_farm.protocol.worker import HeartbeatAnswer, HeartbeatRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import attempts, literally, workers

_MINE = Prepared(
    select(attempts.c.token, attempts.c.state)
    .where(among(attempts.c.token, "tokens"), attempts.c.worker_id == bindparam("me"))
    .order_by(attempts.c.token)
    .with_for_update()
)
_RENEW = Prepared(update(attempts).where(among(attempts.c.token, "tokens")).values(lease_until=bindparam("until")))
_FREE = Prepared(
    select(attempts.c.token)
    .where(among(attempts.c.token, "tokens"), attempts.c.state == literally("live"))
    .order_by(attempts.c.token)
    .with_for_update(skip_locked=True)
)
_BEAT = Prepared(
    update(workers)
    .where(workers.c.id == bindparam("me"), workers.c.state != literally("gone"))
    .values(last_seen_at=bindparam("now"), last_beat_at=bindparam("now"))
    .returning(workers.c.id)
)


def heartbeat(tx: Transaction, request: HeartbeatRequest, policy: Policy) -> HeartbeatAnswer:
    """Renew the leases of a worker, lapsed ones too unless overtaken, and say which are no longer its own.

    This is the one change that runs beside others (`Database.beat`): it touches only the worker's own row
    and its own attempts, and reads their states after it has locked them.
    """
    worker = known_worker(tx, request.worker_id)
    now = stretched(policy, worker.present)
    states = _renew(tx, worker.id, request.tokens, now.lease_seconds)
    if not tx.rows(_BEAT, {"me": worker.id, "now": tx.now}):
        raise WorkerUnknown(f"The worker {worker.id} was given up a moment ago; register again.")
    ended = {token: states.get(token, "unknown") for token in request.tokens if states.get(token) != "live"}
    stopped = tuple(token for token, state in ended.items() if state in ("cancelled", "superseded"))
    return HeartbeatAnswer(
        lost=tuple(token for token in ended if token not in stopped),
        cancelled=stopped,
        drain=worker.drains,
        dismissed=worker.state == "dismissed",
        lease_seconds=now.lease_seconds,
        heartbeat_seconds=now.heartbeat_seconds,
    )


def renew_free(tx: Transaction, tokens: Collection[str], lease_seconds: float) -> None:
    """Start the leases of these attempts anew in passing; one that is locked is being renewed by a heartbeat."""
    if free := [row.token for row in tx.rows(_FREE, {"tokens": sorted(set(tokens))})]:
        tx.change(_RENEW, {"tokens": free, "until": tx.now + lease_seconds})


def _renew(tx: Transaction, worker_id: str, tokens: Collection[str], lease_seconds: float) -> dict[str, str]:
    """Start the leases of this worker's live attempts anew; returns the states of all its attempts among them."""
    if not tokens:
        return {}
    rows = tx.rows(_MINE, {"tokens": sorted(set(tokens)), "me": worker_id})
    states = {row.token: row.state for row in rows}
    if live := [token for token, state in states.items() if state == "live"]:
        tx.change(_RENEW, {"tokens": live, "until": tx.now + lease_seconds})
    return states
