"""The farm in numbers: what waits, what runs, and for how long. For metrics, `doctor` and the server's description."""

from __future__ import annotations

from dataclasses import dataclass

from whisper_farm.protocol.client import TranscriptionState
from whisper_farm.protocol.wire import JobKind
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Query


@dataclass(frozen=True, slots=True)
class QueuedJobs:
    """The jobs of one kind that wait for a worker."""

    kind: JobKind
    jobs: int
    oldest_at: float
    audio_seconds: float


QUEUED = Query[QueuedJobs]("""
    SELECT kind, count(*) AS jobs, min(created_at) AS oldest_at, sum(end_seconds - start_seconds) AS audio_seconds
      FROM jobs WHERE state = 'queued' GROUP BY kind
""")
RUNNING = Query[tuple[JobKind, int]]("""
    SELECT jobs.kind, count(DISTINCT jobs.id) AS jobs
      FROM jobs JOIN attempts ON attempts.job_id = jobs.id
     WHERE attempts.state = 'live' GROUP BY jobs.kind
""")
LEASES = Query[tuple[bool, int, int]]("""
    SELECT hedge, count(*) AS live, count(*) FILTER (WHERE lease_until <= :now) AS lapsed
      FROM attempts WHERE state = 'live' GROUP BY hedge
""")
UNFINISHED = Query[tuple[TranscriptionState, int]]("""
    SELECT state, count(*) AS transcriptions
      FROM transcriptions WHERE state IN ('fetching', 'queued', 'running', 'assembling') GROUP BY state
""")


def queued_jobs(tx: Transaction) -> list[QueuedJobs]:
    """The queue by kind of job; a kind of which nothing waits is left out."""
    return tx.rows(QUEUED)


def running_jobs(tx: Transaction) -> list[tuple[JobKind, int]]:
    """Jobs that workers hold, by kind."""
    return tx.rows(RUNNING)


def live_leases(tx: Transaction) -> list[tuple[bool, int, int]]:
    """Attempts under way, first tries and hedges (True), and those whose worker was not heard of for a lease."""
    return tx.rows(LEASES)


def unfinished_transcriptions(tx: Transaction) -> list[tuple[TranscriptionState, int]]:
    """Transcriptions that are not finished, by state."""
    return tx.rows(UNFINISHED)
