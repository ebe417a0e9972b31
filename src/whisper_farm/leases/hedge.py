"""Stealing from the slow: with nothing left to claim, a chunk far past its expected time gets a second attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, bindparam, select

from whisper_farm.leases.held import ATTEMPTS, LIVE, TRIED_BY_ME, Held
from whisper_farm.leases.workers import Offers
from whisper_farm.protocol.work import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import attempts, jobs, literally, profiles

WATCHED = 1000
"""Running jobs, oldest first, whose hour a waiting claim looks up."""
_hedge = attempts.alias("other")
_ON = (_hedge.c.state == literally("live")) & (_hedge.c.token != attempts.c.token)
_FIRST_TRIES = (
    ATTEMPTS.where(LIVE, attempts.c.hedge.is_(False), attempts.c.worker_id != bindparam("me"))
    .where(attempts.c.lease_until > bindparam("now"), jobs.c.kind == "transcribe", profiles.c.pace.is_not(None))
    .where(~TRIED_BY_ME.exists(), ~select(_hedge.c.token).where(_hedge.c.job_id == jobs.c.id, _ON).exists())
    .order_by(attempts.c.started_at, attempts.c.job_id)
)
_LENGTH = jobs.c.end_seconds - jobs.c.start_seconds
_OVERDUE = _FIRST_TRIES.where(
    bindparam("now") - attempts.c.started_at > bindparam("least"),
    bindparam("now") - attempts.c.started_at > bindparam("factor") * profiles.c.pace * _LENGTH,
)


def overdue(tx: Transaction, offers: Offers, request: ClaimRequest, policy: Policy) -> list[str]:
    """The jobs to hedge, oldest first, all of one profile; as many as asked for."""
    late = list(_hedgeable(tx, _OVERDUE, offers, request, policy))
    return [held.job_id for held in late if held.profile_id == late[0].profile_id][: request.transcribe_jobs]


def next_overdue(tx: Transaction, offers: Offers, request: ClaimRequest, policy: Policy) -> float | None:
    """When the next running job will have run so long that this worker may hedge it."""
    running = _hedgeable(tx, _FIRST_TRIES.limit(WATCHED), offers, request, policy)
    expected = ((held, policy.hedge_factor * (held.pace or 0) * held.seconds) for held in running)
    due = (held.started_at + max(policy.hedge_min_seconds, seconds) for held, seconds in expected)
    return min((moment for moment in due if moment >= tx.now), default=None)


def _hedgeable(
    tx: Transaction, query: Select[*tuple[Any, ...]], offers: Offers, request: ClaimRequest, policy: Policy
) -> Iterator[Held]:
    limits = {"least": policy.hedge_min_seconds, "factor": policy.hedge_factor}
    for row in tx.connection.execute(query, {"me": request.worker_id, "now": tx.now} | limits):
        held = Held(*row)
        wanted = request.only is None or held.transcription_id in request.only
        if wanted and offers.serves(held.engine, held.model):
            yield held
