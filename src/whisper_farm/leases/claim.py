"""Jobs go out: a worker with room asks, and what it gets is its own until the lease runs out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from whisper_farm.leases.attempts import Held, renew_free
from whisper_farm.leases.kinds import KINDS, RECOGNITION, kind_needed
from whisper_farm.leases.lapse import LapsedJobs, announce_lapses, lapsed_jobs, overtake, set_aside_spent
from whisper_farm.leases.ready import (
    FROM_JOBS,
    ORDER,
    READY,
    Head,
    ReadyJob,
    facts,
    heads,
    next_jobs,
    overdue,
)
from whisper_farm.leases.rules import RANDOM, Mint, lately, stretched
from whisper_farm.leases.workers import WORKER, LiveWorkers, Worker, must_be_there
from whisper_farm.protocol.events import TranscriptionStarted
from whisper_farm.protocol.wire import JobKind
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query
from whisper_farm.store.transcriptions import pinned
from whisper_farm.transcript.options import RecognitionOptions

COLD_TURNS = 64
"""How many turns of others a worker lets pass rather than load another model."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One attempt at one job, with all its worker needs: source and `resume_*` to cut, audio to recognise."""

    token: str
    job_id: str
    transcription_id: str
    kind: JobKind
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
class Asking(Worker):
    """Who asks, and which of the rarer paths of a claim must be walked."""

    replayed: bool
    lapsed: bool
    turn: int | None


@dataclass(frozen=True, slots=True)
class Replayed(ReadyJob):
    """A job of a claim that was made before."""

    token: str
    attempt: int
    hedge: bool


LOOK = Query[Asking](f"""
    SELECT {WORKER},
           EXISTS (SELECT 1 FROM attempts WHERE worker_id = :me AND request_id = :request) AS replayed,
           EXISTS (SELECT 1 FROM attempts WHERE attempts.state = 'live' AND lease_until <= :now) AS lapsed,
           (SELECT turn FROM farm) AS turn
      FROM workers WHERE id = :me
""")
AGAIN = Query[Replayed](f"""
    SELECT {READY}, attempts.token, attempts.number AS attempt, attempts.hedge
    {FROM_JOBS} JOIN attempts ON attempts.job_id = jobs.id
     WHERE attempts.worker_id = :me AND attempts.request_id = :request AND attempts.state = 'live'
     ORDER BY jobs.kind, {ORDER}
""")
DENIED = Query[bool]("""
    SELECT EXISTS (SELECT 1 FROM attempts WHERE state = 'live' AND worker_id = :me AND lease_until <= :now)
        OR EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND left_by = :me
                      AND available_at <= :now AND available_at > :lately) AS denied
""")
SEEN = Change("UPDATE workers SET last_seen_at = :now WHERE id = :me")
RUN = Change("UPDATE jobs SET state = 'running', attempts = attempts + 1, available_at = 0 WHERE id IN :jobs")
MAKE = Change("""
    INSERT INTO attempts (token, job_id, number, worker_id, request_id, state, hedge, language, lease_until, started_at)
    VALUES (:token, :job, :number, :me, :request, 'live', :hedge, :language, :until, :now)
""")
START = Change("UPDATE transcriptions SET state = 'running', started_at = :now WHERE id IN :transcriptions")
ADVANCE = Change("UPDATE farm SET turn = :turn WHERE turn < :turn")


def claim(tx: Transaction, request: ClaimRequest, policy: Policy, mint: Mint = RANDOM) -> list[Claimed]:
    """Make attempts, with fresh tokens, at up to as many jobs as asked for; asked again, return those still live.

    Raises `WorkerUnknown`. A worker that was told to leave gets nothing new.
    """
    asked = {"me": request.worker_id, "request": request.request_id, "now": tx.now}
    asking = tx.first(LOOK, asked)
    worker = must_be_there(request.worker_id, asking)
    assert asking is not None
    tx.before_commit(lambda: tx.change(SEEN, {"me": worker.id, "now": tx.now}))
    lease = stretched(policy, worker.present).lease_seconds
    if asking.replayed:
        return _again(tx, request, lease)
    return [] if worker.drains else Claiming(tx, request, asking, lease, policy, mint).take()


