"""The queue as a claim sees it: which jobs come next, which are worth a hedge, and when to look again.

Round-robin over transcriptions, by start-time fair queueing. Every chunk has the turn after the one before it, and
lower turns go first. The first chunk has the turn at which the service stands now. So a short recording does not wait
for a long one that came before. The service stands at the first chunk that waits for the same model with the same
priority. Where none waits, it stands at the largest turn that was handed out at all.
"""

from __future__ import annotations

from whisper_farm.leases.attempts import FROM_JOBS, JOB, Job
from whisper_farm.leases.rules import lately
from whisper_farm.leases.workers import Offers
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Query

OVERDUE_AT_ONCE = 1000
"""Slow jobs looked at by one claim, oldest first."""
ORDER = "jobs.priority DESC, jobs.turn, jobs.position, jobs.created_at, jobs.id"
CLAIMABLE = """jobs.state = 'queued' AND jobs.available_at <= :now
       AND (jobs.left_by IS NULL OR jobs.left_by <> :me OR jobs.available_at <= :lately)"""
"""Queued jobs whose time has come, but for those that this worker leaves to others."""
HEADS = Query[Job](f"""
    WITH RECURSIVE waiting (needs) AS (
        SELECT min(needs) FROM jobs WHERE state = 'queued'
         UNION ALL
        SELECT (SELECT min(needs) FROM jobs WHERE state = 'queued' AND jobs.needs > waiting.needs)
          FROM waiting WHERE waiting.needs IS NOT NULL)
    SELECT {JOB} FROM waiting JOIN jobs ON jobs.id = (
           SELECT jobs.id FROM jobs WHERE jobs.needs = waiting.needs AND {CLAIMABLE} ORDER BY {ORDER} LIMIT 1)
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
""")
"""The first claimable job of each kind of need, by hops along `ix_jobs_heads`, however long the queue is."""
NEXT = Query[Job](f"""
    SELECT {JOB} {FROM_JOBS}
     WHERE jobs.profile_id = :profile AND jobs.needs = :needs AND {CLAIMABLE}
     ORDER BY {ORDER} LIMIT :limit
""")
"""The next jobs of one profile: a walk along `ix_jobs_queued`, stopped by the limit."""
OVERDUE = """
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id JOIN profiles ON profiles.id = jobs.profile_id
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     WHERE attempts.state = 'live' AND NOT attempts.hedge AND attempts.worker_id <> :me
       AND attempts.lease_until > :now AND jobs.kind = 'transcribe'
       AND :now - attempts.started_at > :least
       AND :now - attempts.started_at > :factor * profiles.pace * (jobs.end_seconds - jobs.start_seconds)
       AND (jobs.left_by IS NULL OR jobs.left_by <> :me)
       AND NOT EXISTS (SELECT 1 FROM attempts other
                        WHERE other.job_id = jobs.id AND other.state = 'live' AND other.token <> attempts.token)"""
OVERDUE_NEEDS = Query[str](f"SELECT DISTINCT jobs.needs {OVERDUE}")
OVERDUE_JOBS = Query[Job](f"""
    SELECT {JOB} {OVERDUE} AND jobs.needs IN :served ORDER BY attempts.started_at, jobs.id LIMIT :limit
""")
MOMENTS = Query[tuple[float | None, float | None]]("""
    SELECT (SELECT min(lease_until) FROM attempts WHERE state = 'live' AND lease_until > :now) AS lapse,
           (SELECT min(available_at) FROM jobs
             WHERE state = 'queued' AND available_at > 0 AND available_at > :now) AS retry
""")
FIRST_TURN = Query[int]("""
    SELECT turn FROM jobs
     WHERE state = 'queued' AND needs = :needs AND priority = :priority AND available_at <= :now
     ORDER BY turn LIMIT 1
""")
FARM_TURN = Query[int]("SELECT turn FROM farm")


def heads(tx: Transaction, worker_id: str, policy: Policy) -> list[Job]:
    """The first job of each kind of need that this worker may have."""
    return tx.rows(HEADS, {"me": worker_id, "lately": lately(policy, tx.now)})


def next_jobs(tx: Transaction, head: Job, limit: int, worker_id: str, policy: Policy) -> list[Job]:
    """The next queued jobs of the same profile and needs as `head` that this worker may have."""
    asked = {"profile": head.profile_id, "needs": head.needs, "limit": limit}
    return tx.rows(NEXT, asked | {"me": worker_id, "lately": lately(policy, tx.now)})


def overdue(tx: Transaction, offers: Offers, limit: int, policy: Policy) -> list[Job]:
    """The jobs to hedge, oldest first, all of one profile: chunks that run far past their expected time."""
    asked = {"me": offers.id, "least": policy.hedge_min_seconds, "factor": policy.hedge_factor}
    served = [needs for needs in tx.rows(OVERDUE_NEEDS, asked) if offers.serves(needs)]
    slow = tx.rows(OVERDUE_JOBS, asked | {"served": served, "limit": OVERDUE_AT_ONCE}) if served else []
    return [job for job in slow if job.profile_id == slow[0].profile_id][:limit]


def next_due(tx: Transaction) -> float | None:
    """Seconds until the next lapse or the end of the next back-off: both come in silence. None: nothing pending.

    What grows old slowly has no moment of its own: a job that may be hedged, or is left to others no longer. Claims
    that wait are tried every few seconds anyway.
    """
    moments = [at for row in tx.rows(MOMENTS) for at in row if at is not None]
    return min(moments) - tx.now if moments else None


def present_turn(tx: Transaction, needs: str, priority: int) -> int:
    """The turn at which work that needs that, of that priority, is being handed out."""
    turn = tx.first(FIRST_TURN, {"needs": needs, "priority": priority})
    return farm_turn(tx) or 0 if turn is None else turn


def farm_turn(tx: Transaction) -> int | None:
    """The largest turn handed out so far; None before the first transcription."""
    return tx.first(FARM_TURN)
