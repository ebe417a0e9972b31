"""Jobs go out: a worker with room asks, and what it gets is its own until the lease runs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Row, Select, bindparam, func, insert, select, update

from whisper_farm.leases import hedge
from whisper_farm.leases.beat import renew_free
from whisper_farm.leases.held import Held
from whisper_farm.leases.ids import CHUNK_PROFILE, RANDOM, Mint
from whisper_farm.leases.lapse import (
    ANY_LAPSED,
    LapsedJobs,
    announce_lapses,
    lapsed_jobs,
    overtake,
    set_aside_spent,
)
from whisper_farm.leases.policy import stretched
from whisper_farm.leases.workers import ONE, Fleet, Offers, Worker, as_worker, note
from whisper_farm.protocol.work import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.tables import attempts, farm, jobs, literally, profiles, transcriptions, workers
from whisper_farm.store.transcriptions import pinned
from whisper_farm.transcript.options import RecognitionOptions

COLD_TURNS = 64
"""How many turns of others a worker lets pass rather than load another model."""
AnyRow = Row[*tuple[Any, ...]]
Query = Select[*tuple[Any, ...]]
Order = tuple[int, int, int, float, str]
"""Priority (negative), turn, position, time of making, id: what comes first is handed out first."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One attempt at one job, with all its worker needs: source and `resume_*` to cut, audio to recognise."""

    token: str
    job_id: str
    transcription_id: str
    kind: str
    position: int
    attempt: int
    lease_seconds: float
    hedge: bool
    alone: bool
    options: RecognitionOptions
    start_seconds: float
    end_seconds: float
    audio_key: str | None
    audio_size: int | None
    audio_sha256: str | None
    source: str
    source_name: str
    source_size: int
    chunk_seconds: float
    resume_position: int
    resume_seconds: float


@dataclass(frozen=True, slots=True)
class Asking:
    """One claim on its way through; `unshunned` are profiles whose jobs I failed but nobody else could take."""

    tx: Transaction
    request: ClaimRequest
    policy: Policy
    mint: Mint
    worker: Worker
    lease_seconds: float
    turn: int
    fleet: Fleet
    unshunned: Sequence[str]

    def rows(self, query: Query, **more: object) -> Iterable[AnyRow]:
        """What a query of claimable jobs finds."""
        bound = {"now": self.tx.now, "me": self.worker.id, "unshunned": self.unshunned, "only": self.request.only}
        return self.tx.connection.execute(query, bound | more)

    @property
    def limited(self) -> bool:
        """Whether only some recordings are asked for."""
        return self.request.only is not None


def claim(tx: Transaction, request: ClaimRequest, policy: Policy, mint: Mint = RANDOM) -> list[Claimed]:
    """Make attempts, with fresh tokens, at up to as many jobs as asked for; asked again, return those still live."""
    asked = {"me": request.worker_id, "request": request.request_id, "now": tx.now}
    there = tx.connection.execute(_LOOK, asked).first()
    worker = as_worker(request.worker_id, there)
    lease = stretched(policy, worker.present).lease_seconds
    claimed: list[Claimed] = []
    if there is not None and there.replayed:
        claimed = _again(tx, request, lease)
    elif there is not None and not worker.drains:
        fleet = Fleet(tx, policy, here=worker.id)
        unshunned = _unshunned(tx, worker.id, fleet) if there.shunned and request.only is None else ()
        asking = Asking(tx, request, policy, mint, worker, lease, there.turn or 0, fleet, unshunned)
        claimed = _claim(asking, _takeable(asking) if there.lapsed else {})
    note(tx, _SEEN, {"me": worker.id, "now": tx.now})
    return claimed


