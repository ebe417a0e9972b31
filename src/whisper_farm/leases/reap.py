"""What silence leaves behind. The queue does not need it to move on: claims take lapsed jobs by themselves."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from whisper_farm.leases.lapse import lapsed_jobs, set_aside_lapsed, spent_jobs
from whisper_farm.leases.rules import stretched
from whisper_farm.leases.workers import Fleet, give_up, present_workers
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import literally, workers

SILENT_LEASES = 3
"""A worker not heard of for this many leases is gone."""


@dataclass(frozen=True, slots=True)
class ReapReport:
    """What one run did."""

    workers_gone: int = 0
    jobs_set_aside: int = 0


def reap(tx: Transaction, policy: Policy) -> ReapReport:
    """Set aside spent jobs that nobody is left to claim, and give up workers that have been silent for long.

    Only jobs of workers that an earlier run gave up are touched, so that one which wakes up (with this
    machine, say) has time to renew its leases. Any number of reapers at once do no more than one.
    """
    fleet = Fleet(tx, policy)
    lapsed = lapsed_jobs(tx)
    present = _present(tx, {held.worker_id for holders in lapsed.values() for held in holders})
    abandoned = {
        job_id: holders
        for job_id, holders in lapsed.items()
        if not any(held.worker_id in present for held in holders) and not fleet.serves(holders[0].profile_id)
    }
    ended = set_aside_lapsed(tx, abandoned, spent_jobs(tx, abandoned, policy, fleet), policy)
    lease = stretched(policy, present_workers(tx)).lease_seconds
    gone = give_up(tx, workers.c.last_seen_at < tx.now - SILENT_LEASES * lease)
    return ReapReport(gone, ended)


def _present(tx: Transaction, ids: set[str]) -> set[str]:
    if not ids:
        return set()
    query = select(workers.c.id).where(workers.c.id.in_(sorted(ids)), workers.c.state != literally("gone"))
    return set(tx.connection.scalars(query))
