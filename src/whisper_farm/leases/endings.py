"""How jobs and recordings end: a job is set aside, a language is decided, the last job closes its recording."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, assert_never

from sqlalchemy import bindparam, select, update

from whisper_farm.leases import language
from whisper_farm.leases.attempts import Held
from whisper_farm.protocol.events import (
    FarmEvent,
    JobSetAside,
    TranscriptionAssembling,
    TranscriptionCancelled,
    TranscriptionDone,
    TranscriptionFailed,
    TranscriptionIncomplete,
)
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import jobs, transcriptions

ClosedState = Literal["assembling", "done", "incomplete", "failed", "cancelled"]
"""A state with no jobs left to do."""

_SET_ASIDE = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(state="failed", ended_at=bindparam("at"), available_at=0)
    .values(error_code=bindparam("code"), error_message=bindparam("message"))
)
_COUNT_FAILED = Prepared(
    update(transcriptions)
    .where(transcriptions.c.id == bindparam("recording"))
    .values(chunks_failed=transcriptions.c.chunks_failed + 1)
)
_OPEN = Prepared(
    select(transcriptions, jobs.c.state.label("chunk_state"))
    .join(jobs, (jobs.c.transcription_id == transcriptions.c.id) & (jobs.c.kind == "chunk"))
    .where(among(transcriptions.c.id, "ids"), transcriptions.c.state == "running")
    .order_by(transcriptions.c.id)
)
_FIRST_ERROR = Prepared(
    select(jobs.c.error_code, jobs.c.error_message)
    .where(jobs.c.transcription_id == bindparam("recording"), jobs.c.state == "failed")
    .order_by(jobs.c.kind, jobs.c.position)
    .limit(1)
)


def set_aside(tx: Transaction, given_up: Sequence[tuple[Held, str, str]]) -> None:
    """End these jobs as failed, each with a code and a message, count them in their recordings and say so."""
    if not given_up:
        return
    rows = [{"job": job.job_id, "at": tx.now, "code": code, "message": message} for job, code, message in given_up]
    tx.change(_SET_ASIDE, rows)
    if counted := [{"recording": job.transcription_id} for job, *_ in given_up if job.kind == "transcribe"]:
        tx.change(_COUNT_FAILED, counted)
    for job, code, message in given_up:
        emit(tx, _given_up(job, code, message), job.transcription_id, job.owner)


def conclude(tx: Transaction, transcription_ids: Collection[str], policy: Policy) -> None:
    """Decide the language of these recordings if it is time to, then close those whose last job has ended."""
    rows = _open(tx, transcription_ids)
    undecided = [row for row in rows if row.language is None]
    decided = [language.decide(tx, row.id, row.owner, _all_ended(row), policy) for row in undecided]
    if any(decided):
        rows = _open(tx, transcription_ids)
    _settle(tx, rows)


def settle(tx: Transaction, transcription_ids: Collection[str]) -> None:
    """Move recordings with no job left to `assembling`, or to `failed` when nothing at all came of them."""
    _settle(tx, _open(tx, transcription_ids))


def _settle(tx: Transaction, rows: Sequence[Any]) -> None:
    for row in rows:
        if not _all_ended(row):
            continue
        if row.chunks_done == 0 and (row.chunks_failed > 0 or row.chunk_state == "failed"):
            error = tx.first(_FIRST_ERROR, {"recording": row.id})
            close(tx, row.id, row.owner, "failed", error_code=error.error_code, error_message=error.error_message)
        else:
            close(tx, row.id, row.owner, "assembling")


def close(tx: Transaction, transcription_id: str, owner: str, state: ClosedState, **values: object) -> None:
    """Put a recording into a state with no jobs left to do, and say so."""
    finished_at = None if state == "assembling" else tx.now
    change = update(transcriptions).where(transcriptions.c.id == transcription_id)
    tx.change(change.values(state=state, finished_at=finished_at, **values))
    emit(tx, _closed(state, values), transcription_id, owner)


def _closed(state: ClosedState, values: Mapping[str, Any]) -> FarmEvent:
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
            return TranscriptionFailed(code=values["error_code"], message=values["error_message"])
    assert_never(state)


def _given_up(job: Held, code: str, message: str) -> JobSetAside:
    return JobSetAside(
        code=code,
        message=message,
        job_kind=job.kind,
        position=job.position,
        start=job.start_seconds,
        end=job.end_seconds,
    )


def _open(tx: Transaction, transcription_ids: Collection[str]) -> Sequence[Any]:
    if not transcription_ids:
        return []
    return tx.rows(_OPEN, {"ids": sorted(transcription_ids)})


def _all_ended(row: Any) -> bool:
    """Whether the cutting has ended and no chunk is queued or running; from counters, so at any length at once."""
    return row.chunk_state in ("done", "failed") and row.chunks_done + row.chunks_failed == row.chunks
