"""What clients see: rows become the messages of `protocol/client.py`. Changes nothing; one query for many rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, func, select, tuple_

from whisper_farm.coordinator.outcome import gaps_of_all
from whisper_farm.errors import InvalidRequest, NotFound
from whisper_farm.leases.workers import Fleet
from whisper_farm.protocol.client import (
    FINISHED,
    AttemptView,
    JobList,
    JobView,
    Progress,
    TranscriptionList,
    TranscriptionView,
    WorkerList,
    WorkerView,
)
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import attempts, jobs, literally, transcriptions, workers
from whisper_farm.store.transcriptions import TranscriptionRow, find

PAGE = 100
"""Rows in one page unless asked for fewer; never more than `MOST`."""
MOST = 1000
MOST_GAPS = 100
"""A recording with more of them shows its gaps only by itself, not in a list."""


def transcription_view(tx: Transaction, transcription_id: str, policy: Policy) -> TranscriptionView:
    """One transcription; raises `NotFound`."""
    return _views(tx, [find(tx, transcription_id)], policy)[0]


def transcription_list(
    tx: Transaction,
    policy: Policy,
    owner: str | None = None,
    after: str | None = None,
    limit: int = PAGE,
    state: str | None = None,
) -> TranscriptionList:
    """A page of transcriptions, newest first, of one owner or state if given; `after` is the `next` of the last one."""
    query = select(transcriptions).order_by(transcriptions.c.created_at.desc(), transcriptions.c.id.desc())
    if owner is not None:
        query = query.where(transcriptions.c.owner == owner)
    if state is not None:
        query = query.where(transcriptions.c.state == state)
    if after is not None:
        query = query.where(tuple_(transcriptions.c.created_at, transcriptions.c.id) < _cursor(after))
    limit = min(max(limit, 1), MOST)
    rows = [TranscriptionRow(*row) for row in tx.connection.execute(query.limit(limit + 1))]
    page = rows[:limit]
    following = f"{page[-1].created_at!r}:{page[-1].id}" if len(rows) > limit else None
    return TranscriptionList(transcriptions=tuple(_views(tx, page, policy)), next=following)


def _cursor(after: str) -> tuple[float, str]:
    created_at, _, last_id = after.partition(":")
    try:
        return float(created_at), last_id
    except ValueError:
        raise InvalidRequest("`after` must be the `next` of an earlier page.") from None


def _views(tx: Transaction, rows: Sequence[TranscriptionRow], policy: Policy) -> list[TranscriptionView]:
    gaps = gaps_of_all(tx, [row for row in rows if len(rows) == 1 or _at_most_gaps(row) <= MOST_GAPS])
    fleet = Fleet(tx, policy, reserved=True)
    return [
        TranscriptionView(
            id=row.id,
            owner=row.owner,
            name=row.name,
            state=row.state,
            priority=row.priority,
            options=row.recognition,
            language=row.language,
            progress=_progress(row),
            error={"code": row.error_code, "message": row.error_message} if row.error_code else None,
            warning=_warning(row, fleet),
            gaps=gaps.get(row.id, ()),
            damaged_packets=row.damaged_packets,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
        for row in rows
    ]


def _at_most_gaps(row: TranscriptionRow) -> int:
    return row.chunks_failed + len(row.damaged or ())


def _progress(row: TranscriptionRow) -> Progress:
    whole = row.duration_seconds if row.duration_seconds is not None else row.declared_seconds
    return Progress(
        duration_seconds=whole,
        cut_seconds=row.cut_seconds,
        done_seconds=min(max(row.done_seconds, 0.0), row.cut_seconds),
        chunks=row.chunks,
        chunks_done=row.chunks_done,
        chunks_failed=row.chunks_failed,
        chunking_done=row.chunking_done,
    )


def _warning(row: TranscriptionRow, fleet: Fleet) -> str | None:
    """What keeps a recording from moving on, said aloud."""
    if row.state in FINISHED or row.state == "assembling":
        return None
    if not fleet.offers:
        return "No worker is there; start one with `whisper-farm worker`."
    if not row.chunking_done and not any(offer.cuts for offer in fleet.offers):
        return "No live worker cuts recordings; start one that does."
    if not fleet.serves(row.profile_id):
        engine, model = row.options["engine"], row.options["model"]
        return f"No live worker runs {engine} with the model {model}; start one that does."
    return None


def job_list(tx: Transaction, transcription_id: str, after: int | None = None, limit: int = PAGE) -> JobList:
    """A page of a transcription's jobs with all their attempts: first the one that cuts, then the chunks in order."""
    find(tx, transcription_id)
    limit = min(max(limit, 1), MOST)
    mine = select(jobs).where(jobs.c.transcription_id == transcription_id)
    cutting = tx.connection.execute(mine.where(jobs.c.kind == "chunk")).all() if after is None else []
    chunks = mine.where(jobs.c.kind == "transcribe", jobs.c.position > (-1 if after is None else after))
    rows = tx.connection.execute(chunks.order_by(jobs.c.position).limit(limit + 1)).all()
    page = [*cutting, *rows[:limit]]
    evidence = _attempts(tx, [row.id for row in page])
    views = tuple(_job(row, evidence.get(row.id, ())) for row in page)
    return JobList(jobs=views, next=rows[limit - 1].position if len(rows) > limit else None)


