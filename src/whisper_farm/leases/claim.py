"""Jobs go out: a worker with room asks, and what it gets is its own until the lease runs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select, update

from whisper_farm.errors import WorkerUnknown
from whisper_farm.leases import hedge
from whisper_farm.leases.attempts import TRIED_BY_ME, Held, evidence, tried_by
from whisper_farm.leases.beat import renew_free
from whisper_farm.leases.ids import CHUNK_PROFILE, RANDOM, Mint
from whisper_farm.leases.lapse import (
    ANY_LAPSED,
    LapsedJobs,
    announce_lapses,
    lapsed_jobs,
    overtake,
    set_aside_lapsed,
    spent_jobs,
)
from whisper_farm.leases.ready import JOBS, ORDER, QUEUED, SHOWN, JobRow, Order, Queue, QueueOf, facts, order_of
from whisper_farm.leases.rules import lately, stretched
from whisper_farm.leases.workers import EVERY, Fleet, Offers, Worker, as_worker
from whisper_farm.protocol.events import TranscriptionStarted
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import ROWS, among, given, insert_given
from whisper_farm.store.tables import attempts, farm, jobs, literally, transcriptions, workers
from whisper_farm.store.transcriptions import pinned
from whisper_farm.transcript.options import RecognitionOptions

COLD_TURNS = 64
"""How many turns of others a worker lets pass rather than load another model."""
FAILED_AT_ONCE = 100
"""Jobs this worker has failed, first in order first, of which one claim asks whether they are left to it."""


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
    """One claim on its way through."""

    request: ClaimRequest
    worker: Worker
    lease_seconds: float
    fleet: Fleet


def claim(tx: Transaction, request: ClaimRequest, policy: Policy, mint: Mint = RANDOM) -> list[Claimed]:
    """Make attempts, with fresh tokens, at up to as many jobs as asked for; asked again, return those still live."""
    claiming = Claiming(tx, [request], policy, mint)
    claimed = claiming.claim(request)
    claiming.write()
    return claimed


class Claiming:
    """The claims of one transaction, each as if the others before it were written; call `write` after the last one."""

    def __init__(self, tx: Transaction, requests: Sequence[ClaimRequest], policy: Policy, mint: Mint = RANDOM) -> None:
        self.tx, self.policy, self.mint = tx, policy, mint
        self._requests = requests
        self._looked: dict[tuple[str, str], Any] = {}
        self._most = sum(map(_wanted, requests))
        self._queue: Queue | None = None
        self._made: list[dict[str, object]] = []
        self._taken: set[str] = set()
        self._started: set[str] = set()
        self._asked: set[str] = set()
        self._seen: list[str] = []
        self._turn = self._handed_out = 0
        self.denied = False
        """Whether the last claim left a job to others, because its worker had failed or lost it."""
        self._lease_seconds = 0.0
        self._lately = lately(policy, tx.now)
        tx.before_commit(self._note_seen)

    def claim(self, request: ClaimRequest) -> list[Claimed]:
        """The attempts of this request; raises `WorkerUnknown`."""
        if request.request_id in self._asked:
            self.write()
            self._look([request])
        self._asked.add(request.request_id)
        worker = self.worker(request)
        self._seen.append(worker.id)
        lease = stretched(self.policy, worker.present).lease_seconds
        there = self._looked[request.worker_id, request.request_id]
        if there.replayed:
            return self._again(request, lease)
        if worker.drains:
            return []
        asking = Asking(request, worker, lease, Fleet(self.tx, self.policy, here=self._seen))
        self.denied = False
        lapsed = self._takeable(asking) if there.lapsed else {}
        return self._claim(asking, self._queue_for(asking, there.failed), lapsed)

    def worker(self, request: ClaimRequest) -> Worker:
        """Who makes this request; raises `WorkerUnknown`."""
        if not self._looked:
            self._look(self._requests)
        return as_worker(request.worker_id, self._looked.get((request.worker_id, request.request_id)))

    def is_cold(self, request: ClaimRequest) -> bool:
        """Whether its worker would have to load a model for the job it is to have next, where there are others."""
        if len(self._requests) == 1 or not request.transcribe_jobs:
            return False
        try:
            offers = self.worker(request).offers
        except WorkerUnknown:
            return False
        best = _best(offers, self._shared_queue(), {})
        return best is not None and not offers.has_loaded(best.engine, best.model)

    def _look(self, requests: Sequence[ClaimRequest]) -> None:
        """Read of all these at once who asks, and which of the rarer paths of a claim must be walked."""
        rows = [{"worker_id": one.worker_id, "request_id": one.request_id} for one in requests]
        for row in self.tx.rows(_LOOK, {"rows": rows, "now": self.tx.now, "lately": self._lately}):
            self._looked[row.id, row.request_id] = row
            self._turn = max(self._turn, row.turn or 0)

    def write(self) -> None:
        """Write the attempts made since the last time."""
        change = self.tx.change
        if self._made:
            change(_RUN, {"jobs": [made["job_id"] for made in self._made]})
            change(_MAKE, {"rows": self._made, "now": self.tx.now, "until": self.tx.now + self._lease_seconds})
        if self._started:
            change(_START, {"recordings": sorted(self._started), "now": self.tx.now})
        if self._handed_out > self._turn:
            change(_ADVANCE, {"handed_out": self._handed_out})
            self._turn = self._handed_out
        self._made, self._started, self._queue = [], set(), None
        self._taken.clear()

    def _queue_for(self, asking: Asking, failed: bool) -> Queue | QueueOf:
        """One queue for all who may have the same, and one of its own for a worker with wishes or failures."""
        request = asking.request
        if request.only is None and not failed:
            return self._shared_queue()
        self.write()
        if request.only is not None:
            return QueueOf(self.tx, request.only)
        return Queue(self.tx, self._taken, _wanted(request), self._left_to(asking))

    def _shared_queue(self) -> Queue:
        if self._queue is None:
            self.write()  # what was taken from another queue must be queued no longer
            self._queue = Queue(self.tx, self._taken, self._most)
        return self._queue

    def _left_to(self, asking: Asking) -> dict[str, object]:
        """The queued jobs this worker has failed lately, as has everybody else who is there and could take them."""
        mine = {"me": asking.worker.id, "lately": self._lately}
        rows = self.tx.rows(_FAILED, mine | {"now": self.tx.now})
        jobs_tried = {row.id: row.profile_id for row in rows}
        proofs = evidence(self.tx, jobs_tried).items()
        left = [job for job, proof in proofs if not asking.fleet.serves(jobs_tried[job], but=proof.tried)]
        self.denied |= len(left) < len(jobs_tried)
        return mine | {"left": left}

    def _claim(self, asking: Asking, queue: Queue | QueueOf, lapsed: LapsedJobs) -> list[Claimed]:
        request, found = asking.request, []
        if request.chunk_jobs and asking.worker.offers.cuts:
            found += self._take(asking, queue, (CHUNK_PROFILE, CHUNK_PROFILE), request.chunk_jobs, lapsed)
        if request.transcribe_jobs:
            if best := _best(asking.worker.offers, queue, lapsed):
                what = best.needs, best.profile_id
                return found + self._take(asking, queue, what, request.transcribe_jobs, lapsed)
            self.write()
            slow = hedge.overdue(self.tx, asking.worker.offers, request, self.policy)
            found += self._hand_out(asking, facts(self.tx, slow), hedged=True)
        return found

    def _takeable(self, asking: Asking) -> LapsedJobs:
        """Lapsed jobs this worker may take, after those that lapsed once too often have been set aside."""
        self.write()
        lapsed = lapsed_jobs(self.tx, asking.worker.offers, asking.request.only)
        proofs = evidence(self.tx, lapsed) if lapsed else {}
        mine = {job: holders for job, holders in lapsed.items() if self._may_take(asking, holders, proofs[job].tried)}
        self.denied |= len(mine) < len(lapsed)
        spent = spent_jobs(self.tx, mine, self.policy, asking.fleet)
        set_aside_lapsed(self.tx, mine, spent, self.policy)
        return {job_id: holders for job_id, holders in mine.items() if job_id not in spent}

    def _may_take(self, asking: Asking, holders: Sequence[Held], tried: Mapping[str, float]) -> bool:
        """Whether this worker may take a lapsed job from those who hold it; `tried`: who has failed it, and when."""
        job, me = holders[0], asking.worker
        wanted = asking.request.chunk_jobs if job.kind == "chunk" else asking.request.transcribe_jobs
        mine = [held.lease_until for held in holders if held.worker_id == me.id]
        if not wanted or any(me.last_beat_at < lease_until for lease_until in mine):
            return False  # perhaps I am still at it, and wake up from sleep: I have not beaten since
        if asking.request.only is not None or max([*mine, tried.get(me.id, 0.0)]) <= self._lately:
            return True
        others = tried.keys() | {held.worker_id for held in holders}
        return not asking.fleet.serves(job.profile_id, but=others)

    def _take(
        self, asking: Asking, queue: Queue | QueueOf, what: tuple[str, str], limit: int, lapsed: LapsedJobs
    ) -> list[Claimed]:
        """Claim the next jobs of one profile, queued and lapsed ones in one order."""
        queued = {row.job_id: row for row in queue.next(*what, limit)}
        silent = {job_id: holders[0] for job_id, holders in lapsed.items() if holders[0].profile_id == what[1]}
        chosen = sorted([*map(order_of, queued.values()), *map(order_of, silent.values())])[:limit]
        overtaken = overtake(self.tx, [order[-1] for order in chosen if order[-1] in silent])
        ours = [order for order in chosen if order[-1] not in silent or order[-1] in overtaken]
        announce_lapses(self.tx, [silent[job_id] for *_, job_id in ours if job_id in silent])
        known = queued | facts(self.tx, [job_id for *_, job_id in ours if job_id in silent])
        rows = {job_id: known[job_id] for *_, job_id in ours}
        self._taken.update(rows)
        self._handed_out = max([self._handed_out, *(order[1] for order in ours)])
        return self._hand_out(asking, rows, hedged=False)

    def _hand_out(self, asking: Asking, rows: dict[str, JobRow], hedged: bool) -> list[Claimed]:
        """Make an attempt at each of these jobs."""
        self._start(rows.values())
        lease, options = asking.lease_seconds, _options(rows.values())
        shared = {"worker_id": asking.worker.id, "request_id": asking.request.request_id, "hedge": hedged}
        self._lease_seconds = lease
        claimed = []
        for job_id, row in rows.items():
            token = self.mint.claim_token()
            mine = {"token": token, "job_id": job_id, "number": row.attempts + 1, "language": row.language}
            self._made.append(shared | mine)
            attempt = {"token": token, "attempt": row.attempts + 1, "hedge": hedged}
            claimed.append(_claimed(row, options[row.transcription_id], lease, attempt))
        return claimed

    def _start(self, rows: Iterable[JobRow]) -> None:
        """The first claim of any of its jobs starts a recording."""
        queued = {row.transcription_id: row.owner for row in rows if row.recording_state == "queued"}
        for recording, owner in sorted(queued.items()):
            if recording not in self._started:
                self._started.add(recording)
                emit(self.tx, TranscriptionStarted(), recording, owner)

    def _note_seen(self) -> None:
        if self._seen:
            self.tx.change(_SEEN, {"here": sorted(set(self._seen)), "now": self.tx.now})

    def _again(self, request: ClaimRequest, lease: float) -> list[Claimed]:
        """The attempts an earlier claim of this request made that are still live, their leases renewed."""
        self.write()
        rows = self.tx.rows(_REPLAY, {"me": request.worker_id, "request": request.request_id})
        renew_free(self.tx, [row.token for row in rows], lease)
        options = _options(rows)
        tries = [{name: getattr(row, name) for name in ("token", "attempt", "hedge")} for row in rows]
        return [_claimed(row, options[row.transcription_id], lease, one) for row, one in zip(rows, tries, strict=True)]


def _wanted(request: ClaimRequest) -> int:
    return request.chunk_jobs + request.transcribe_jobs


def _best(offers: Offers, queue: Queue | QueueOf, lapsed: LapsedJobs) -> JobRow | Held | None:
    """The job that is next in fairness for a worker with these offers; a model in memory is worth some turns."""
    heads: list[JobRow | Held] = [*queue.heads(), *(holders[0] for holders in lapsed.values())]
    mine = [head for head in heads if head.engine is not None and offers.serves(head.engine, head.model)]
    return min(mine, key=lambda head: _warm_order(head, offers), default=None)


def _warm_order(head: JobRow | Held, offers: Offers) -> Order:
    priority, turn, position, created_at, job_id = order_of(head)
    cold = 0 if offers.has_loaded(head.engine, head.model) else COLD_TURNS
    return (priority, turn + cold, position, created_at, job_id)


def _options(rows: Iterable[JobRow]) -> dict[str, RecognitionOptions]:
    """The pinned options of each recording among these jobs."""
    recordings = {row.transcription_id: row for row in rows}
    return {name: pinned(row.options, row.language, row.revision) for name, row in recordings.items()}


def _claimed(row: JobRow, options: RecognitionOptions, lease: float, attempt: dict[str, Any]) -> Claimed:
    facts = {name: getattr(row, name) for name in SHOWN}
    return Claimed(lease_seconds=lease, options=options, **facts, **attempt)


def _any(query: Select[tuple[str]]) -> ColumnElement[bool]:
    """Whether it finds anything. For EXISTS, PostgreSQL may read all that any worker would find, to look it up."""
    return query.limit(1).scalar_subquery().is_not(None)


_ASKED = (attempts.c.worker_id == bindparam("me")) & (attempts.c.request_id == bindparam("request"))
_REQUEST = given(attempts.c.request_id)
_BEFORE = (attempts.c.worker_id == workers.c.id) & (attempts.c.request_id == _REQUEST)
_LOOK = Prepared(
    EVERY.add_columns(
        _REQUEST.label("request_id"),
        _any(select(attempts.c.token).where(_BEFORE).correlate(workers, ROWS)).label("replayed"),
        _any(tried_by(workers.c.id).where(QUEUED).correlate(workers)).label("failed"),
        ANY_LAPSED.label("lapsed"),
        select(farm.c.turn).scalar_subquery().label("turn"),
    ).where(workers.c.id == given(attempts.c.worker_id))
)
_FAILED = Prepared(
    TRIED_BY_ME.with_only_columns(jobs.c.id, jobs.c.profile_id)
    .where(QUEUED, jobs.c.available_at <= bindparam("now"))
    .order_by(*ORDER)
    .limit(FAILED_AT_ONCE)
)
_SEEN = Prepared(update(workers).where(among(workers.c.id, "here")).values(last_seen_at=bindparam("now")))
_ADVANCE = Prepared(update(farm).where(farm.c.turn < bindparam("handed_out")).values(turn=bindparam("handed_out")))
_RUN = Prepared(
    update(jobs).where(among(jobs.c.id, "jobs")).values(state="running", attempts=jobs.c.attempts + 1, available_at=0)
)
_MAKE = Prepared(insert_given(
    attempts, "token", "job_id", "number", "worker_id", "request_id", "hedge", "language",
    state=literally("live"), lease_until=bindparam("until"), started_at=bindparam("now"),
))  # fmt: skip
_START = Prepared(
    update(transcriptions)
    .where(among(transcriptions.c.id, "recordings"))
    .values(state="running", started_at=bindparam("now"))
)
_REPLAY = Prepared(
    JOBS.add_columns(attempts.c.token, attempts.c.number.label("attempt"), attempts.c.hedge)
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(_ASKED, attempts.c.state == "live")
    .order_by(jobs.c.kind, *ORDER)
)
