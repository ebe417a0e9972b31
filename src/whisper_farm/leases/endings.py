"""How jobs and transcriptions end: a job is set aside, a language is decided, the last job closes its transcription.

One language a transcription: the first chunk with enough speech decides, and whoever heard another is asked again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from whisper_farm.leases.attempts import Held
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.protocol.client import JobState
from whisper_farm.protocol.events import (
    FarmEvent,
    JobRedo,
    JobSetAside,
    LanguageDecided,
    TranscriptionAssembling,
    TranscriptionCancelled,
    TranscriptionDone,
    TranscriptionFailed,
    TranscriptionIncomplete,
)
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query
from whisper_farm.store.transcriptions import find

ClosedState = Literal["assembling", "done", "incomplete", "failed", "cancelled"]
"""A state with no jobs left to do."""


@dataclass(frozen=True, slots=True)
class OpenTranscription:
    """A transcription that is worked on, as far as its end is concerned."""

    id: str
    owner: str
    language: str | None
    chunks: int
    chunks_done: int
    chunks_failed: int
    cutting: JobState

    @property
    def all_ended(self) -> bool:
        """Whether the cutting has ended and no chunk is queued or running; from counters, so at any length at once."""
        return self.cutting in ("done", "failed") and self.chunks_done + self.chunks_failed == self.chunks


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job was set aside."""

    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What language a chunk with speech was heard in."""

    position: int
    state: JobState
    language: str | None


@dataclass(frozen=True, slots=True)
class ChunkBounds:
    """A chunk's place."""

    position: int
    start_seconds: float
    end_seconds: float


SET_ASIDE = Change("""
    UPDATE jobs SET state = 'failed', ended_at = :at, available_at = 0, error_code = :code, error_message = :message
     WHERE id = :job
""")
COUNT_FAILED = Change("UPDATE transcriptions SET chunks_failed = chunks_failed + 1 WHERE id = :id")
OPEN = Query[OpenTranscription]("""
    SELECT transcriptions.id, transcriptions.owner, transcriptions.language, transcriptions.chunks,
           transcriptions.chunks_done, transcriptions.chunks_failed, jobs.state AS cutting
      FROM transcriptions JOIN jobs ON jobs.transcription_id = transcriptions.id AND jobs.kind = 'chunk'
     WHERE transcriptions.id IN :ids AND transcriptions.state = 'running'
     ORDER BY transcriptions.id
""")
FIRST_ERROR = Query[JobError]("""
    SELECT error_code, error_message FROM jobs
     WHERE transcription_id = :id AND state = 'failed' AND kind <> 'peaks' ORDER BY kind, position LIMIT 1
""")
CLOSE = Change("""
    UPDATE transcriptions SET state = :state, finished_at = :at, error_code = :code, error_message = :message
     WHERE id = :id
""")
SPOKEN = """
    SELECT position, state, language FROM jobs
     WHERE transcription_id = :id AND kind = 'transcribe' AND speech_seconds > 0"""
DECIDING = Query[Heard](f"{SPOKEN} AND speech_seconds >= :enough AND state <> 'failed' ORDER BY position LIMIT 1")
MOST_SPEECH = Query[Heard](f"{SPOKEN} AND state = 'done' ORDER BY speech_seconds DESC, position LIMIT 1")
DECIDE = Change("UPDATE transcriptions SET language = :language WHERE id = :id")
REDO = Query[ChunkBounds]("""
    UPDATE jobs SET state = 'queued', ended_at = NULL, available_at = 0, language = NULL,
           result_key = NULL, result_size = NULL, result_digest = NULL
     WHERE transcription_id = :id AND kind = 'transcribe' AND state = 'done' AND language <> :language
    RETURNING position, start_seconds, end_seconds
""")
UNCOUNT = Change("""
    UPDATE transcriptions SET chunks_done = chunks_done - :chunks, done_seconds = done_seconds - :seconds
     WHERE id = :id
""")


def set_aside(tx: Transaction, given_up: Sequence[tuple[Held, str, str]]) -> None:
    """End these jobs as failed, each with a code and a message, count them in their transcriptions and say so."""
    if not given_up:
        return
    tx.change(
        SET_ASIDE,
        [{"job": job.job_id, "at": tx.now, "code": code, "message": message} for job, code, message in given_up],
    )
    tx.change(COUNT_FAILED, [{"id": job.transcription_id} for job, *_ in given_up if job.kind == RECOGNITION.name])
    for job, code, message in given_up:
        said = JobSetAside(
            code=code,
            message=message,
            job_kind=job.kind,
            position=job.position,
            start=job.start_seconds,
            end=job.end_seconds,
        )
        emit(tx, said, job.transcription_id, job.owner)


