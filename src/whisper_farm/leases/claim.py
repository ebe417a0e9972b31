"""Jobs go out: a worker with room asks, and what it gets is its own until the lease runs out.

Owners take turns (`waiting.py`). What one owner has goes round-robin over transcriptions, by start-time fair queueing.
Every chunk has the turn after the one before it, and lower turns go first. The first chunk has the turn at which the
service stands now. So a short recording does not wait for a long one that came before. The service stands at the first
chunk of that owner that waits for the same model with the same priority. Where none waits, it stands at the largest
turn that was handed out at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from whisper_farm.errors import LeaseLost
from whisper_farm.leases.attempts import FROM_JOBS, JOB, Held, Job, Order, renew_free
from whisper_farm.leases.kinds import KINDS, RECOGNITION
from whisper_farm.leases.lapse import LapsedJobs, lapsed_jobs, overtake, set_aside_spent
from whisper_farm.leases.rules import RANDOM, Mint, lately, stretched
from whisper_farm.leases.waiting import ORDER, Shares, Waiting
from whisper_farm.leases.workers import WORKER, LiveWorkers, Offers, Worker
from whisper_farm.protocol.events import JobRetried, TranscriptionStarted
from whisper_farm.protocol.wire import MAX_BATCH, JobKind
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query
from whisper_farm.transcript.options import WITHOUT_SPEAKERS, RecognitionOptions

COLD_TURNS = 64
"""How many turns of others a worker lets pass rather than load another model."""
OVERDUE_AT_ONCE = 1000
"""Slow jobs looked at by one claim, oldest first."""


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
    tagged_language: str | None
    revision: str | None
    without_speakers: str | None

    @property
    def options(self) -> RecognitionOptions:
        """How to recognise it, as its owner said, by the revision that is pinned by now."""
        instead = {} if self.without_speakers is None else WITHOUT_SPEAKERS
        return RecognitionOptions.model_validate(self.asked | instead | {"revision": self.revision})

    @property
    def expected_language(self) -> str | None:
        """That of the recording as far as is known; None where every chunk has its own."""
        return None if self.asked.get("multilingual") else self.language or self.tagged_language


@dataclass(frozen=True, slots=True)
class Asking(Worker):
    """Who asks, and which of the rarer paths of a claim must be walked.

    One that `leaves` something has failed or lost a job, which it leaves to others for a while.
    """

    replayed: bool
    leaves: bool
    lapsed: bool
    turn: int | None


OVERDUE = """
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id JOIN profiles ON profiles.id = jobs.profile_id
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     WHERE attempts.state = 'live' AND NOT attempts.hedge AND attempts.worker_id <> :me
       AND attempts.lease_until > :now AND jobs.kind = 'transcribe'
       AND :now - attempts.started_at > :least
       AND :now - attempts.started_at > :factor * profiles.pace * (jobs.end_seconds - jobs.start_seconds)
       AND (jobs.left_by IS NULL OR jobs.left_by <> :me)
       AND NOT EXISTS (SELECT 1 FROM attempts other
                        WHERE other.job_id = jobs.id AND other.state = 'live' AND other.token <> attempts.token)"""
OVERDUE_NEEDS = Query[str](f"SELECT DISTINCT jobs.needs {OVERDUE}")
OVERDUE_JOBS = Query[Job](f"""
    SELECT {JOB} {OVERDUE} AND jobs.needs IN :served ORDER BY attempts.started_at, jobs.id LIMIT :limit
""")
LOOK = Query[Asking](f"""
    SELECT {WORKER},
           EXISTS (SELECT 1 FROM attempts WHERE worker_id = workers.id AND request_id IN :requests) AS replayed,
           EXISTS (SELECT 1 FROM jobs WHERE jobs.state = 'queued' AND left_by = workers.id)
           OR EXISTS (SELECT 1 FROM attempts WHERE attempts.state = 'live' AND worker_id = workers.id
                                               AND lease_until <= :now) AS leaves,
           EXISTS (SELECT 1 FROM attempts WHERE attempts.state = 'live' AND lease_until <= :now) AS lapsed,
           (SELECT turn FROM farm) AS turn
      FROM workers WHERE id IN :workers
""")
BEFORE = Query[tuple[str, str, str]]("""
    SELECT worker_id, request_id, token FROM attempts WHERE worker_id IN :workers AND request_id IN :requests