def _claim(asking: Asking, lapsed: LapsedJobs) -> list[Claimed]:
    found: list[Claimed] = []
    if asking.request.chunk_jobs and asking.worker.offers.cuts:
        found += _take(asking, CHUNK_PROFILE, asking.request.chunk_jobs, lapsed)
    if asking.request.transcribe_jobs:
        profile = _best_profile(asking, lapsed)
        if profile is not None:
            return found + _take(asking, profile, asking.request.transcribe_jobs, lapsed)
        slow = hedge.overdue(asking.tx, asking.worker.offers, asking.request, asking.policy)
        found += _hand_out(asking, slow, {}, hedged=True)
    return found


def _takeable(asking: Asking) -> LapsedJobs:
    """Lapsed jobs this worker may take, after those that lapsed once too often have been set aside."""
    lapsed = lapsed_jobs(asking.tx, asking.worker.offers)
    mine = {job_id: holders for job_id, holders in lapsed.items() if _may_take(asking, holders)}
    spent = set_aside_spent(asking.tx, mine, asking.policy, asking.fleet)
    return {job_id: holders for job_id, holders in mine.items() if job_id not in spent}


def _may_take(asking: Asking, holders: Sequence[Held]) -> bool:
    job, me, only = holders[0], asking.worker, asking.request.only
    wanted = asking.request.chunk_jobs if job.kind == "chunk" else asking.request.transcribe_jobs
    if not wanted or (only is not None and job.transcription_id not in only):
        return False
    mine = [held for held in holders if held.worker_id == me.id]
    if any(me.last_beat_at < held.lease_until for held in mine):
        return False  # perhaps I am still at it, and wake up from sleep: I have not beaten since
    if only is not None:
        return True
    return (not mine and job.failed_worker != me.id) or not asking.fleet.serves(job.profile_id, but=(me.id,))


def _best_profile(asking: Asking, lapsed: LapsedJobs) -> str | None:
    """The profile of the job that is next in fairness; a model in memory is worth some turns."""
    offers = asking.worker.offers
    heads: list[AnyRow | Held] = [*asking.rows(_heads(asking.limited)), *(holders[0] for holders in lapsed.values())]
    mine = [head for head in heads if head.engine is not None and offers.serves(head.engine, head.model)]
    return min(mine, key=lambda head: _warm_order(head, offers)).profile_id if mine else None


def _warm_order(head: AnyRow | Held, offers: Offers) -> Order:
    priority, turn, position, created_at, job_id = _order(head)
    cold = 0 if offers.has_loaded(head.engine, head.model) else COLD_TURNS
    return (priority, turn + cold, position, created_at, job_id)


def _take(asking: Asking, profile: str, limit: int, lapsed: LapsedJobs) -> list[Claimed]:
    """Claim the next jobs of one profile, queued and lapsed ones in one order."""
    queued = {row.job_id: row for row in asking.rows(_candidates(asking.limited), profile=profile, limit=limit)}
    silent = {job_id: holders[0] for job_id, holders in lapsed.items() if holders[0].profile_id == profile}
    chosen = sorted([*map(_order, queued.values()), *map(_order, silent.values())])[:limit]
    overtaken = overtake(asking.tx, [order[-1] for order in chosen if order[-1] in silent])
    ours = [order for order in chosen if order[-1] not in silent or order[-1] in overtaken]
    announce_lapses(asking.tx, [silent[order[-1]] for order in ours if order[-1] in silent])
    turn = max((order[1] for order in ours), default=0)
    if turn > asking.turn:
        asking.tx.connection.execute(_ADVANCE, {"handed_out": turn})
    return _hand_out(asking, [order[-1] for order in ours], queued, hedged=False)


def _order(job: AnyRow | Held) -> Order:
    return (-job.priority, job.turn, job.position, job.created_at, job.job_id)