def conclude(tx: Transaction, transcription_ids: Collection[str], policy: Policy) -> None:
    """Decide the language of these transcriptions if it is time to, then close those whose last job has ended."""
    running = _open(tx, transcription_ids)
    decided = [_decide(tx, row, policy) for row in running if row.language is None]
    if any(decided):
        running = _open(tx, transcription_ids)
    _close_ended(tx, running)


def close_ended(tx: Transaction, transcription_id: str) -> None:
    """Move a transcription with no job left to `assembling`, or to `failed` when nothing at all came of it."""
    _close_ended(tx, _open(tx, [transcription_id]))


def _close_ended(tx: Transaction, running: Sequence[OpenTranscription]) -> None:
    for row in running:
        if not row.all_ended:
            continue
        if row.chunks_done == 0 and (row.chunks_failed > 0 or row.cutting == "failed"):
            close(tx, row.id, row.owner, "failed", tx.first(FIRST_ERROR, {"id": row.id}))
        else:
            close(tx, row.id, row.owner, "assembling")


def close(
    tx: Transaction, transcription_id: str, owner: str, state: ClosedState, error: JobError | None = None
) -> None:
    """Put a transcription into a state with no jobs left to do, and say so. What failed has an error."""
    code, message = (error.error_code, error.error_message) if error else (None, None)
    finished_at = None if state == "assembling" else tx.now
    told = {"id": transcription_id, "state": state, "at": finished_at, "code": code, "message": message}
    tx.change(CLOSE, told)
    emit(tx, _closed(state, error), transcription_id, owner)


def _closed(state: ClosedState, error: JobError | None) -> FarmEvent:
    match state:
        case "assembling":
            return TranscriptionAssembling()
        case "done":
            return TranscriptionDone()
        case "incomplete":
            return TranscriptionIncomplete()
        case "cancelled":
            return TranscriptionCancelled()
        case "failed":
            assert error is not None
            return TranscriptionFailed(code=error.error_code, message=error.error_message)
    assert_never(state)


def deciding_position(tx: Transaction, transcription_id: str, policy: Policy) -> int | None:
    """The position of the chunk whose language the transcription will have; None while none has enough speech."""
    row = _deciding(tx, transcription_id, policy)
    return None if row is None else row.position


def redo_others(tx: Transaction, transcription_id: str, owner: str, language: str) -> None:
    """Queue again the chunks that were recognised in another language, without their results.

    Not where every chunk has a language of its own.
    """
    if find(tx, transcription_id).multilingual:
        return
    again = sorted(tx.rows(REDO, {"id": transcription_id, "language": language}), key=lambda row: row.position)
    if not again:
        return
    seconds = sum(row.end_seconds - row.start_seconds for row in again)
    tx.change(UNCOUNT, {"id": transcription_id, "chunks": len(again), "seconds": seconds})
    for row in again:
        emit(tx, JobRedo(position=row.position), transcription_id, owner)


def _decide(tx: Transaction, running: OpenTranscription, policy: Policy) -> bool:
    """Decide if the deciding chunk is done, or, when there is none and all has ended, by the chunk with most speech."""
    row = _deciding(tx, running.id, policy)
    if row is None and running.all_ended:
        row = tx.first(MOST_SPEECH, {"id": running.id})
    if row is None or row.state != "done" or row.language is None:
        return False
    tx.change(DECIDE, {"id": running.id, "language": row.language})
    emit(tx, LanguageDecided(language=row.language), running.id, running.owner)
    redo_others(tx, running.id, running.owner, row.language)
    return True


def _deciding(tx: Transaction, transcription_id: str, policy: Policy) -> Heard | None:
    return tx.first(DECIDING, {"id": transcription_id, "enough": policy.language_speech_seconds})


def _open(tx: Transaction, transcription_ids: Collection[str]) -> list[OpenTranscription]:
    return tx.rows(OPEN, {"ids": sorted(transcription_ids)}) if transcription_ids else []