""")
CLAIMED = Query[Claimed](f"""
    SELECT attempts.token, jobs.id AS job_id, jobs.transcription_id, jobs.kind, jobs.position,
           attempts.number AS attempt, CAST(:lease AS DOUBLE PRECISION) AS lease_seconds, attempts.hedge, jobs.alone,
           jobs.start_seconds, jobs.end_seconds, jobs.audio_key, jobs.audio_size, jobs.audio_sha256,
           transcriptions.source, transcriptions.name AS source_name, transcriptions.source_size,
           transcriptions.chunk_seconds, transcriptions.chunks AS resume_position,
           transcriptions.cut_seconds AS resume_seconds, transcriptions.options AS asked, transcriptions.language,
           transcriptions.tagged_language, transcriptions.revision, transcriptions.without_speakers
    {FROM_JOBS} JOIN attempts ON attempts.job_id = jobs.id
     WHERE attempts.token IN :tokens AND attempts.state = 'live'
     ORDER BY jobs.kind, {ORDER}
""")
SEEN = Change("UPDATE workers SET last_seen_at = :now WHERE id IN :workers")
RUN = Change("UPDATE jobs SET state = 'running', attempts = attempts + 1, available_at = 0 WHERE id IN :jobs")
MAKE = Change("""
    INSERT INTO attempts (token, job_id, number, worker_id, request_id, state, hedge, language, lease_until, started_at,
                          ends_by)
    VALUES (:token, :job, :number, :me, :request, 'live', :hedge, :language, :until, :now, :ends_by)
""")
START = Change("UPDATE transcriptions SET state = 'running', started_at = :now WHERE id IN :transcriptions")
ADVANCE = Change("UPDATE farm SET turn = :turn WHERE turn < :turn")
HOLDS = Query[tuple[str, int]](f"""
    SELECT transcriptions.owner, count(*) AS held {FROM_JOBS} JOIN attempts ON attempts.job_id = jobs.id
     WHERE attempts.state = 'live' AND attempts.worker_id = :me AND jobs.kind = :kind GROUP BY transcriptions.owner