def _hand_out(asking: Asking, job_ids: Sequence[str], queued: Mapping[str, AnyRow], hedged: bool) -> list[Claimed]:
    """Make an attempt at each of these jobs; the rows of queued ones are known already."""
    if not job_ids:
        return []
    tx = asking.tx
    rows = dict(queued)
    if others := [job_id for job_id in job_ids if job_id not in queued]:
        rows |= {row.job_id: row for row in tx.connection.execute(_FACTS, {"jobs": others})}
    rows = {job_id: rows[job_id] for job_id in job_ids}
    tx.connection.execute(_RUN, {"jobs": job_ids})
    _start(tx, rows.values())
    shared = {"worker_id": asking.worker.id, "request_id": asking.request.request_id, "state": "live", "hedge": hedged}
    shared |= {"lease_until": tx.now + asking.lease_seconds, "started_at": tx.now}
    made, claimed, options = [], [], _options(rows.values())
    for job_id, row in rows.items():
        token = asking.mint.claim_token()
        mine = {"token": token, "job_id": job_id, "number": row.attempts + 1, "language": row.language}
        made.append(shared | mine)
        attempt = {"token": token, "attempt": row.attempts + 1, "hedge": hedged}
        claimed.append(_claimed(row, options[row.transcription_id], asking.lease_seconds, attempt))
    tx.connection.execute(insert(attempts), made)
    return claimed


def _again(tx: Transaction, request: ClaimRequest, lease: float) -> list[Claimed]:
    """The attempts an earlier claim of this request made that are still live, their leases renewed."""
    asked = {"me": request.worker_id, "request": request.request_id}
    rows = tx.connection.execute(_REPLAY, asked).all()
    renew_free(tx, [row.token for row in rows], lease)
    options = _options(rows)
    return [
        _claimed(row, options[row.transcription_id], lease, {name: getattr(row, name) for name in _TRY}) for row in rows
    ]


def _options(rows: Iterable[AnyRow]) -> dict[str, RecognitionOptions]:
    """The pinned options of each recording among these jobs."""
    recordings = {row.transcription_id: row for row in rows}
    return {name: pinned(row.options, row.language, row.revision) for name, row in recordings.items()}


def _claimed(row: AnyRow, options: RecognitionOptions, lease: float, attempt: dict[str, Any]) -> Claimed:
    facts = {name: getattr(row, name) for name in _SHOWN}
    return Claimed(lease_seconds=lease, options=options, **facts, **attempt)


def _start(tx: Transaction, rows: Iterable[AnyRow]) -> None:
    """The first claim of any of its jobs starts a recording."""
    if fresh := {row.transcription_id: row.owner for row in rows if row.recording_state == "queued"}:
        started = transcriptions.c.id.in_(sorted(fresh))
        tx.connection.execute(update(transcriptions).where(started).values(state="running", started_at=tx.now))
        for recording, owner in sorted(fresh.items()):
            emit(tx, "transcription_started", recording, owner)


def _unshunned(tx: Transaction, me: str, fleet: Fleet) -> list[str]:
    shunned = select(jobs.c.profile_id).where(_SHUNNED).distinct()
    profiles_shunned = tx.connection.scalars(shunned, {"me": me})
    return [profile for profile in profiles_shunned if not fleet.serves(profile, but=(me,))]


QUEUED = jobs.c.state == literally("queued")
ORDER = (jobs.c.priority.desc(), jobs.c.turn, jobs.c.position, jobs.c.created_at, jobs.c.id)


def _claimable(query: Query, limited: bool) -> Query:
    """Queued jobs whose time has come and that this worker need not leave to others, in order.

    One that asks for some recordings only leaves nothing of them to others: they may be here for others only.
    """
    query = query.where(QUEUED, jobs.c.available_at <= bindparam("now")).order_by(*ORDER)
    if limited:
        return query.where(jobs.c.transcription_id.in_(bindparam("only", expanding=True)))
    not_shunned = (
        jobs.c.failed_worker.is_(None)
        | (jobs.c.failed_worker != bindparam("me"))
        | jobs.c.profile_id.in_(bindparam("unshunned", expanding=True))
    )
    return query.where(not_shunned)


