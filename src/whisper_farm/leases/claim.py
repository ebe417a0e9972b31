"""Jobs go out: a worker with room asks, and what it gets is its own until the lease runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whisper_farm.leases.attempts import FROM_JOBS, Held, Job, Order, renew_free
from whisper_farm.leases.kinds import KINDS, RECOGNITION
from whisper_farm.leases.lapse import LapsedJobs, announce_lapses, lapsed_jobs, overtake, set_aside_spent
from whisper_farm.leases.ready import ORDER, heads, next_jobs, overdue
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
    asked: dict[str, Any]
    language: str | None
    revision: str | None

    @property
    def options(self) -> RecognitionOptions:
        """How to recognise it, as pinned by now."""
        return pinned(self.asked, self.language, self.revision)


@dataclass(frozen=True, slots=True)
class Asking(Worker):
    """Who asks, and which of the rarer paths of a claim must be walked."""

    replayed: bool
    lapsed: bool
    turn: int | None


LOOK = Query[Asking](f"""
    SELECT {WORKER},
           EXISTS (SELECT 1 FROM attempts WHERE worker_id = :me AND request_id = :request) AS replayed,
           EXISTS (SELECT 1 FROM attempts WHERE attempts.state = 'live' AND lease_until <= :now) AS lapsed,
           (SELECT turn FROM farm) AS turn
      FROM workers WHERE id = :me
""")
CLAIMED = Query[Claimed](f"""
    SELECT attempts.token, jobs.id AS job_id, jobs.transcription_id, jobs.kind, jobs.position,
           attempts.number AS attempt, CAST(:lease AS DOUBLE PRECISION) AS lease_seconds, attempts.hedge, jobs.alone,
           jobs.start_seconds, jobs.end_seconds, jobs.audio_key, jobs.audio_size, jobs.audio_sha256,
           transcriptions.source, transcriptions.name AS source_name, transcriptions.source_size,
           transcriptions.chunk_seconds, transcriptions.chunks AS resume_position,
           transcriptions.cut_seconds AS resume_seconds, transcriptions.options AS asked, transcriptions.language,
           transcriptions.revision
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
MAKE = Change(f"""
    INSERT INTO attempts (token, job_id, number, worker_id, request_id, state, hedge, language, lease_until, started_at)
    SELECT :token, jobs.id, jobs.attempts, :me, :request, 'live', :hedge, transcriptions.language, :until, :now
    {FROM_JOBS} WHERE jobs.id = :job
""")
START = Change("UPDATE transcriptions SET state = 'running', started_at = :now WHERE id IN :transcriptions")
ADVANCE = Change("UPDATE farm SET turn = :turn WHERE turn < :turn")


def claim(tx: Transaction, request: ClaimRequest, policy: Policy, mint: Mint = RANDOM) -> list[Claimed]:
    """Make attempts, with fresh tokens, at up to as many jobs as asked for; asked again, return those still live.

    Raises `WorkerUnknown`. A worker that was told to leave gets nothing new.
    """
    asked = {"me": request.worker_id, "request": request.request_id}
    worker = must_be_there(request.worker_id, tx.first(LOOK, asked))
    tx.before_commit(lambda: tx.change(SEEN, asked))
    lease = stretched(policy, worker.present).lease_seconds
    if not worker.replayed and (worker.drains or not Claiming(tx, request, worker, lease, policy, mint).take()):
        return []
    claimed = tx.rows(CLAIMED, asked | {"lease": lease})
    if worker.replayed:
        renew_free(tx, [one.token for one in claimed], lease)
    return claimed


def left_something(tx: Transaction, worker_id: str, policy: Policy) -> bool:
    """Whether there is a job that this worker, which failed or lost it, leaves to others."""
    return bool(tx.first(DENIED, {"me": worker_id, "lately": lately(policy, tx.now)}))


