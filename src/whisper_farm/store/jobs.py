"""Jobs and attempts as they are read outside the queue: as evidence, as results, and for what a claim may fetch.

Only `leases/` changes them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from whisper_farm.errors import InvalidRequest, LeaseLost
from whisper_farm.protocol.client import AttemptState, JobState
from whisper_farm.protocol.wire import JobKind
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Query, columns


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job and what became of it. `result_key` is None for silence."""

    id: str
    kind: JobKind
    position: int
    state: JobState
    start_seconds: float
    end_seconds: float
    charged_attempts: int
    result_key: str | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One worker's try at a job. A worker that was forgotten has no name."""

    job_id: str
    number: int
    worker_id: str
    worker_name: str | None
    state: AttemptState
    charged: bool
    hedge: bool
    started_at: float
    ended_at: float | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that was set aside, and why."""

    transcription_id: str
    kind: JobKind
    position: int
    start_seconds: float
    end_seconds: float
    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """Who made a result that counts, and with what."""

    worker_id: str
    worker_name: str | None
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlayableRow:
    """Where the listening copy of a recording is, and its peaks."""

    audio_key: str
    audio_size: int
    result_key: str
    result_size: int


@dataclass(frozen=True, slots=True)
class AttemptedJob:
    """The job of a claim: what its result must fit, and what its worker may fetch. `chunks` are appended so far."""

    token: str
    worker_id: str
    state: AttemptState
    job_id: str
    kind: JobKind
    transcription_id: str
    position: int
    start_seconds: float
    end_seconds: float
    speech_seconds: float
    audio_key: str | None
    audio_size: int | None
    source_name: str
    source: str
    source_size: int
    chunks: int
    options: dict[str, Any]


NEEDED = "jobs.kind IN ('chunk', 'transcribe')"
"""Where such a job fails, the transcript has a gap. Nothing waits for the other kinds."""
JOB = f"SELECT {columns(JobRow)} FROM jobs WHERE transcription_id = :transcription AND kind"
WHOLE = Query[JobRow](f"{JOB} <> 'transcribe' ORDER BY kind")
CHUNKS = Query[JobRow](f"{JOB} = 'transcribe' AND position > :after ORDER BY position LIMIT :limit")
ATTEMPTS = Query[AttemptRow]("""
    SELECT job_id, number, worker_id, workers.name AS worker_name, attempts.state, charged, hedge, started_at, ended_at,
           error_code, error_message
      FROM attempts LEFT JOIN workers ON workers.id = attempts.worker_id
     WHERE job_id IN :jobs ORDER BY job_id, number
""")
FAILED = Query[FailedJob](f"""
    SELECT {columns(FailedJob)} FROM jobs
     WHERE state = 'failed' AND transcription_id IN :transcriptions AND {NEEDED} ORDER BY kind DESC, position
""")
RESULTS = Query[ResultFacts]("""
    SELECT attempts.worker_id, workers.name AS worker_name, attempts.facts
      FROM jobs JOIN attempts ON attempts.job_id = jobs.id AND attempts.digest = jobs.result_digest
           LEFT JOIN workers ON workers.id = attempts.worker_id
     WHERE jobs.transcription_id = :transcription AND jobs.kind = 'transcribe' AND jobs.state = 'done'
       AND attempts.state = 'done'
""")
ATTEMPTED = Query[AttemptedJob]("""
    SELECT attempts.token, attempts.worker_id, attempts.state, attempts.job_id, jobs.kind, jobs.transcription_id,
           jobs.position, jobs.start_seconds, jobs.end_seconds, jobs.speech_seconds, jobs.audio_key, jobs.audio_size,
           transcriptions.name AS source_name, transcriptions.source, transcriptions.source_size, transcriptions.chunks,
           transcriptions.options
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     WHERE attempts.token IN :tokens
""")
PLAYABLE = Query[PlayableRow](f"""
    SELECT {columns(PlayableRow)} FROM jobs
     WHERE transcription_id = :transcription AND kind = 'peaks' AND state = 'done'
""")
AUDIO_DONE = Query[str]("""
    SELECT audio_key FROM jobs
     WHERE transcription_id = :transcription AND kind = 'transcribe' AND state = 'done' AND audio_key IS NOT NULL
""")


def jobs_of_whole(tx: Transaction, transcription_id: str) -> list[JobRow]:
    """The jobs that are about the whole recording: the one that cuts it first."""
    return tx.rows(WHOLE, {"transcription": transcription_id})


def chunk_jobs(tx: Transaction, transcription_id: str, after: int, limit: int) -> list[JobRow]:
    """The jobs that recognise the chunks after position `after`, in order, whatever became of them; `limit` at most."""
    return tx.rows(CHUNKS, {"transcription": transcription_id, "after": after, "limit": limit})


def attempts_at(tx: Transaction, job_ids: Collection[str]) -> list[AttemptRow]:
    """Every attempt at these jobs, by job and number."""
    return tx.rows(ATTEMPTS, {"jobs": list(job_ids)}) if job_ids else []


def failed_jobs(tx: Transaction, transcription_ids: Collection[str]) -> list[FailedJob]:
    """The jobs of these transcriptions that were set aside: chunks in order, then what could not be cut."""
    return tx.rows(FAILED, {"transcriptions": list(transcription_ids)}) if transcription_ids else []


def makers_of(tx: Transaction, transcription_id: str) -> list[ResultFacts]:
    """Who made the results of a transcription that count."""
    return tx.rows(RESULTS, {"transcription": transcription_id})


def held_job(tx: Transaction, token: str, *kinds: JobKind) -> AttemptedJob:
    """The job of a live claim, if it is of one of those kinds; raises `LeaseLost` and `InvalidRequest`."""
    found = tx.first(ATTEMPTED, {"tokens": [token]})
    if found is None or found.state != "live":
        raise LeaseLost
    if found.kind not in kinds:
        raise InvalidRequest(f"This claim is for a {found.kind} job, not for a {' or '.join(kinds)} job.")
    return found


def attempted_jobs(tx: Transaction, tokens: Collection[str]) -> list[AttemptedJob]:
    """The jobs of these claim tokens, as far as there are any."""
    return tx.rows(ATTEMPTED, {"tokens": list(tokens)})


def playable(tx: Transaction, transcription_id: str) -> PlayableRow | None:
    """What can be played and drawn of a recording, once it is made."""
    return tx.first(PLAYABLE, {"transcription": transcription_id})


def audio_of_done_chunks(tx: Transaction, transcription_id: str) -> list[str]:
    """The blobs that hold the audio of chunks that are done: nobody will ask for them again."""
    return tx.rows(AUDIO_DONE, {"transcription": transcription_id})