@cache
def _candidates(limited: bool) -> Query:
    """The next jobs of one profile: a walk along `ix_jobs_queued`, stopped by the limit."""
    mine = _JOBS.add_columns(jobs.c.priority, jobs.c.turn, jobs.c.created_at)
    mine = mine.where(jobs.c.profile_id == bindparam("profile"))
    return _claimable(mine, limited).limit(bindparam("limit"))


@cache
def _heads(limited: bool) -> Query:
    """The first claimable job for every engine and model, by hops along `ix_jobs_heads`, however long each queue is."""
    first = select(func.min(jobs.c.needs).label("needs")).where(QUEUED).cte("waiting", recursive=True)
    following = select(func.min(jobs.c.needs)).where(QUEUED, jobs.c.needs > first.c.needs)
    waiting = first.union_all(select(following.scalar_subquery()).where(first.c.needs.is_not(None)))
    head = jobs.alias("head")
    best = _claimable(select(jobs.c.id).where(jobs.c.needs == waiting.c.needs), limited).limit(1)
    order = (head.c.id.label("job_id"), head.c.priority, head.c.turn, head.c.position, head.c.created_at)
    return (
        select(*order, head.c.profile_id, profiles.c.engine, profiles.c.model)
        .select_from(waiting)
        .join(head, head.c.id == best.correlate(waiting).scalar_subquery())
        .join(profiles, profiles.c.id == head.c.profile_id)
    )


_SHUNNED = QUEUED & jobs.c.failed_worker.is_not(None) & (jobs.c.failed_worker == bindparam("me"))
_ASKED = (attempts.c.worker_id == bindparam("me")) & (attempts.c.request_id == bindparam("request"))
_LOOK = ONE.add_columns(
    select(attempts.c.token).where(_ASKED).exists().label("replayed"),
    select(jobs.c.id).where(_SHUNNED).exists().label("shunned"),
    ANY_LAPSED.label("lapsed"),
    select(farm.c.turn).scalar_subquery().label("turn"),
)
"""The worker, and which of the rarer paths of a claim must be walked: one look instead of five."""
_SEEN = update(workers).where(workers.c.id == bindparam("me")).values(last_seen_at=bindparam("now"))
_ADVANCE = update(farm).where(farm.c.turn < bindparam("handed_out")).values(turn=bindparam("handed_out"))
_RUN = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("jobs", expanding=True)))
    .values(state="running", attempts=jobs.c.attempts + 1, available_at=0)
)
_SHOWN = {
    "job_id": jobs.c.id, "transcription_id": jobs.c.transcription_id, "kind": jobs.c.kind,
    "position": jobs.c.position, "alone": jobs.c.alone, "start_seconds": jobs.c.start_seconds,
    "end_seconds": jobs.c.end_seconds, "audio_key": jobs.c.audio_key, "audio_size": jobs.c.audio_size,
    "audio_sha256": jobs.c.audio_sha256, "source": transcriptions.c.source, "source_name": transcriptions.c.name,
    "source_size": transcriptions.c.source_size, "chunk_seconds": transcriptions.c.chunk_seconds,
    "resume_position": transcriptions.c.chunks, "resume_seconds": transcriptions.c.cut_seconds,
}  # fmt: skip
_JOBS = select(
    *(column.label(name) for name, column in _SHOWN.items()), jobs.c.attempts, transcriptions.c.options,
    transcriptions.c.language, transcriptions.c.revision, transcriptions.c.owner,
    transcriptions.c.state.label("recording_state"),
).join(transcriptions, transcriptions.c.id == jobs.c.transcription_id)  # fmt: skip
_TRY = ("token", "attempt", "hedge")
_FACTS = _JOBS.where(jobs.c.id.in_(bindparam("jobs", expanding=True)))
_REPLAY = (
    _JOBS.add_columns(attempts.c.token, attempts.c.number.label("attempt"), attempts.c.hedge)
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(_ASKED, attempts.c.state == "live")
    .order_by(jobs.c.kind, *ORDER)
)
