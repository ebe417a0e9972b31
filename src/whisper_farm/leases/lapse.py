"""Leases that ran out. That alone changes nothing: it only lets somebody else take the job.

Claims take lapsed jobs by themselves; `reap` clears up what silence leaves behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from whisper_farm.errors import LeaseLost
from whisper_farm.leases.attempts import HELD, LOCK, Held, Job, evidence
from whisper_farm.leases.endings import conclude, set_aside
from whisper_farm.leases.rules import stretched
from whisper_farm.leases.workers import LiveWorkers, Offers, give_up_silent, present_workers
from whisper_farm.protocol.events import JobRetried
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query

LAPSED_AT_ONCE = 1000
"""Lapsed attempts looked at by one call, oldest first, so that the end of a whole fleet stops nobody."""
SILENT_LEASES = 3
"""A worker not heard of for this many leases is gone."""
LapsedJobs = dict[str, list[Held]]
"""Jobs whose live attempts have all outlived their leases, with those attempts by number."""


@dataclass(frozen=True, slots=True)
class LapsedAttempt:
    """An attempt of which nobody else holds the row; `holders` counts the live attempts at its job."""

    token: str
    job_id: str
    worker_id: str
    number: int
    lease_until: float
    holders: int


@dataclass(frozen=True, slots=True)
class ReapReport:
    """What one run did."""

    workers_gone: int = 0
    jobs_set_aside: int = 0


SILENT = """attempts.state = 'live' AND attempts.lease_until <= :now
       AND NOT EXISTS (SELECT 1 FROM attempts other WHERE other.job_id = attempts.job_id
                          AND other.state = 'live' AND other.lease_until > :now)"""
LAPSED_NEEDS = Query[str](f"""
    SELECT DISTINCT jobs.needs FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE {SILENT}
""")
LAPSED = Query[Held](f"""
    {HELD} WHERE {SILENT} AND jobs.needs IN :needs ORDER BY attempts.lease_until, attempts.token LIMIT :limit
""")
NOT_LOCKED = """
    SELECT token, job_id, worker_id, number, lease_until,
           (SELECT count(*) FROM attempts other
             WHERE other.job_id = attempts.job_id AND other.state = 'live') AS holders
      FROM attempts WHERE attempts.state = 'live' AND attempts.job_id IN :jobs ORDER BY token"""
LOCK_FREE = Query[LapsedAttempt](NOT_LOCKED, postgres=NOT_LOCKED + LOCK + " SKIP LOCKED")
LOSE = Change("""
    UPDATE attempts SET state = 'lost', charged = TRUE, ended_at = :now, error_code = 'lease_lost',
           error_message = 'The worker ' || worker_id
                           || ' was silent for longer than its lease: it crashed, sleeps or is cut off.'
     WHERE token IN :tokens
""")
CHARGE = Change("""
    UPDATE jobs SET charged_attempts = charged_attempts + :lost, alone = TRUE, left_by = :worker WHERE id = :job
""")
STILL_THERE = Query[str]("SELECT id FROM workers WHERE id IN :ids AND state <> 'gone'")


def lapsed_jobs(tx: Transaction, offers: Offers | None = None) -> LapsedJobs:
    """The jobs that anybody, or a worker with these offers, may take over; locks nothing."""
    needs = [one for one in tx.rows(LAPSED_NEEDS) if offers is None or offers.serves(one)]
    found: LapsedJobs = {}
    for held in tx.rows(LAPSED, {"needs": needs, "limit": LAPSED_AT_ONCE}) if needs else ():
        found.setdefault(held.job_id, []).append(held)
    return {job_id: sorted(holders, key=lambda held: held.number) for job_id, holders in found.items()}


def overtake(tx: Transaction, job_ids: Collection[str]) -> set[str]:
    """Take lapsed jobs from all who held them, and charge them; one that was or is being renewed is left alone."""
    silent: dict[str, list[LapsedAttempt]] = {}
    for held in tx.rows(LOCK_FREE, {"jobs": sorted(job_ids)}) if job_ids else ():
        if held.lease_until <= tx.now:
            silent.setdefault(held.job_id, []).append(held)
    taken = {job: of for job, of in silent.items() if len(of) == of[0].holders}  # what is locked is being renewed
    if taken:
        tx.change(LOSE, {"tokens": [one.token for of in taken.values() for one in of]})
        last = {job: max(of, key=lambda one: one.number).worker_id for job, of in taken.items()}
        tx.change(CHARGE, [{"job": job, "lost": len(of), "worker": last[job]} for job, of in taken.items()])
    return set(taken)


def set_aside_spent(tx: Transaction, lapsed: LapsedJobs, policy: Policy, fleet: LiveWorkers) -> tuple[set[str], int]:
    """Set aside those lapsed jobs that have spent their budget with this lapse.

    Returns which have spent it, and how many were set aside: one that is being renewed is left as it is.
    """
    charged = {job_id: of[0].charged_attempts + len(of) for job_id, of in lapsed.items()}
    spent = set()
    for job_id, proof in evidence(tx, [job for job in lapsed if charged[job] >= policy.max_attempts]).items():
        culprits = proof.culprits | {held.worker_id for held in lapsed[job_id]}
        if fleet.has_spent(lapsed[job_id][0].needs, charged[job_id], culprits):
            spent.add(job_id)
    ended = [lapsed[job_id][-1] for job_id in sorted(overtake(tx, spent))]
    message = "It has been lost with its worker too often, the last time with {}."
    set_aside(tx, [(held, LeaseLost.code, message.format(held.worker_id)) for held in ended])
    conclude(tx, {held.transcription_id for held in ended}, policy)
    return spent, len(ended)


def announce_lapses(tx: Transaction, jobs_again: Iterable[Job]) -> None:
    """Say that these jobs were taken from a silent worker and are tried again."""
    for held in jobs_again:
        emit(tx, JobRetried(position=held.position, code=LeaseLost.code), held.transcription_id, held.owner)


def reap(tx: Transaction, policy: Policy) -> ReapReport:
    """Set aside spent jobs that nobody is left to claim, and give up workers that have been silent for long.

    Only jobs of workers that an earlier run gave up are touched, so that one which wakes up (with this machine, say)
    has time to renew its leases. Any number of reapers at once do no more than one.
    """
    fleet = LiveWorkers(tx, policy)
    lapsed = lapsed_jobs(tx)
    holders = {held.worker_id for of in lapsed.values() for held in of}
    there = set(tx.rows(STILL_THERE, {"ids": sorted(holders)})) if holders else set()
    abandoned = {
        job_id: of
        for job_id, of in lapsed.items()
        if not any(held.worker_id in there for held in of) and not fleet.serves(of[0].needs)
    }
    _, ended = set_aside_spent(tx, abandoned, policy, fleet)
    lease = stretched(policy, present_workers(tx)).lease_seconds
    return ReapReport(give_up_silent(tx, tx.now - SILENT_LEASES * lease), ended)