""")


Granted = tuple[Asking, list[Claimed]]
"""Who asked, as it was found, and what it got."""


def claim_all(
    tx: Transaction, requests: Sequence[ClaimRequest], policy: Policy, mint: Mint = RANDOM
) -> list[Granted | None]:
    """Make attempts, with fresh tokens, at up to as many jobs as each request asks for, one after the other.

    A request that is made again gets those of its attempts that still live. A worker that was told to leave, or is
    paused, gets nothing new. None is the answer to a worker that is not known.
    """
    asked = {"workers": [one.worker_id for one in requests], "requests": [one.request_id for one in requests]}
    found = {worker.id: worker for worker in tx.rows(LOOK, asked) if worker.state != "gone"} if requests else {}
    tx.before_commit(lambda: tx.change(SEEN, {"workers": sorted(found)}))
    lease = stretched(policy, max((worker.present for worker in found.values()), default=0)).lease_seconds
    tokens: dict[tuple[str, str], list[str]] = {}
    for worker_id, request_id, token in tx.rows(BEFORE, asked) if any(one.replayed for one in found.values()) else ():
        tokens.setdefault((worker_id, request_id), []).append(token)
    again = [token for of in tokens.values() for token in of]
    waiting = Waiting(tx, sum(max(one.jobs.values(), default=0) for one in requests), lately(policy, tx.now))
    for request in requests:
        worker, key = found.get(request.worker_id), (request.worker_id, request.request_id)
        if worker is not None and key not in tokens and not (worker.drains or worker.paused):
            mine = waiting.but_left_by(worker.id) if worker.leaves else waiting
            tokens[key] = Claiming(tx, request, worker, mine, lease, policy, mint).take()
    wanted = sorted(token for of in tokens.values() for token in of)
    claimed = tx.rows(CLAIMED, {"tokens": wanted, "lease": lease}) if wanted else []
    renew_free(tx, [one.token for one in claimed if one.token in again], lease)
    theirs = [tokens.get((one.worker_id, one.request_id), ()) for one in requests]
    return [
        (found[one.worker_id], [each for each in claimed if each.token in of]) if one.worker_id in found else None
        for one, of in zip(requests, theirs, strict=True)
    ]


@dataclass(slots=True)
class Claiming:
    """One claim on its way through."""

    tx: Transaction
    request: ClaimRequest
    worker: Asking
    waiting: Waiting
    lease_seconds: float
    policy: Policy
    mint: Mint
    shares: Shares = field(init=False)
    holds: dict[str, int] = field(default_factory=dict)
    """How many jobs of the present kind this worker holds of each owner, if that is bounded."""

    def take(self) -> list[str]:
        """Make attempts; returns their tokens."""
        lapsed = self._takeable() if self.worker.lapsed else {}
        waiting = [job for job in self.waiting.heads() if self.worker.serves(job.needs)]
        waiting += [holders[0] for holders in lapsed.values()]
        self.shares = Shares(self.tx, {job.owner for job in waiting})
        made = []
        for kind in KINDS:
            limit, first = self.request.jobs.get(kind, 0), [job for job in waiting if job.kind == kind]
            if first and self.request.most_of_one_owner is not None:
                self.holds = dict(self.tx.rows(HOLDS, {"me": self.worker.id, "kind": kind}))
            first = [job for job in first if self._room(job)]
            if limit and first:
                made += self._next(first, limit, lapsed)
            elif limit and kind == RECOGNITION.name:
                made += self._attempt(overdue(self.tx, self.worker, limit, self.policy), hedge=True)
        return made

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
        return (priority, turn + self._cold(job), position, created_at, job_id)

    def _cold(self, job: Job) -> int:
        return 0 if job.kind != RECOGNITION.name or self.worker.has_loaded(job.needs) else COLD_TURNS

    def _room(self, job: Job) -> int:
        """How many jobs of that one's owner this worker may still take."""
        return max(0, (self.request.most_of_one_owner or MAX_BATCH) - self.holds.get(job.owner, 0))

    def _first(self, heads: Sequence[Job]) -> Job:
        """The head of the owner who had least; a model in memory counts here, too."""
        owner = min(heads, key=lambda job: (self.shares.of(job.owner) + self._cold(job), self._warm_first(job))).owner
        return min((job for job in heads if job.owner == owner), key=self._warm_first)

    def _waiting(self, flow: str, first: Job, limit: int, lapsed: LapsedJobs) -> list[Job]:
        """The next jobs of this flow and of the same profile as `first`, queued and lapsed ones in one order."""
        silent = [of[0] for of in lapsed.values() if (of[0].profile_id, of[0].flow) == (first.profile_id, flow)]
        queued = self.waiting.next(first.profile_id, flow, limit)
        return sorted([*queued, *silent], key=lambda job: job.order)[:limit]

    def _next(self, heads: Sequence[Job], limit: int, lapsed: LapsedJobs) -> list[str]:
        """Claim the next jobs of one profile, of the owners who had least one by one."""
        first = self._first(heads)
        same = [job for job in heads if (job.profile_id, job.needs) == (first.profile_id, first.needs)]
        same.sort(key=lambda job: (job is not first, self.shares.of(job.owner)))
        rooms = {job.flow: min(limit, self._room(job)) for job in same[:limit]}
        by_owner = [self._waiting(flow, first, room, lapsed) for flow, room in rooms.items()]
        chosen = [job for each in zip_longest(*by_owner) for job in each if job is not None][:limit]
        taken = overtake(self.tx, {job.job_id: lapsed[job.job_id] for job in chosen if job.job_id in lapsed})
        jobs = [job for job in chosen if job.job_id not in lapsed or job.job_id in taken]
        for job in (job for job in jobs if job.job_id in taken):
            emit(self.tx, JobRetried(position=job.position, code=LeaseLost.code), job.transcription_id, job.owner)
        self.shares.count(jobs)
        turn = max((job.turn for job in jobs if job.kind == RECOGNITION.name), default=0)
        if turn > (self.worker.turn or 0):
            self.tx.change(ADVANCE, {"turn": turn})
        return self._attempt(jobs, hedge=False)

    def _attempt(self, jobs: Sequence[Job], hedge: bool) -> list[str]:
        """Make an attempt at each of these jobs; the first claim of any of its jobs starts a transcription."""
        if not jobs:
            return []
        if queued := {job.transcription_id: job.owner for job in jobs if job.transcription_state == "queued"}:
            self.tx.change(START, {"transcriptions": sorted(queued)})
        for transcription_id, owner in sorted(queued.items()):
            emit(self.tx, TranscriptionStarted(), transcription_id, owner)
        self.tx.change(RUN, {"jobs": [job.job_id for job in jobs]})
        self.waiting.taken.update(job.job_id for job in jobs)
        made = [self._new(job, hedge) for job in jobs]
        self.tx.change(MAKE, made)
        return [str(one["token"]) for one in made]

    def _new(self, job: Job, hedge: bool) -> dict[str, object]:
        mine = {"me": self.worker.id, "request": self.request.request_id, "until": self.tx.now + self.lease_seconds}
        told = {"job": job.job_id, "number": job.attempts + 1, "hedge": hedge, "language": job.language}
        ends_by = self.tx.now + KINDS[job.kind].limit_seconds(self.policy, job.seconds)
        return {"token": self.mint.claim_token(), **mine, **told, "ends_by": ends_by}


def overdue(tx: Transaction, offers: Offers, limit: int, policy: Policy) -> list[Job]:
    """The jobs to hedge, oldest first, all of one profile: chunks that run far past their expected time."""
    asked = {"me": offers.id, "least": policy.hedge_min_seconds, "factor": policy.hedge_factor}
    served = [needs for needs in tx.rows(OVERDUE_NEEDS, asked) if offers.serves(needs)]
    slow = tx.rows(OVERDUE_JOBS, asked | {"served": served, "limit": OVERDUE_AT_ONCE}) if served else []
    return [job for job in slow if job.profile_id == slow[0].profile_id][:limit]
