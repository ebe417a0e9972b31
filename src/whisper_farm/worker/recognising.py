"""The way of a chunk through the worker: claimed, fetched, put in a batch, recognised, handed in.

Promises: a batch holds chunks with equal options, as many as there are for the lanes that are free; when a child dies,
the chunks that were in it are tried again one by one with nothing beside them, and only one that dies alone is failed
and charged (if memory was short, batches get smaller); a model that cannot be had fails its jobs uncharged; a drain
gives back whatever no child has begun. Audio stays in memory: little more than the lanes take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from whisper_farm.errors import (
    EngineError,
    EngineUnavailable,
    FarmError,
    LeaseLost,
    ModelUnavailable,
    OptionUnsupported,
    RecogniserCrashed,
    TooLarge,
)
from whisper_farm.protocol.worker import Claim, TranscribeResult, TranscribeTask
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.bell import Bell
from whisper_farm.worker.child import ChildDiedError
from whisper_farm.worker.clock import now
from whisper_farm.worker.frames import MAX_BODY_BYTES
from whisper_farm.worker.handing_in import Failed, failed_by
from whisper_farm.worker.pipe import BatchEnded, Heard, Refused
from whisper_farm.worker.recogniser import Job, Recogniser
from whisper_farm.worker.recognisers import Pool
from whisper_farm.worker.tasks import Crew, ended

COMPANY_SECONDS = 1.0
"""How long a fetched chunk may wait for others that are on their way, to share a batch with them."""
LIMIT_AUDIO_SECONDS = 600.0
"""A batch with more audio than this has more time, in proportion."""
LANES_PER_BATCH_AHEAD = 4
WORTH_ASKING = 4
"""While the lanes are busy, ask for more once there is room for this part of what may be claimed ahead."""
_LOOK_SECONDS = 1.0


class Recognition:
    """All transcribe jobs of one worker. `finished` receives the end of each, `lost` a claim the farm denies."""

    def __init__(
        self,
        api: WorkerApi,
        pool: Pool,
        crew: Crew,
        chunk_timeout_seconds: float,
        finished: Callable[[Claim, TranscribeResult | Failed], None],
        lost: Callable[[Claim], None],
        room_changed: Callable[[], None],
    ) -> None:
        self.changed = Bell()
        self._api = api
        self._pool = pool
        self._crew = crew
        self._chunk_timeout_seconds = chunk_timeout_seconds
        self._finished = finished
        self._lost = lost
        self._room_changed = room_changed
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._jobs: dict[str, Job] = {}
        self._pending: list[Job] = []
        self._batches: set[asyncio.Task[None]] = set()
        self._waiting_since = 0.0
        self._draining = False

    def room(self, held: int) -> int:
        """How many more jobs to claim, `held` of them being in hand: what the free lanes take, or, when none is free,
        one batch ahead for every few lanes; a single one as long as its model is not known to load here."""
        pool = self._pool
        if self._draining or pool.resting or pool.failure:
            return 0
        if not pool.lanes:
            return 0 if pool.loading else 1 - held
        waiting = held - (len(self._jobs) - len(self._pending))
        if pool.free_lanes:
            return pool.batch * pool.free_lanes - waiting
        ahead = pool.batch * -(-pool.lanes // LANES_PER_BATCH_AHEAD)
        return ahead - waiting if ahead - waiting >= ahead // WORTH_ASKING else 0

    def take(self, claim: Claim, task: TranscribeTask) -> None:
        """Fetch the audio of a claim and recognise it."""
        self._fetching[claim.token] = self._crew.start(self._fetch(claim, task), f"audio of {claim.job_id}")

    def drop(self, token: str) -> None:
        """Forget a job, wherever it is."""
        if fetching := self._fetching.pop(token, None):
            fetching.cancel()
        if job := self._jobs.pop(token, None):
            job.wanted = False
            if job in self._pending:
                self._pending.remove(job)
            for recogniser in self._pool.recognisers:
                recogniser.cancel(job)
        self.changed.ring()

    def drain(self) -> tuple[str, ...]:
        """Begin nothing more; the tokens of what no child has begun, forgotten here."""
        self._draining = True
        tokens = (*self._fetching, *(job.claim.token for job in self._pending))
        for token in tokens:
            self.drop(token)
        return tokens

    async def idle(self) -> None:
        """Return when no child is recognising anything."""
        while self._batches:
            await self.changed.wait(_LOOK_SECONDS)

    async def close(self) -> None:
        """Drop everything at once; the children are the pool's to end."""
        await ended(*self._fetching.values(), *self._batches)

    async def run(self) -> None:
        """Give the children work until cancelled."""
        while True:
            self._pool.fill()
            if not await self._step():
                await self.changed.wait(_LOOK_SECONDS)

    async def _step(self) -> bool:
        """One thing that can be done now; False if there is none."""
        if self._pool.failure:
            self._fail_all(self._pool.failure)
            return True
        if not self._pending or self._draining:
            return False
        options = self._pending[0].task.options
        if self._pool.serves(options):
            return self._begin_batch()
        if self._batches:
            return False
        await self._pool.switch(options)
        return True

    def _fail_all(self, error: EngineError) -> None:
        """The model cannot be had here: others may have the jobs (unless nobody could do what they ask for)."""
        hopeless = isinstance(error, OptionUnsupported)
        code = error.code if hopeless else ModelUnavailable.code
        for job in [job for job in self._pending if self._pool.serves(job.task.options)]:
            self._end(job, Failed(code, error.message, permanent=hopeless, charged=hopeless))
        self._pool.forget_failure()

    def _begin_batch(self) -> bool:
        head = self._pending[0]
        if not head.suspect and self._worth_waiting():
            return False
        recogniser = next((each for each in self._pool.recognisers if each.take_lane(head.suspect)), None)
        if recogniser is None:
            return False
        jobs = [head] if head.suspect else self._company_of(head)
        for job in jobs:
            self._pending.remove(job)
        batch = self._crew.start(self._recognise(recogniser, jobs), f"batch of {len(jobs)}")
        self._batches.add(batch)
        batch.add_done_callback(self._batch_done)
        self._room_changed()
        return True

    def _worth_waiting(self) -> bool:
        """Whether more chunks are about to arrive for a batch that is not full."""
        full = len(self._pending) >= self._pool.batch
        return bool(self._fetching) and not full and now() < self._waiting_since + COMPANY_SECONDS

    def _company_of(self, head: Job) -> list[Job]:
        """The head and others with equal options, its fair share of what waits for the lanes that are free."""
        key = _key(head.task.options)
        group = [job for job in self._pending if not job.suspect and _key(job.task.options) == key]
        lanes = 1 + self._pool.free_lanes
        return group[: min(self._pool.batch, -(-len(group) // lanes))]

    def _batch_done(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self.changed.ring()
        self._room_changed()

    async def _fetch(self, claim: Claim, task: TranscribeTask) -> None:
        try:
            if task.size > MAX_BODY_BYTES:
                raise TooLarge(f"The chunk of job {claim.job_id} has {task.size} bytes, more than a worker takes.")
            flac = await self._api.download(task.transfer, task.size, task.sha256)
        except LeaseLost:
            self._lost(claim)
        except FarmError as error:
            self._finished(claim, failed_by(error))
        else:
            self._arrived(Job(claim, task, flac, suspect=task.alone))
        finally:
            self._fetching.pop(claim.token, None)
            self.changed.ring()

    def _arrived(self, job: Job) -> None:
        if not self._pending:
            self._waiting_since = now()
        self._jobs[job.claim.token] = job
        self._pending.append(job)

    async def _recognise(self, recogniser: Recogniser, jobs: list[Job]) -> None:
        left = dict.fromkeys(jobs)

        def answered(job: Job, answer: Heard | Refused) -> None:
            del left[job]
            self._end(job, answer.result if isinstance(answer, Heard) else Failed(answer.code, answer.message, True))

        options = jobs[0].task.options.model_copy(update={"language": None})
        scale = max(1.0, sum(job.seconds for job in jobs) / LIMIT_AUDIO_SECONDS)
        try:
            end = await recogniser.recognise(jobs, options, self._chunk_timeout_seconds * scale, answered)
        except ChildDiedError as death:
            if death.short_of_memory and len(jobs) > 1:
                self._pool.largest_batch = len(jobs) // 2
            self._not_done(left, Failed(RecogniserCrashed.code, death.evidence))
        else:
            self._not_done(left, _why(end))

    def _not_done(self, jobs: Iterable[Job], why: Failed) -> None:
        """What becomes of jobs without an answer: one that was alone is to blame, others are tried alone."""
        again = []
        for job in jobs:
            if job.suspect or why.permanent or not why.charged:
                self._end(job, why)
            elif job.wanted:
                job.suspect = True
                again.append(job)
        self._pending[:0] = again

    def _end(self, job: Job, end: TranscribeResult | Failed) -> None:
        self._jobs.pop(job.claim.token, None)
        if job in self._pending:
            self._pending.remove(job)
        if job.wanted:
            self._finished(job.claim, end)


def _key(options: RecognitionOptions) -> RecognitionOptions:
    """What must be equal within a batch: each chunk has its own language, and the revision is the loaded one."""
    return options.model_copy(update={"language": None, "revision": None})


def _why(end: BatchEnded) -> Failed:
    """How to report a chunk that the engine left out of its answers."""
    message = end.message or "The engine gave no answer for this chunk."
    if end.code == OptionUnsupported.code:
        return Failed(end.code, message, permanent=True)
    if end.code in (ModelUnavailable.code, EngineUnavailable.code):
        return Failed(ModelUnavailable.code, message, charged=False)
    return Failed(end.code or EngineError.code, message)
