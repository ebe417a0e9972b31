"""Leases that ran out. That alone changes nothing: it only lets somebody else take the job.

Claims take lapsed jobs by themselves; `reap` clears up what silence leaves behind.
"""

from __future__ import annotations

from dataclasses import dataclass

from whisper_farm.errors import LeaseLost
from whisper_farm.leases.attempts import HELD, LOCK, Held, evidence, renew
from whisper_farm.leases.endings import conclude, set_aside
from whisper_farm.leases.rules import MAX_LEASE_SECONDS
from whisper_farm.leases.workers import LiveWorkers, Offers, give_up_silent, timing
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query

LAPSED_AT_ONCE = 1000
"""Lapsed attempts looked at by one call, oldest first, so that the end of a whole fleet stops nobody."""
SILENT_LEASES = 3
"""A worker not heard of for this many leases is gone."""
LapsedJobs = dict[str, list[Held]]
"""Jobs whose live attempts have all outlived their leases, with those attempts by number."""


@dataclass(frozen=True, slots=True)
class ReapReport:
    workers_gone: int = 0
    jobs_set_aside: int = 0


SILENT = """attempts.state = 'live' AND attempts.lease_until <= :now
       AND NOT EXISTS (SELECT 1 FROM attempts other WHERE other.job_id = attempts.job_id
                          AND other.state = 'live' AND other.lease_until > :now)"""
LAPSED_NEEDS = Query[str](f"""
    SELECT DISTINCT jobs.needs FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE {SILENT}
""")
LAPSED = Query[Held](f"""
    {HELD}
     WHERE attempts.state = 'live' AND attempts.job_id IN (
           SELECT attempts.job_id FROM attempts JOIN jobs ON jobs.id = attempts.job_id
            WHERE {SILENT} AND jobs.needs IN :needs ORDER BY attempts.lease_until, attempts.token LIMIT :limit)
     ORDER BY attempts.lease_until, attempts.number
""")
STILL_SILENT = "SELECT token FROM attempts WHERE token IN :tokens AND state = 'live' AND lease_until <= :now"
LOCK_FREE = Query[str](STILL_SILENT, postgres=STILL_SILENT + " ORDER BY token" + LOCK + " SKIP LOCKED")
LOSE = Change("""
    UPDATE attempts SET state = 'lost', charged = TRUE, ended_at = :now, error_code = 'lease_lost',
           error_message = 'The worker ' || worker_id || CASE WHEN ends_by <= :now
               THEN ' got no further in its time.'
               ELSE ' was silent for longer than its lease: it crashed, sleeps or is cut off.' END
     WHERE token IN :tokens
""")
CHARGE = Change("""
    UPDATE jobs SET charged_attempts = charged_attempts + :lost, alone = TRUE, left_by = :worker WHERE id = :job
""")
AHEAD = "SELECT token FROM attempts WHERE state = 'live' AND lease_until > :most"
LOCK_AHEAD = Query[str](AHEAD, postgres=AHEAD + " ORDER BY token" + LOCK + " SKIP LOCKED")
SEEN_NOW = Change("UPDATE workers SET last_seen_at = :now, last_beat_at = :now WHERE last_seen_at > :most")
WAIT_NO_LONGER = Change(
    "UPDATE jobs SET available_at = :now WHERE state = 'queued' AND available_at > 0 AND available_at > :most"
)
STILL_THERE = Query[str]("SELECT id FROM workers WHERE id IN :ids AND state <> 'gone'")


def lapsed_jobs(tx: Transaction, offers: Offers | None = None) -> LapsedJobs:
    """The jobs that anybody, or a worker with these offers, may take over; locks nothing."""
    needs = [one for one in tx.rows(LAPSED_NEEDS) if offers is None or offers.serves(one)]
    found: LapsedJobs = {}
    for held in tx.rows(LAPSED, {"needs": needs, "limit": LAPSED_AT_ONCE}) if needs else ():
        found.setdefault(held.job_id, []).append(held)
    return {job_id: sorted(holders, key=lambda held: held.number) for job_id, holders in found.items()}


def overtake(tx: Transaction, lapsed: LapsedJobs) -> set[str]:
    """Take these jobs from all who held them, and charge them; one that was or is being renewed is left alone."""
    tokens = sorted(held.token for holders in lapsed.values() for held in holders)
    free = set(tx.rows(LOCK_FREE, {"tokens": tokens})) if tokens else ()
    taken = {job: of for job, of in lapsed.items() if all(held.token in free for held in of)}
    if taken:
        tx.change(LOSE, {"tokens": [held.token for of in taken.values() for held in of]})
        tx.change(CHARGE, [{"job": job, "lost": len(of), "worker": of[-1].worker_id} for job, of in taken.items()])
    return set(taken)


def set_aside_spent(tx: Transaction, lapsed: LapsedJobs, policy: Policy, fleet: LiveWorkers) -> tuple[set[str], int]:
    """Set aside those lapsed jobs that have spent their budget with this lapse.

    Returns which have spent it, and how many were set aside: one that is being renewed is left as it is.
    """
    charged = {job_id: of[0].charged_attempts + len(of) for job_id, of in lapsed.items()}
    spent: LapsedJobs = {}
    for job_id, proof in evidence(tx, [job for job in lapsed if charged[job] >= policy.max_attempts]).items():
        culprits = proof.culprits | {held.worker_id for held in lapsed[job_id]}
        if fleet.has_spent(lapsed[job_id][0].needs, charged[job_id], culprits, proof.tokens):
            spent[job_id] = lapsed[job_id]
    ended = [spent[job_id][-1] for job_id in sorted(overtake(tx, spent))]
    message = "It has been lost with its worker too often, the last time with {}."
    set_aside(tx, [(held, LeaseLost.code, message.format(held.worker_id)) for held in ended])
    conclude(tx, {held.transcription_id for held in ended}, policy)
    return set(spent), len(ended)


def reap(tx: Transaction, policy: Policy) -> ReapReport:
    """Set aside spent jobs that nobody is left to claim, and give up workers that have been silent for long.

    Only jobs of workers that an earlier run gave up are touched. So one that wakes up, with this machine, say, has time
    to renew its leases. Any number of reapers at once do no more than one.
    """
    _turn_back(tx, policy)
    fleet = LiveWorkers(tx, policy)
    lapsed = lapsed_jobs(tx)
    holders = {held.worker_id for of in lapsed.values() for held in of}
    there = set(tx.rows(STILL_THERE, {"ids": sorted(holders)})) if holders else set()
    alone = {job: of for job, of in lapsed.items() if there.isdisjoint(held.worker_id for held in of)}
    abandoned = {job: of for job, of in alone.items() if not fleet.serves(of[0].needs)}
    _, ended = set_aside_spent(tx, abandoned, policy, fleet)
    return ReapReport(give_up_silent(tx, tx.now - SILENT_LEASES * timing(tx, policy).lease_seconds), ended)


def _turn_back(tx: Transaction, policy: Policy) -> None:
    """Where the clock was set back, nothing lasts longer than it can from now on."""
    longest = max(MAX_LEASE_SECONDS, policy.lease_seconds)
    renew(tx, tx.rows(LOCK_AHEAD, {"most": tx.now + longest}), timing(tx, policy).lease_seconds)
    tx.change(SEEN_NOW, {"most": tx.now + longest})
    tx.change(WAIT_NO_LONGER, {"most": tx.now + policy.retry_max_seconds})
