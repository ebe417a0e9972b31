"""The queue as a claim sees it: which queued jobs come next, and what a worker must be told of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, bindparam, func, select, union_all

from whisper_farm.leases.attempts import TRIED_BY_ME, Held
from whisper_farm.leases.ids import CHUNK_PROFILE
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import jobs, literally, profiles, transcriptions

JobRow = Any
"""A row of `JOBS`, or of the head of a queue with the first few of its columns."""
Query = Select[*tuple[Any, ...]]
Order = tuple[int, int, int, float, str]
"""Priority (negative), turn, position, time of making, id: what comes first is handed out first."""

QUEUED = jobs.c.state == literally("queued")
ORDER = (jobs.c.priority.desc(), jobs.c.turn, jobs.c.position, jobs.c.created_at, jobs.c.id)
SHOWN = {
    "job_id": jobs.c.id, "transcription_id": jobs.c.transcription_id, "kind": jobs.c.kind,
    "position": jobs.c.position, "alone": jobs.c.alone, "start_seconds": jobs.c.start_seconds,
    "end_seconds": jobs.c.end_seconds, "audio_key": jobs.c.audio_key, "audio_size": jobs.c.audio_size,
    "audio_sha256": jobs.c.audio_sha256, "source": transcriptions.c.source, "source_name": transcriptions.c.name,
    "source_size": transcriptions.c.source_size, "chunk_seconds": transcriptions.c.chunk_seconds,
    "resume_position": transcriptions.c.chunks, "resume_seconds": transcriptions.c.cut_seconds,
}  # fmt: skip
JOBS = (
    select(
        *(column.label(name) for name, column in SHOWN.items()), jobs.c.attempts, jobs.c.priority, jobs.c.turn,
        jobs.c.created_at, jobs.c.needs, jobs.c.profile_id, profiles.c.engine, profiles.c.model,
        transcriptions.c.options, transcriptions.c.language, transcriptions.c.revision, transcriptions.c.owner,
        transcriptions.c.state.label("recording_state"),
    )
    .join(transcriptions, transcriptions.c.id == jobs.c.transcription_id)
    .join(profiles, profiles.c.id == jobs.c.profile_id)
)  # fmt: skip
_FACTS = Prepared(JOBS.where(among(jobs.c.id, "jobs")))


def order_of(job: JobRow | Held) -> Order:
    """Where a job stands in the queue."""
    return (-job.priority, job.turn, job.position, job.created_at, job.job_id)


def facts(tx: Transaction, job_ids: Sequence[str]) -> dict[str, JobRow]:
    """The rows of these jobs, in this order."""
    rows = tx.rows(_FACTS, {"jobs": job_ids}) if job_ids else ()
    found = {row.job_id: row for row in rows}
    return {job_id: found[job_id] for job_id in job_ids}


class Queue:
    """Queued jobs in order, read once for all claims of a transaction that may have the same of them."""

    def __init__(self, tx: Transaction, taken: Set[str], most: int, left: Mapping[str, object] | None = None) -> None:
        """At most `most` jobs are wanted. Those in `taken` are queued no longer, though that is yet to be written.

        `left`: of the jobs that the worker `me` failed `lately` only those that are `left` to it.
        """
        self._tx = tx
        self._taken = taken
        self._most = most
        self._bound = {"now": tx.now, **(left or {})}
        self._failed = left is not None
        self._heads: dict[str, JobRow] | None = None
        self._known: dict[str, list[JobRow]] = {}

    def heads(self) -> Iterator[JobRow]:
        """The next job of each engine and model, with these, and of cutting, with none."""
        if self._heads is None:
            self._heads = {row.needs: row for row in self._rows(_heads(self._failed))}
        for needs, head in self._heads.items():
            yield from [head] if needs not in self._known else self._free(self._known[needs])[:1]

    def next(self, needs: str, profile_id: str, limit: int) -> list[JobRow]:
        """The next jobs of a profile, which needs that engine and model."""
        if needs not in self._known:
            self._known[needs] = self._rows(_next(self._failed, by="needs"), key=needs, limit=self._most)
        found = [row for row in self._free(self._known[needs]) if row.profile_id == profile_id]
        if len(found) < limit and len(self._known[needs]) == self._most:  # others are between them
            wanted = limit + len(self._taken)
            found = self._free(self._rows(_next(self._failed, by="profile_id"), key=profile_id, limit=wanted))
        return found[:limit]

    def _free(self, rows: Iterable[JobRow]) -> list[JobRow]:
        return [row for row in rows if row.job_id not in self._taken]

    def _rows(self, query: Prepared, **more: object) -> list[JobRow]:
        return self._tx.rows(query, self._bound | more)


class QueueOf:
    """The queue of some recordings, which may lie far apart in the whole one: read recording by recording.

    Nothing of them is left to others, who may be there for other recordings only.
    """

    def __init__(self, tx: Transaction, only: Sequence[str]) -> None:
        self._tx = tx
        self._only = only

    def heads(self) -> list[JobRow]:
        """The next chunk of each recording."""
        return self._heads("transcribe")

    def next(self, needs: str, profile_id: str, limit: int) -> list[JobRow]:
        """As of `Queue`. Of more recordings than jobs are wanted, those count whose own next job comes first."""
        kind = "chunk" if needs == CHUNK_PROFILE else "transcribe"
        theirs = sorted((row for row in self._heads(kind) if row.profile_id == profile_id), key=order_of)[:limit]
        bound = {f"recording_{number}": row.transcription_id for number, row in enumerate(theirs)}
        asked = bound | {"kind": kind, "limit": limit, "now": self._tx.now}
        rows = self._tx.rows(_next_of(len(theirs)), asked) if theirs else ()
        return sorted(facts(self._tx, [row.id for row in rows]).values(), key=order_of)[:limit]

    def _heads(self, kind: str) -> list[JobRow]:
        asked = {"only": self._only, "kind": kind, "now": self._tx.now}
        return self._tx.rows(_HEADS_OF, asked)


def _claimable(query: Query, failed: bool) -> Query:
    """Queued jobs whose time has come, in order, but for those that this worker failed and has to leave to others."""
    query = query.where(QUEUED, jobs.c.available_at <= bindparam("now")).order_by(*ORDER)
    return query.where(~TRIED_BY_ME.exists() | among(jobs.c.id, "left")) if failed else query


@cache
def _next(failed: bool, by: str) -> Prepared:
    """The next jobs of one profile, or of one engine and model: a walk along an index, stopped by the limit."""
    return Prepared(_claimable(JOBS.where(jobs.c[by] == bindparam("key")), failed).limit(bindparam("limit")))


@cache
def _heads(failed: bool) -> Prepared:
    """The first claimable job for every engine and model, by hops along `ix_jobs_heads`, however long each queue is."""
    first = select(func.min(jobs.c.needs).label("needs")).where(QUEUED).cte("waiting", recursive=True)
    following = select(func.min(jobs.c.needs)).where(QUEUED, jobs.c.needs > first.c.needs)
    waiting = first.union_all(select(following.scalar_subquery()).where(first.c.needs.is_not(None)))
    head = jobs.alias("head")
    best = _claimable(select(jobs.c.id).where(jobs.c.needs == waiting.c.needs), failed).limit(1)
    return Prepared(
        _placed(head)
        .select_from(waiting)
        .join(head, head.c.id == best.correlate(waiting).scalar_subquery())
        .join(profiles, profiles.c.id == head.c.profile_id)
    )


def _placed(job: FromClause) -> Query:
    order = (job.c.id.label("job_id"), job.c.priority, job.c.turn, job.c.position, job.c.created_at)
    return select(*order, job.c.needs, job.c.profile_id, profiles.c.engine, profiles.c.model)


def _of(recording: ColumnElement[str]) -> Select[tuple[str]]:
    """The claimable jobs of one kind of a recording in order, by `ix_jobs_of_recording`."""
    mine = select(jobs.c.id).where(jobs.c.transcription_id == recording, jobs.c.kind == bindparam("kind"))
    return mine.where(QUEUED, jobs.c.available_at <= bindparam("now")).order_by(jobs.c.turn, jobs.c.position)


@cache
def _next_of(recordings: int) -> Prepared:
    """The first few of so many recordings."""
    each = [_of(bindparam(f"recording_{n}")).limit(bindparam("limit")).subquery() for n in range(recordings)]
    return Prepared(select(union_all(*(select(one.c.id) for one in each)).subquery().c.id))


_head = jobs.alias("head")
_HEADS_OF = Prepared(
    _placed(_head)
    .add_columns(_head.c.transcription_id)
    .select_from(transcriptions)
    .join(_head, _head.c.id == _of(transcriptions.c.id).limit(1).correlate(transcriptions).scalar_subquery())
    .join(profiles, profiles.c.id == _head.c.profile_id)
    .where(among(transcriptions.c.id, "only"))
)
