"""How jobs and transcriptions end: a job is set aside, a language is decided, the last job closes its transcription.

One language a transcription: the first chunk with enough speech decides. Whoever heard another is asked again, unless
the result says that its language is sure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from whisper_farm.leases.attempts import Job
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.protocol import events
from whisper_farm.protocol.client import JobState
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.jobs import NEEDED
from whisper_farm.store.statements import Change, Query
from whisper_farm.store.transcriptions import ROW, TranscriptionRow

ClosedState = Literal["assembling", "done", "incomplete", "failed", "cancelled"]
"""A state with no jobs left to do."""
CLOSED: Mapping[ClosedState, Callable[[], events.FarmEvent]] = {
    "assembling": events.TranscriptionAssembling,
    "done": events.TranscriptionDone,
    "incomplete": events.TranscriptionIncomplete,
    "cancelled": events.TranscriptionCancelled,
}
"""What is said of each; what failed has an error to tell."""
SET_ASIDE = Change("""
    UPDATE jobs SET state = 'failed', ended_at = :now, available_at = 0, error_code = :code, error_message = :message,
           result_key = NULL, result_size = NULL, result_digest = NULL, language = NULL
     WHERE id = :job
""")
COUNT_FAILED = Change("UPDATE transcriptions SET chunks_failed = chunks_failed + 1 WHERE id = :id")
RUNNING = Query[TranscriptionRow](f"{ROW} WHERE id IN :ids AND state = 'running' ORDER BY id")
CUTTING = Query[str]("SELECT state FROM jobs WHERE transcription_id = :id AND kind = 'chunk'")
FIRST_ERROR = Query[tuple[str, str]](f"""
    SELECT error_code, error_message FROM jobs
     WHERE transcription_id = :id AND state = 'failed' AND {NEEDED} ORDER BY kind, position LIMIT 1
""")
CLOSE = Change("""
    UPDATE transcriptions SET state = :state, finished_at = :at, error_code = :code, error_message = :message
     WHERE id = :id
""")
SPOKEN = """
    SELECT state, language FROM jobs
     WHERE transcription_id = :id AND kind = 'transcribe' AND speech_seconds > 0"""
DECIDING = Query[tuple[JobState, str]](f"""
    {SPOKEN} AND speech_seconds >= :enough AND state <> 'failed' ORDER BY position LIMIT 1
""")
MOST_SPEECH = Query[tuple[JobState, str]](f"""
    {SPOKEN} AND state = 'done' ORDER BY speech_seconds DESC, position LIMIT 1
""")
DECIDE = Change("UPDATE transcriptions SET language = :language WHERE id = :id")
REDO = Query[tuple[int, float]]("""
    UPDATE jobs SET state = 'queued', ended_at = NULL, available_at = 0, language = NULL,
           result_key = NULL, result_size = NULL, result_digest = NULL
     WHERE transcription_id = :id AND kind = 'transcribe' AND state = 'done' AND language <> :language
       AND NOT language_sure
    RETURNING position, end_seconds - start_seconds AS seconds
""")
UNCOUNT = Change("""
    UPDATE transcriptions SET chunks_done = chunks_done - :chunks, done_seconds = done_seconds - :seconds
     WHERE id = :id
""")


def set_aside(tx: Transaction, given_up: Sequence[tuple[Job, str, str]]) -> None:
    """End these jobs as failed, each with a code and a message, count them in their transcriptions and say so."""
    tx.change(SET_ASIDE, [{"job": job.job_id, "code": code, "message": message} for job, code, message in given_up])
    tx.change(COUNT_FAILED, [{"id": job.transcription_id} for job, *_ in given_up if job.kind == RECOGNITION.name])
    for job, code, message in given_up:
        where = {"job_kind": job.kind, "position": job.position, "start": job.start_seconds, "end": job.end_seconds}
        said = events.JobSetAside.model_validate({"code": code, "message": message, **where})
        emit(tx, said, job.transcription_id, job.owner)


def uncount(tx: Transaction, transcription_id: str, seconds: Sequence[float]) -> None:
    """Chunks of these lengths count as done no longer."""
    tx.change(UNCOUNT, {"id": transcription_id, "chunks": len(seconds), "seconds": sum(seconds)})


def conclude(tx: Transaction, transcription_ids: Collection[str], policy: Policy) -> None:
    """Decide the language of these transcriptions if it is time to, and close those whose last job has ended."""
    for row in tx.rows(RUNNING, {"ids": sorted(transcription_ids)}) if transcription_ids else ():
        ended = _all_ended(tx, row)
        again = row.language is None and _decide(tx, row, ended, policy)
        if ended and not again:
            _close_ended(tx, row)


def close_ended(tx: Transaction, row: TranscriptionRow) -> None:
    """Close this transcription if no job of it is left."""
    if row.state == "running" and _all_ended(tx, row):
        _close_ended(tx, row)


def _all_ended(tx: Transaction, row: TranscriptionRow) -> bool:
    """Whether the cutting has ended and no chunk is queued or running; from counters, so at any length at once."""
    counted = row.chunks_done + row.chunks_failed == row.chunks
    return counted and tx.first(CUTTING, {"id": row.id}) in ("done", "failed")


def _close_ended(tx: Transaction, row: TranscriptionRow) -> None:
    """To `assembling`, or to `failed` when nothing at all came of it."""
    error = tx.first(FIRST_ERROR, {"id": row.id}) if row.chunks_done == 0 else None
    close(tx, row.id, row.owner, "failed" if error else "assembling", error)


def close(
    tx: Transaction, transcription_id: str, owner: str, state: ClosedState, error: tuple[str, str] | None = None
) -> None:
    """Put a transcription into a state with no jobs left to do, and say so. What failed has an error."""
    code, message = error or (None, None)
    at = None if state == "assembling" else tx.now
    tx.change(CLOSE, {"id": transcription_id, "state": state, "at": at, "code": code, "message": message})
    said = events.TranscriptionFailed(code=error[0], message=error[1]) if error else CLOSED[state]()
    emit(tx, said, transcription_id, owner)


def _decide(tx: Transaction, row: TranscriptionRow, ended: bool, policy: Policy) -> bool:
    """Decide if the deciding chunk is done, or, when there is none and all has ended, by the chunk with most speech.

    Returns whether chunks that were heard in another language, unsurely, are queued again, without their results.
    """
    found = tx.first(DECIDING, {"id": row.id, "enough": policy.language_speech_seconds})
    if found is None and ended:
        found = tx.first(MOST_SPEECH, {"id": row.id})
    if found is None or found[0] != "done":
        return False
    language = found[1]
    tx.change(DECIDE, {"id": row.id, "language": language})
    emit(tx, events.LanguageDecided(language=language), row.id, row.owner)
    if row.multilingual:  # every chunk has a language of its own
        return False
    again = sorted(tx.rows(REDO, {"id": row.id, "language": language}))
    uncount(tx, row.id, [seconds for _, seconds in again])
    for position, _ in again:
        emit(tx, events.JobRedo(position=position), row.id, row.owner)
    return bool(again)
