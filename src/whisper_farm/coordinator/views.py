"""What clients see: rows become the messages of `protocol/client.py`. Changes nothing; one query for many rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from whisper_farm.coordinator.transcripts import gaps_of_all
from whisper_farm.errors import InvalidRequest
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.leases.workers import LiveWorkers
from whisper_farm.protocol.client import (
    FINISHED,
    AttemptView,
    JobList,
    JobView,
    Progress,
    TranscriptionList,
    TranscriptionState,
    TranscriptionView,
    WorkerList,
    WorkerView,
)
from whisper_farm.protocol.wire import JobKind
from whisper_farm.settings import Policy
from whisper_farm.store.counts import live_leases, queued_jobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import AttemptRow, JobRow, attempts_at, chunk_jobs, jobs_of_whole
from whisper_farm.store.transcriptions import TranscriptionRow, find, list_transcriptions
from whisper_farm.store.workers import WorkerRow, find_worker, list_workers

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
    state: TranscriptionState | None = None,
) -> TranscriptionList:
    """A page of transcriptions, newest first, of one owner or state if given; `after` is the `next` of the last one."""
    limit = min(max(limit, 1), MOST)
    before = None if after is None else _cursor(after)
    rows = list_transcriptions(tx, limit + 1, owner, state, before)
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
    fleet = LiveWorkers(tx, policy)
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


def _warning(row: TranscriptionRow, fleet: LiveWorkers) -> str | None:
    """What keeps a recording from moving on, said aloud."""
    if row.state in FINISHED or row.state == "assembling":
        return None
    mine = [offers for offers in fleet.offers if offers.label == row.label]
    if not mine:
        return "No worker is there; start one with `whisper-farm worker`."
    if not row.chunking_done and not any(offers.cuts for offers in mine):
        return "No live worker cuts recordings; start one that does."
    engine, model = row.options["engine"], row.options["model"]
    if not fleet.serves(RECOGNITION.needs(row.label, engine, model)):
        return f"No live worker runs {engine} with the model {model}; start one that does."
    return None


def job_list(tx: Transaction, transcription_id: str, after: int | None = None, limit: int = PAGE) -> JobList:
    """A page of a transcription's jobs with all attempts: those about the whole recording, then the chunks in order."""
    find(tx, transcription_id)
    limit = min(max(limit, 1), MOST)
    whole = jobs_of_whole(tx, transcription_id) if after is None else []
    rows = chunk_jobs(tx, transcription_id, -1 if after is None else after, limit + 1)
    page = [*whole, *rows[:limit]]
    evidence: dict[str, list[AttemptView]] = {row.id: [] for row in page}
    for attempt in attempts_at(tx, list(evidence)):
        evidence[attempt.job_id].append(_attempt(attempt))
    views = tuple(_job(row, evidence[row.id]) for row in page)
    return JobList(jobs=views, next=rows[limit - 1].position if len(rows) > limit else None)


def _job(row: JobRow, evidence: Iterable[AttemptView]) -> JobView:
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


def _attempt(row: AttemptRow) -> AttemptView:
    return AttemptView(
        number=row.number,
        worker_id=row.worker_id,
        worker_name=row.worker_name,
        state=row.state,
        charged=row.charged,
        hedge=row.hedge,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error_code=row.error_code,
        error_message=row.error_message,
    )


def worker_list(tx: Transaction, gone_since: float = math.inf) -> WorkerList:
    """The workers that are there, and those that went since a time if given; by name."""
    return WorkerList(workers=tuple(_worker(row) for row in list_workers(tx, gone_since)))


def worker_view(tx: Transaction, worker_id: str) -> WorkerView:
    """One worker; raises `NotFound`."""
    return _worker(find_worker(tx, worker_id))


def _worker(row: WorkerRow) -> WorkerView:
    return WorkerView(
        id=row.id,
        name=row.name,
        version=row.version,
        platform=row.platform,
        slots=row.slots,
        engines=row.engines,
        state=row.state,
        jobs=row.jobs,
        last_seen_at=row.last_seen_at,
        speed=row.speed,
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
    queue = queued_jobs(tx)
    return Counts(
        queued=dict.fromkeys(get_args(JobKind), 0) | {row.kind: row.jobs for row in queue},
        oldest_queued_seconds=dict.fromkeys(get_args(JobKind), 0.0)
        | {row.kind: max(0.0, tx.now - row.oldest_at) for row in queue},
        running_leases=sum(row.live for row in live_leases(tx)),
        live_workers=len(LiveWorkers(tx, policy).offers),
    )