@dataclass(slots=True)
class Claiming:
    """One claim on its way through."""

    tx: Transaction
    request: ClaimRequest
    worker: Asking
    lease_seconds: float
    policy: Policy
    mint: Mint

    def take(self) -> bool:
        """Make attempts; returns whether there are any."""
        lapsed = self._takeable() if self.worker.lapsed else {}
        waiting = [job for job in heads(self.tx, self.worker.id, self.policy) if self.worker.serves(job.needs)]
        waiting += [holders[0] for holders in lapsed.values()]
        made = 0
        for kind in KINDS:
            limit, first = self.request.jobs.get(kind, 0), [job for job in waiting if job.kind == kind]
            if limit and first:
                made += self._next(min(first, key=self._warm_first), limit, lapsed)
            elif limit and kind == RECOGNITION.name:
                made += self._attempt(overdue(self.tx, self.worker, limit, self.policy), hedge=True)
        return made > 0

    def _takeable(self) -> LapsedJobs:
        """Lapsed jobs this worker may take, after those that lapsed once too often have been set aside."""
        fleet = LiveWorkers(self.tx, self.policy, asking=self.worker.id)
        lapsed = lapsed_jobs(self.tx, self.worker)
        mine = {job_id: holders for job_id, holders in lapsed.items() if self._may_take(holders, fleet)}
        spent, _ = set_aside_spent(self.tx, mine, self.policy, fleet)
        return {job_id: holders for job_id, holders in mine.items() if job_id not in spent}

    def _may_take(self, holders: Sequence[Held], fleet: LiveWorkers) -> bool:
        """Whether this worker may take a lapsed job; one that it has lost itself it leaves to others for a while."""
        job, me = holders[0], self.worker
        mine = [held.lease_until for held in holders if held.worker_id == me.id]
        if not self.request.jobs.get(job.kind) or any(me.last_beat_at < lease_until for lease_until in mine):
            return False  # perhaps I am still at it, and wake up from sleep: I have not beaten since
        if max(mine, default=0.0) <= lately(self.policy, self.tx.now):
            return True
        return not fleet.serves(job.needs, but={me.id})

    def _warm_first(self, job: Job) -> Order:
        """Fairness, but a model in memory is worth some turns."""
        priority, turn, position, created_at, job_id = job.order
        cold = job.kind == RECOGNITION.name and not self.worker.has_loaded(job.needs)
        return (priority, turn + cold * COLD_TURNS, position, created_at, job_id)

    def _next(self, head: Job, limit: int, lapsed: LapsedJobs) -> int:
        """Claim the next jobs of the same profile as `head`, queued and lapsed ones in one order."""
        silent = {job_id: of[0] for job_id, of in lapsed.items() if of[0].profile_id == head.profile_id}
        silent = {job_id: job for job_id, job in silent.items() if job.needs == head.needs}
        queued = next_jobs(self.tx, head, limit, self.worker.id, self.policy)
        chosen = sorted([*queued, *silent.values()], key=lambda job: job.order)[:limit]
        taken = overtake(self.tx, [job.job_id for job in chosen if job.job_id in silent])
        jobs = [job for job in chosen if job.job_id not in silent or job.job_id in taken]
        announce_lapses(self.tx, [silent[job.job_id] for job in jobs if job.job_id in silent])
        turn = max((job.turn for job in jobs), default=0)
        if turn > (self.worker.turn or 0):
            self.tx.change(ADVANCE, {"turn": turn})
        return self._attempt(jobs, hedge=False)

    def _attempt(self, jobs: Sequence[Job], hedge: bool) -> int:
        """Make an attempt at each of these jobs; the first claim of any of its jobs starts a transcription."""
        if not jobs:
            return 0
        if queued := {job.transcription_id: job.owner for job in jobs if job.transcription_state == "queued"}:
            self.tx.change(START, {"transcriptions": sorted(queued)})
        for transcription_id, owner in sorted(queued.items()):
            emit(self.tx, TranscriptionStarted(), transcription_id, owner)
        same = {"me": self.worker.id, "request": self.request.request_id, "hedge": hedge}
        same["until"] = self.tx.now + self.lease_seconds
        self.tx.change(RUN, {"jobs": [job.job_id for job in jobs]})
        self.tx.change(MAKE, [{**same, "job": job.job_id, "token": self.mint.claim_token()} for job in jobs])
        return len(jobs)
