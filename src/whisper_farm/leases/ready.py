"""The queue as a claim sees it: which jobs come next, which are worth a hedge, and when to look again.

Round-robin over transcriptions, by start-time fair queueing. Every chunk has the turn after the one before it, and
lower turns go first. The first chunk has the turn at which the service stands now. So a short recording does not wait
for a long one that came before. The service stands at the first chunk that waits for the same model with the same
priority. Where none waits, it stands at the largest turn that was handed out at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whisper_farm.leases.rules import lately
from whisper_farm.leases.workers import Offers
from whisper_farm.protocol.client import TranscriptionState
from whisper_farm.protocol.wire import JobKind
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Query

OVERDUE_AT_ONCE = 1000
"""Slow jobs looked at by one claim, oldest first."""
Order = tuple[int, int, int, float, str]
"""Priority (negative), turn, position, time of making, id: what comes first is handed out first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The next job for those who have what it needs."""

    job_id: str
    profile_id: str
    needs: str
    priority: int
    turn: int
    position: int
    created_at: float

    @property
    def order(self) -> Order:
        """Where it stands in the queue."""
        return (-self.priority, self.turn, self.position, self.created_at, self.job_id)


@dataclass(frozen=True, slots=True)
class ReadyJob(Head):
    """A job with all that its worker is told, and what a claim must know of it. JSON columns are as stored."""

    transcription_id: str
    kind: JobKind
    attempts: int
    alone: bool
    start_seconds: float
    end_seconds: float
    audio_key: str | None
    audio_size: int | None
    audio_sha256: str | None
    owner: str
    transcription_state: TranscriptionState
    source: str
    source_name: str
    source_size: int
    chunk_seconds: float
    resume_position: int
    resume_seconds: float
    options: dict[str, Any]
    language: str | None
    revision: str | None


@dataclass(frozen=True, slots=True)
class Slow:
    """A job that its worker is slow with."""

    job_id: str
    profile_id: str


@dataclass(frozen=True, slots=True)
class Moments:
    """The next lapse, and the end of the next back-off."""

    lapse: float | None
    retry: float | None


READY = """
    jobs.id AS job_id, jobs.profile_id, jobs.needs, jobs.priority, jobs.turn, jobs.position, jobs.created_at,
    jobs.transcription_id, jobs.kind, jobs.attempts, jobs.alone, jobs.start_seconds, jobs.end_seconds,
    jobs.audio_key, jobs.audio_size, jobs.audio_sha256, transcriptions.owner,
    transcriptions.state AS transcription_state, transcriptions.source, transcriptions.name AS source_name,
    transcriptions.source_size, transcriptions.chunk_seconds, transcriptions.chunks AS resume_position,
    transcriptions.cut_seconds AS resume_seconds, transcriptions.options, transcriptions.language,
    transcriptions.revision"""
FROM_JOBS = "FROM jobs JOIN transcriptions ON transcriptions.id = jobs.transcription_id"
ORDER = "jobs.priority DESC, jobs.turn, jobs.position, jobs.created_at, jobs.id"
CLAIMABLE = """jobs.state = 'queued' AND jobs.available_at <= :now
       AND (jobs.left_by IS NULL OR jobs.left_by <> :me OR jobs.available_at <= :lately)"""
"""Queued jobs whose time has come, but for those that this worker leaves to others."""
HEADS = Query[Head](f"""
    WITH RECURSIVE waiting (needs) AS (
        SELECT min(needs) FROM jobs WHERE state = 'queued'
         UNION ALL
        SELECT (SELECT min(needs) FROM jobs WHERE state = 'queued' AND jobs.needs > waiting.needs)
          FROM waiting WHERE waiting.needs IS NOT NULL)
    SELECT head.id AS job_id, head.profile_id, head.needs, head.priority, head.turn, head.position, head.created_at
      FROM waiting JOIN jobs head ON head.id = (
           SELECT jobs.id FROM jobs WHERE jobs.needs = waiting.needs AND {CLAIMABLE} ORDER BY {ORDER} LIMIT 1)