def left_something(tx: Transaction, worker_id: str, policy: Policy) -> bool:
    """Whether there is a job that this worker, which failed or lost it, leaves to others."""
    asked = {"me": worker_id, "now": tx.now, "lately": lately(policy, tx.now)}
    return bool(tx.first(DENIED, asked))


def _again(tx: Transaction, request: ClaimRequest, lease_seconds: float) -> list[Claimed]:
    """The attempts an earlier claim of this request made that are still live, their leases renewed."""
    rows = tx.rows(AGAIN, {"me": request.worker_id, "request": request.request_id})
    renew_free(tx, [row.token for row in rows], lease_seconds)
    options = _options(rows)
    return [_claimed(row, row.token, row.attempt, row.hedge, lease_seconds, options) for row in rows]


class Claiming:
    """One claim on its way through."""

    def __init__(
        self,
        tx: Transaction,
        request: ClaimRequest,
        worker: Asking,
        lease_seconds: float,
        policy: Policy,
        mint: Mint,
    ) -> None:
        self.tx, self.request, self.worker, self.policy, self.mint = tx, request, worker, policy, mint
        self.lease_seconds = lease_seconds
        self.fleet = LiveWorkers(tx, policy, asking=worker.id)

    def take(self) -> list[Claimed]:
        """The attempts that were made."""
        lapsed = self._takeable() if self.worker.lapsed else {}
        waiting = [head for head in heads(self.tx, self.worker.id, self.policy) if self.worker.serves(head.needs)]
        first = sorted([*waiting, *(_head(holders[0]) for holders in lapsed.values())], key=lambda head: head.order)
        claimed: list[Claimed] = []
        for kind in KINDS:
            limit, mine = self.request.jobs.get(kind, 0), [head for head in first if kind_needed(head.needs) == kind]
            if limit and kind == RECOGNITION.name:
                claimed += self._next(sorted(mine, key=self._warm_first), limit, lapsed) if mine else self._hedge(limit)
            elif limit:
                claimed += self._next(mine, limit, lapsed)
        return claimed

    def _takeable(self) -> LapsedJobs:
        """Lapsed jobs this worker may take, after those that lapsed once too often have been set aside."""
        lapsed = lapsed_jobs(self.tx, self.worker)
        mine = {job_id: holders for job_id, holders in lapsed.items() if self._may_take(holders)}
        spent, _ = set_aside_spent(self.tx, mine, self.policy, self.fleet)
        return {job_id: holders for job_id, holders in mine.items() if job_id not in spent}

    def _may_take(self, holders: Sequence[Held]) -> bool:
        """Whether this worker may take a lapsed job; one that it has lost itself it leaves to others for a while."""
        job, me = holders[0], self.worker
        mine = [held.lease_until for held in holders if held.worker_id == me.id]
        if not self.request.jobs.get(job.kind) or any(me.last_beat_at < lease_until for lease_until in mine):
            return False  # perhaps I am still at it, and wake up from sleep: I have not beaten since
        if max(mine, default=0.0) <= lately(self.policy, self.tx.now):
            return True
        return not self.fleet.serves(job.needs, but={me.id})

    def _warm_first(self, head: Head) -> tuple[int, int, int, float, str]:
        """Fairness, but a model in memory is worth some turns."""
        priority, turn, position, created_at, job_id = head.order
        cold = 0 if self.worker.has_loaded(head.needs) else COLD_TURNS
        return (priority, turn + cold, position, created_at, job_id)

    def _next(self, first: Sequence[Head], limit: int, lapsed: LapsedJobs) -> list[Claimed]:
        """Claim the next jobs of the profile of the first, queued and lapsed ones in one order."""
        if not first:
            return []
        head = first[0]
        queued = {job.job_id: job for job in next_jobs(self.tx, head, limit, self.worker.id, self.policy)}
        silent = {job_id: of[0] for job_id, of in lapsed.items() if _same(of[0], head)}
        order = sorted([*(job.order for job in queued.values()), *(_head(held).order for held in silent.values())])
        chosen = [job_id for *_, job_id in order[:limit]]
        overtaken = overtake(self.tx, [job_id for job_id in chosen if job_id in silent])
        ours = [job_id for job_id in chosen if job_id in queued or job_id in overtaken]
        announce_lapses(self.tx, [silent[job_id] for job_id in ours if job_id in silent])
        known = queued | facts(self.tx, [job_id for job_id in ours if job_id in silent])
        jobs = [known[job_id] for job_id in ours]
        self._advance(max((job.turn for job in jobs), default=0))
        return self._hand_out(jobs, hedge=False)

    def _hedge(self, limit: int) -> list[Claimed]:
        """With nothing left to claim, a second attempt at what others are slow with."""
        slow = overdue(self.tx, self.worker, limit, self.policy)
        return self._hand_out(list(facts(self.tx, slow).values()), hedge=True)

    def _advance(self, turn: int) -> None:
        if turn > (self.worker.turn or 0):
            self.tx.change(ADVANCE, {"turn": turn})

    def _hand_out(self, jobs: Sequence[ReadyJob], hedge: bool) -> list[Claimed]:
        """Make an attempt at each of these jobs; the first claim of any of its jobs starts a transcription."""
        if not jobs:
            return []
        queued = {job.transcription_id: job.owner for job in jobs if job.transcription_state == "queued"}
        if queued:
            self.tx.change(START, {"transcriptions": sorted(queued), "now": self.tx.now})
        for name, owner in sorted(queued.items()):
            emit(self.tx, TranscriptionStarted(), name, owner)
        options = _options(jobs)
        made = [_claimed(job, self._token(), job.attempts + 1, hedge, self.lease_seconds, options) for job in jobs]
        self.tx.change(RUN, {"jobs": [job.job_id for job in jobs]})
        self.tx.change(MAKE, [self._attempt(one, job) for one, job in zip(made, jobs, strict=True)])
        return made

    def _token(self) -> str:
        return self.mint.claim_token()

    def _attempt(self, made: Claimed, job: ReadyJob) -> dict[str, object]:
        mine = {"token": made.token, "job": made.job_id, "number": made.attempt, "hedge": made.hedge}
        when = {"now": self.tx.now, "until": self.tx.now + self.lease_seconds}
        return mine | when | {"me": self.worker.id, "request": self.request.request_id, "language": job.language}


def _head(held: Held) -> Head:
    """A lapsed job's place in the queue."""
    return Head(held.job_id, held.profile_id, held.needs, held.priority, held.turn, held.position, held.created_at)


def _same(held: Held, head: Head) -> bool:
    return (held.profile_id, held.needs) == (head.profile_id, head.needs)


def _options(jobs: Iterable[ReadyJob]) -> dict[str, RecognitionOptions]:
    """The pinned options of each transcription among these jobs."""
    firsts = {job.transcription_id: job for job in jobs}
    return {name: pinned(job.options, job.language, job.revision) for name, job in firsts.items()}


def _claimed(
    job: ReadyJob,
    token: str,
    attempt: int,
    hedge: bool,
    lease_seconds: float,
    options: Mapping[str, RecognitionOptions],
) -> Claimed:
    told = {name: getattr(job, name) for name in SHOWN}
    pinned_options = options[job.transcription_id]
    return Claimed(
        token=token, attempt=attempt, hedge=hedge, lease_seconds=lease_seconds, options=pinned_options, **told
    )


SHOWN: Collection[str] = sorted(set(Claimed.__slots__) & set(ReadyJob.__dataclass_fields__) - {"options"})
"""What a worker is told of its job as it is in the database."""
