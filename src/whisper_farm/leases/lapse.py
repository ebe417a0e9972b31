"""Leases that ran out. That alone changes nothing: it only lets somebody else take the job."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, bindparam, or_, select, update

from whisper_farm.errors import LeaseLost
from whisper_farm.leases.held import ATTEMPTS, LIVE, Held, evidence
from whisper_farm.leases.settle import conclude, set_aside
from whisper_farm.leases.workers import Fleet, Offers
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.rows import among
from whisper_farm.store.tables import attempts, jobs, literally, profiles

LAPSED_AT_ONCE = 1000
"""Lapsed attempts looked at by one call, oldest first, so that the end of a whole fleet stops nobody."""
LapsedJobs = dict[str, list[Held]]
"""Jobs whose live attempts have all outlived their leases, with those attempts by number."""

_other = attempts.alias("other")
_STILL_HELD = (
    select(_other.c.token)
    .where(_other.c.job_id == attempts.c.job_id, _other.c.state == literally("live"))
    .where(_other.c.lease_until > bindparam("now"))
    .exists()
)
ANY_LAPSED = select(attempts.c.token).where(LIVE, attempts.c.lease_until <= bindparam("now")).exists()
_LAPSED = ATTEMPTS.where(LIVE, attempts.c.lease_until <= bindparam("now"), ~_STILL_HELD).order_by(
    attempts.c.lease_until, attempts.c.token
)
_UNWATCHED = (
    ATTEMPTS.where(LIVE, among(attempts.c.job_id, "jobs"))
    .order_by(attempts.c.token)
    .with_for_update(of=attempts, skip_locked=True)
)
_LOSE = (
    update(attempts)
    .where(attempts.c.token == bindparam("attempt"))
    .values(state="lost", charged=True, ended_at=bindparam("at"), error_code=LeaseLost.code)
    .values(error_message=bindparam("message"))
)
_CHARGE = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(charged_attempts=jobs.c.charged_attempts + bindparam("lost"), alone=True)
)


def lapsed_jobs(tx: Transaction, offers: Offers | None = None) -> LapsedJobs:
    """The jobs that may be taken from whoever holds them, by a worker with these offers; locks nothing."""
    query = (_LAPSED if offers is None else _LAPSED.where(_offered(offers))).limit(LAPSED_AT_ONCE)
    found: LapsedJobs = {}
    for row in tx.connection.execute(query, {"now": tx.now}):
        held = Held(*row)
        found.setdefault(held.job_id, []).append(held)
    return {job_id: sorted(holders, key=lambda held: held.number) for job_id, holders in found.items()}


def _offered(offers: Offers) -> ColumnElement[bool]:
    mine = [profiles.c.kind == "chunk"] if offers.cuts else []
    for offer in offers.engines:
        models = offer["models"]
        named = profiles.c.model.is_not(None) if models is None else profiles.c.model.in_(models)
        mine.append(and_(profiles.c.engine == offer["engine"], named))
    return or_(*mine) if mine else profiles.c.id.is_(None)


def overtake(tx: Transaction, job_ids: Iterable[str]) -> set[str]:
    """Take lapsed jobs from those who held them, and charge them; one that was or is being renewed is left alone."""
    taken: LapsedJobs = {}
    wanted = sorted(job_ids)
    for row in tx.connection.execute(_UNWATCHED, {"jobs": wanted}) if wanted else ():
        held = Held(*row)
        taken.setdefault(held.job_id, []).append(held)
    taken = {job: of for job, of in taken.items() if all(held.lease_until <= tx.now for held in of)}
    if taken:
        tx.connection.execute(_LOSE, [_silent(tx, held) for holders in taken.values() for held in holders])
        tx.connection.execute(_CHARGE, [{"job": job, "lost": len(of)} for job, of in taken.items()])
    return set(taken)


def _silent(tx: Transaction, held: Held) -> dict[str, object]:
    message = f"The worker {held.worker_id} was silent for longer than its lease: it crashed, sleeps or is cut off."
    return {"attempt": held.token, "at": tx.now, "message": message}


def set_aside_spent(tx: Transaction, lapsed: LapsedJobs, policy: Policy, fleet: Fleet) -> set[str]:
    """Set aside those lapsed jobs that have spent their budget with this lapse; returns which."""
    near = [job for job, of in lapsed.items() if of[0].charged_attempts + len(of) >= policy.max_attempts]
    if not near:
        return set()
    spent = set()
    for job_id, proof in evidence(tx, near).items():
        workers = {held.worker_id for held in lapsed[job_id]}
        if len(proof.culprits | workers) >= 2 or not fleet.serves(lapsed[job_id][0].profile_id, but=workers):
            spent.add(job_id)
    ended = [lapsed[job_id][-1] for job_id in sorted(overtake(tx, spent))]
    message = "It has been lost with its worker too often, the last time with {}."
    set_aside(tx, [(held, LeaseLost.code, message.format(held.worker_id)) for held in ended])
    conclude(tx, {held.transcription_id for held in ended}, policy)
    return spent


def announce_lapses(tx: Transaction, jobs_again: Iterable[Held]) -> None:
    """Say that these jobs were taken from a silent worker and are tried again."""
    for held in jobs_again:
        emit(tx, "job_retried", held.transcription_id, held.owner, position=held.position, code=LeaseLost.code)