""")
"""The first claimable job of each kind of need, by hops along `ix_jobs_heads`, however long the queue is."""
NEXT = Query[ReadyJob](f"""
    SELECT {READY} {FROM_JOBS}
     WHERE jobs.profile_id = :profile AND jobs.needs = :needs AND {CLAIMABLE}
     ORDER BY {ORDER} LIMIT :limit
""")
"""The next jobs of one profile: a walk along `ix_jobs_queued`, stopped by the limit."""
FACTS = Query[ReadyJob](f"SELECT {READY} {FROM_JOBS} WHERE jobs.id IN :jobs")
OVERDUE = """
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id JOIN profiles ON profiles.id = jobs.profile_id
     WHERE attempts.state = 'live' AND NOT attempts.hedge AND attempts.worker_id <> :me
       AND attempts.lease_until > :now AND jobs.kind = 'transcribe'
       AND :now - attempts.started_at > :least
       AND :now - attempts.started_at > :factor * profiles.pace * (jobs.end_seconds - jobs.start_seconds)
       AND (jobs.left_by IS NULL OR jobs.left_by <> :me)
       AND NOT EXISTS (SELECT 1 FROM attempts other
                        WHERE other.job_id = jobs.id AND other.state = 'live' AND other.token <> attempts.token)"""
OVERDUE_NEEDS = Query[str](f"SELECT DISTINCT jobs.needs {OVERDUE}")
OVERDUE_JOBS = Query[Slow](f"""
    SELECT jobs.id AS job_id, jobs.profile_id {OVERDUE} AND jobs.needs IN :needs
     ORDER BY attempts.started_at, jobs.id LIMIT :limit
""")
MOMENTS = Query[Moments]("""
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


def heads(tx: Transaction, worker_id: str, policy: Policy) -> list[Head]:
    """The first job of each kind of need that this worker may have."""
    return tx.rows(HEADS, {"now": tx.now, "me": worker_id, "lately": lately(policy, tx.now)})


def next_jobs(tx: Transaction, head: Head, limit: int, worker_id: str, policy: Policy) -> list[ReadyJob]:
    """The next queued jobs of the same profile and needs as `head` that this worker may have."""
    asked = {"profile": head.profile_id, "needs": head.needs, "limit": limit}
    return tx.rows(NEXT, asked | {"now": tx.now, "me": worker_id, "lately": lately(policy, tx.now)})


def facts(tx: Transaction, job_ids: Sequence[str]) -> dict[str, ReadyJob]:
    """What a claim must know of these jobs, in this order."""
    found = {row.job_id: row for row in tx.rows(FACTS, {"jobs": job_ids})} if job_ids else {}
    return {job_id: found[job_id] for job_id in job_ids}


def overdue(tx: Transaction, offers: Offers, limit: int, policy: Policy) -> list[str]:
    """The jobs to hedge, oldest first, all of one profile: chunks that run far past their expected time."""
    asked = {"me": offers.id, "now": tx.now, "least": policy.hedge_min_seconds, "factor": policy.hedge_factor}
    needs = [one for one in tx.rows(OVERDUE_NEEDS, asked) if offers.serves(one)]
    slow = tx.rows(OVERDUE_JOBS, asked | {"needs": needs, "limit": OVERDUE_AT_ONCE}) if needs else []
    return [one.job_id for one in slow if one.profile_id == slow[0].profile_id][:limit]


def next_due(tx: Transaction) -> float | None:
    """Seconds until the next lapse or the end of the next back-off: both come in silence. None: nothing pending.

    What grows old slowly has no moment of its own: a job that may be hedged, or is left to others no longer. Claims
    that wait are tried every few seconds anyway.
    """
    moments = tx.first(MOMENTS, {"now": tx.now}) or Moments(None, None)
    return min((at - tx.now for at in (moments.lapse, moments.retry) if at is not None), default=None)


def present_turn(tx: Transaction, needs: str, priority: int) -> int:
    """The turn at which work that needs that, of that priority, is being handed out."""
    turn = tx.first(FIRST_TURN, {"needs": needs, "priority": priority, "now": tx.now})
    return farm_turn(tx) or 0 if turn is None else turn


def farm_turn(tx: Transaction) -> int | None:
    """The largest turn handed out so far; None before the first transcription."""
    return tx.first(FARM_TURN)
