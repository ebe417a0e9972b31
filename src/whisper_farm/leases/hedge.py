"""Stealing from the slow: with nothing left to claim, a chunk far past its expected time gets a second attempt."""

from __future__ import annotations

from sqlalchemy import ColumnElement, bindparam, select

from whisper_farm.leases.attempts import ATTEMPTS, LIVE, TRIED_BY_ME, Held
from whisper_farm.leases.rules import lately
from whisper_farm.leases.workers import Offers
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.rows import among
from whisper_farm.store.tables import attempts, jobs, literally, profiles

OVERDUE_AT_ONCE = 1000
"""Slow jobs looked at by one claim, oldest first."""
_hedge = attempts.alias("other")
_HEDGED = select(_hedge.c.token).where(
    _hedge.c.job_id == jobs.c.id, _hedge.c.state == literally("live"), _hedge.c.token != attempts.c.token
)
_run_seconds: ColumnElement[float] = bindparam("now") - attempts.c.started_at
_expected_seconds = profiles.c.pace * (jobs.c.end_seconds - jobs.c.start_seconds)
_OVERDUE = (
    ATTEMPTS.where(LIVE, attempts.c.hedge.is_(False), attempts.c.worker_id != bindparam("me"))
    .where(attempts.c.lease_until > bindparam("now"), jobs.c.kind == "transcribe", profiles.c.pace.is_not(None))
    .where(_run_seconds > bindparam("least"), _run_seconds > bindparam("factor") * _expected_seconds)
    .where(~TRIED_BY_ME.exists(), ~_HEDGED.exists())
    .order_by(attempts.c.started_at, attempts.c.job_id)
    .limit(OVERDUE_AT_ONCE)
)


def overdue(tx: Transaction, offers: Offers, request: ClaimRequest, policy: Policy) -> list[str]:
    """The jobs to hedge, oldest first, all of one profile; as many as asked for."""
    query = _OVERDUE.where(offers.of_profiles)
    query = query if request.only is None else query.where(among(jobs.c.transcription_id, "only"))
    asked = {"me": offers.id, "now": tx.now, "lately": lately(policy, tx.now), "only": request.only}
    limits = {"least": policy.hedge_min_seconds, "factor": policy.hedge_factor}
    late = [Held(*row) for row in tx.connection.execute(query, asked | limits)]
    return [held.job_id for held in late if held.profile_id == late[0].profile_id][: request.transcribe_jobs]