def _job(row: Row[Any], evidence: Iterable[AttemptView]) -> JobView:
    return JobView(
        id=row.id,
        kind=row.kind,
        position=row.position,
        state=row.state,
        start_seconds=row.start_seconds,
        end_seconds=row.end_seconds,
        charged_attempts=row.charged_attempts,
        attempts=tuple(evidence),
    )


def _attempts(tx: Transaction, job_ids: Sequence[str]) -> dict[str, list[AttemptView]]:
    query = (
        select(attempts, workers.c.name)
        .outerjoin(workers, workers.c.id == attempts.c.worker_id)
        .where(attempts.c.job_id.in_(job_ids))
        .order_by(attempts.c.job_id, attempts.c.number)
    )
    found: dict[str, list[AttemptView]] = {}
    for row in tx.connection.execute(query) if job_ids else ():
        view = AttemptView(
            number=row.number,
            worker_id=row.worker_id,
            worker_name=row.name,
            state=row.state,
            charged=row.charged,
            hedge=row.hedge,
            started_at=row.started_at,
            ended_at=row.ended_at,
            error_code=row.error_code,
            error_message=row.error_message,
        )
        found.setdefault(row.job_id, []).append(view)
    return found


def worker_list(tx: Transaction, owner: str | None = None, gone_since: float | None = None) -> WorkerList:
    """The workers that are there, and those that went since a time if given; by name."""
    there = workers.c.state != literally("gone")
    query = select(workers, _held()).order_by(workers.c.name, workers.c.id)
    query = query.where(there if gone_since is None else there | (workers.c.last_seen_at >= gone_since))
    if owner is not None:
        query = query.where(workers.c.owner == owner)
    return WorkerList(workers=tuple(_worker(row) for row in tx.connection.execute(query)))


def worker_view(tx: Transaction, worker_id: str) -> WorkerView:
    """One worker; raises `NotFound`."""
    row = tx.connection.execute(select(workers, _held()).where(workers.c.id == worker_id)).first()
    if row is None:
        raise NotFound(f"There is no worker {worker_id}.")
    return _worker(row)


def _held() -> Any:
    held: Select[Any] = select(func.count()).select_from(attempts)
    return held.where(attempts.c.worker_id == workers.c.id, attempts.c.state == literally("live")).label("jobs")


def _worker(row: Row[Any]) -> WorkerView:
    return WorkerView(
        id=row.id,
        name=row.name,
        version=row.version,
        platform=row.platform,
        slots=row.slots,
        engines=row.engines,
        state="draining" if row.state == "dismissed" else row.state,
        jobs=row.jobs,
        last_seen_at=row.last_seen_at,
        speed=row.audio_seconds / row.work_seconds if row.work_seconds > 0 else None,
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """The farm in numbers; `queued` and `oldest_queued_seconds` by kind of job."""

    queued: dict[str, int]
    oldest_queued_seconds: dict[str, float]
    running_leases: int
    live_workers: int


def counts(tx: Transaction, policy: Policy) -> Counts:
    """Queue depth and age, leases and workers, for metrics and `doctor`."""
    queue = select(jobs.c.kind, func.count(), func.min(jobs.c.created_at)).where(jobs.c.state == literally("queued"))
    rows = tx.connection.execute(queue.group_by(jobs.c.kind)).all()
    leases = select(func.count()).select_from(attempts).where(attempts.c.state == literally("live"))
    return Counts(
        queued={"chunk": 0, "transcribe": 0} | {row[0]: row[1] for row in rows},
        oldest_queued_seconds={"chunk": 0.0, "transcribe": 0.0} | {row[0]: max(0.0, tx.now - row[2]) for row in rows},
        running_leases=tx.connection.scalar(leases) or 0,
        live_workers=len(Fleet(tx, policy, reserved=True).offers),
    )
