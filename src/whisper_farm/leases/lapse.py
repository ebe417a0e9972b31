"""Leases that ran out. That alone changes nothing: it only lets somebody else take the job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import bindparam, func, select, update

from whisper_farm.errors import LeaseLost
from whisper_farm.leases.attempts import ATTEMPTS, LIVE, Held, evidence
from whisper_farm.leases.endings import conclude, set_aside
from whisper_farm.leases.workers import Fleet, Offers
from whisper_farm.protocol.events import JobRetried
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import attempts, jobs, literally

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
_HOLDERS = select(func.count()).where(_other.c.job_id == attempts.c.job_id, _other.c.state == literally("live"))
_UNWATCHED = Prepared(
    ATTEMPTS.add_columns(_HOLDERS.scalar_subquery().label("holders"))
    .where(LIVE, among(attempts.c.job_id, "jobs"))
    .order_by(attempts.c.token)
    .with_for_update(of=attempts, skip_locked=True)
)
_LOSE = Prepared(
    update(attempts)
    .where(attempts.c.token == bindparam("attempt"))
    .values(state="lost", charged=True, ended_at=bindparam("at"), error_code=LeaseLost.code)
    .values(error_message=bindparam("message"))
)
_CHARGE = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(charged_attempts=jobs.c.charged_attempts + bindparam("lost"), alone=True)
)


def lapsed_jobs(tx: Transaction, offers: Offers | None = None, only: Sequence[str] | None = None) -> LapsedJobs:
    """The jobs of any or `only` these recordings that a worker with these offers may take over; locks nothing."""
    query = _LAPSED if offers is None else _LAPSED.where(offers.of_profiles)
    query = query if only is None else query.where(among(jobs.c.transcription_id, "only"))
    found: LapsedJobs = {}
    for row in tx.connection.execute(query.limit(LAPSED_AT_ONCE), {"now": tx.now, "only": only}):
        held = Held(*row)
        found.setdefault(held.job_id, []).append(held)
    return {job_id: sorted(holders, key=lambda held: held.number) for job_id, holders in found.items()}


def overtake(tx: Transaction, job_ids: Iterable[str]) -> set[str]:
    """Take lapsed jobs from all who held them, and charge them; one that was or is being renewed is left alone."""
    silent: LapsedJobs = {}
    holders: dict[str, int] = {}
    wanted = sorted(job_ids)
    for *row, count in tx.rows(_UNWATCHED, {"jobs": wanted}) if wanted else ():
        held = Held(*row)
        holders[held.job_id] = count
        if held.lease_until <= tx.now:
            silent.setdefault(held.job_id, []).append(held)
    taken = {job: of for job, of in silent.items() if len(of) == holders[job]}  # what is locked is being renewed
    if taken:
        tx.change(_LOSE, [_silent(tx, held) for of in taken.values() for held in of])
        tx.change(_CHARGE, [{"job": job, "lost": len(of)} for job, of in taken.items()])
    return set(taken)


def _silent(tx: Transaction, held: Held) -> dict[str, object]:
    message = f"The worker {held.worker_id} was silent for longer than its lease: it crashed, sleeps or is cut off."
    return {"attempt": held.token, "at": tx.now, "message": message}


def spent_jobs(tx: Transaction, lapsed: LapsedJobs, policy: Policy, fleet: Fleet) -> set[str]:
    """Those of these lapsed jobs that have spent their budget with this lapse."""
    charged = {job_id: of[0].charged_attempts + len(of) for job_id, of in lapsed.items()}
    near = [job_id for job_id in lapsed if charged[job_id] >= policy.max_attempts]
    spent = set()
    for job_id, proof in evidence(tx, near).items() if near else ():
        culprits = proof.culprits | {held.worker_id for held in lapsed[job_id]}
        if fleet.has_spent(policy, lapsed[job_id][0].profile_id, charged[job_id], culprits):
            spent.add(job_id)
    return spent


def set_aside_lapsed(tx: Transaction, lapsed: LapsedJobs, job_ids: Iterable[str], policy: Policy) -> int:
    """Set these lapsed jobs aside, but for those that are being renewed; returns how many."""
    ended = [lapsed[job_id][-1] for job_id in sorted(overtake(tx, job_ids))]
    message = "It has been lost with its worker too often, the last time with {}."
    set_aside(tx, [(held, LeaseLost.code, message.format(held.worker_id)) for held in ended])
    conclude(tx, {held.transcription_id for held in ended}, policy)
    return len(ended)


def announce_lapses(tx: Transaction, jobs_again: Iterable[Held]) -> None:
    """Say that these jobs were taken from a silent worker and are tried again."""
    for held in jobs_again:
        emit(tx, JobRetried(position=held.position, code=LeaseLost.code), held.transcription_id, held.owner)
