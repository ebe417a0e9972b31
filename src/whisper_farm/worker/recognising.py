"""The way of a chunk through the worker: claimed, fetched, put in a batch, recognised, handed in.

Promises: a batch holds chunks with equal options, as many as there are for the slots that are free. When a child dies,
the chunks that were in it are tried again one by one, with nothing beside them. Only one that dies alone is failed and
charged. If memory was short, batches get smaller. A model that cannot be had fails its jobs uncharged. A drain gives
back whatever no child has begun. Audio stays in memory: little more than the slots take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from whisper_farm import errors
from whisper_farm.protocol.jobs import TranscribeTask
from whisper_farm.protocol.worker import Claim
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import ChildDiedError
from whisper_farm.worker.handing_in import JobFailure, failed_by
from whisper_farm.worker.notices import Notice, Tell, tell_nobody
from whisper_farm.worker.pipe import MAX_BODY_BYTES, BatchEnded, Recognised, Refused
from whisper_farm.worker.recogniser import ChunkEnd, ChunkJob, Recogniser
from whisper_farm.worker.recogniser_pool import RecogniserPool
from whisper_farm.worker.tasks import BackgroundTasks, Wakeup, now

COMPANY_SECONDS = 1.0
"""How long a fetched chunk may wait for others that are on their way, to share a batch with them."""
LIMIT_AUDIO_SECONDS = 600.0
"""A batch with more audio than this has more time, in proportion."""
SLOTS_PER_BATCH_AHEAD = 4
WORTH_ASKING = 4
"""While the slots are busy, ask for more once there is room for this part of what may be claimed ahead."""
_LOOK_SECONDS = 1.0


class Recognising:
    """All transcribe jobs of one worker."""

    def __init__(
        self,
        api: WorkerApi,
        pool: RecogniserPool,
        tasks: BackgroundTasks,
        chunk_timeout_seconds: float,
        room_changed: Callable[[], None],
        tell: Tell = tell_nobody,
    ) -> None:
        self.changed = Wakeup()
        self._api, self._pool, self._tasks, self._chunk_timeout_seconds = api, pool, tasks, chunk_timeout_seconds
        self._room_changed, self._tell = room_changed, tell
        self._fetching = 0
        self._pending: list[ChunkJob] = []
        self._begun: set[ChunkJob] = set()
        self._waiting_since = 0.0
        self._draining = False

    def room(self, held: int) -> int:
        """How many more jobs to claim, `held` of them being in hand: what the free slots take, or, when none is free,
        one batch ahead for every few slots; a single one as long as its model is not known to load here."""
        pool = self._pool
        if self._draining:
            return 0
        if not pool.slots:
            return 0 if pool.loading else 1 - held
        waiting = held - len(self._begun)
        if pool.free_slots:
            return pool.batch * pool.free_slots - waiting
        ahead = pool.batch * -(-pool.slots // SLOTS_PER_BATCH_AHEAD)
        return ahead - waiting if ahead - waiting >= ahead // WORTH_ASKING else 0

    async def recognise(self, claim: Claim, task: TranscribeTask) -> ChunkEnd:
        """Fetch the audio of a claim and recognise it; cancel this to forget it, wherever it is."""
        if task.size > MAX_BODY_BYTES:
            raise errors.TooLarge(f"The chunk of job {claim.job_id} has {task.size} bytes, more than a worker takes.")
        self._fetching += 1
        try:
            flac = await self._api.download(task.transfer, task.size, task.sha256)
        finally:
            self._fetching -= 1
            self.changed.notify_all()
        job = ChunkJob(claim, task, flac, suspect=task.alone)
        if not self._pending:
            self._waiting_since = now()
        self._pending.append(job)
        try:
            return await job.end
        except asyncio.CancelledError:
            if job in self._pending:
                self._pending.remove(job)
            for recogniser in self._pool.recognisers:
                recogniser.cancel(job)
            raise
        finally:
            self._begun.discard(job)
            self.changed.notify_all()

    def drain(self) -> frozenset[str]:
        """Begin nothing more; the tokens of what a child has begun."""
        self._draining = True
        return frozenset(job.claim.token for job in self._begun)

    async def run(self) -> None:
        """Give the children work until cancelled."""
        while True:
            self._pool.fill()
            if not await self._step():
                await self.changed.wait(_LOOK_SECONDS)

    async def _step(self) -> bool:
        """One thing that can be done now; False if there is none."""
        for job in list(self._pending):
            if error := self._pool.refusal(job.task.options):
                self._end(job, _refused(error))
        if not self._pending or self._draining:
            return False
        head = next((job for job in self._pending if self._pool.serves(job.task.options)), None)
        if head is not self._pending[0] and not self._pool.loading:
            await self._pool.switch(self._pending[0].task.options)
            return True
        return head is not None and self._begin_batch(head)

    def _begin_batch(self, head: ChunkJob) -> bool:
        if not head.suspect and self._worth_waiting():
            return False
        recogniser = next((each for each in self._pool.recognisers if each.take_slot(head.suspect)), None)
        if recogniser is None:
            return False
        jobs = [head] if head.suspect else self._company_of(head)
        for job in jobs:
            self._pending.remove(job)
            self._begun.add(job)
        begun = {"count": len(jobs), "transcription_ids": sorted({job.claim.transcription_id for job in jobs})}
        self._tell(Notice("batch_begun", f"Chunks recognised together: {len(jobs)}.", begun))
        batch = self._tasks.start(self._recognise(recogniser, jobs), f"batch of {len(jobs)}")
        batch.add_done_callback(self._batch_done)
        self._room_changed()
        return True

    def _worth_waiting(self) -> bool:
        """Whether more chunks are about to arrive for a batch that is not full."""
        full = len(self._pending) >= self._pool.batch
        return bool(self._fetching) and not full and now() < self._waiting_since + COMPANY_SECONDS

    def _company_of(self, head: ChunkJob) -> list[ChunkJob]:
        """The head and others with equal options, its fair share of what waits for the slots that are free."""
        key = _key(head.task.options)
        group = [job for job in self._pending if not job.suspect and _key(job.task.options) == key]
        slots = 1 + self._pool.free_slots
        return group[: min(self._pool.batch, -(-len(group) // slots))]

    def _batch_done(self, batch: asyncio.Task[None]) -> None:
        self.changed.notify_all()
        self._room_changed()

    async def _recognise(self, recogniser: Recogniser, jobs: list[ChunkJob]) -> None:
        left = dict.fromkeys(jobs)

        def answered(job: ChunkJob, answer: Recognised | Refused) -> None:
            if job in left:  # an engine may answer twice
                del left[job]
                if isinstance(answer, Recognised):
                    self._end(job, answer.result)
                else:
                    self._end(job, JobFailure(answer.code, answer.message, permanent=True))

        options = jobs[0].task.options.model_copy(update={"language": None})
        seconds = sum(job.task.end_seconds - job.task.start_seconds for job in jobs)
        scale = max(1.0, seconds / LIMIT_AUDIO_SECONDS)
        try:
            end = await recogniser.recognise(jobs, options, self._chunk_timeout_seconds * scale, answered)
        except ChildDiedError as death:
            if death.short_of_memory and len(jobs) > 1:
                self._pool.largest_batch = len(jobs) // 2
            self._not_done(left, JobFailure(errors.RecogniserCrashed.code, death.evidence))
        except Exception as error:
            self._not_done(left, failed_by(error))
        else:
            self._not_done(left, _why(end))

    def _not_done(self, jobs: Iterable[ChunkJob], why: JobFailure) -> None:
        """What becomes of jobs without an answer: one that was alone is to blame, others are tried alone."""
        again = []
        for job in jobs:
            if job.suspect or why.permanent or not why.charged:
                self._end(job, why)
            elif job.wanted:
                job.suspect = True
                again.append(job)
                self._begun.discard(job)
                if self._draining:  # nobody begins it here any more: it is handed back
                    job.end.cancel()
        self._pending[:0] = again

    def _end(self, job: ChunkJob, end: ChunkEnd) -> None:
        if job in self._pending:
            self._pending.remove(job)
        if job.wanted:
            job.end.set_result(end)


def _key(options: RecognitionOptions) -> RecognitionOptions:
    """What must be equal within a batch: each chunk has its own language, and the revision is the loaded one."""
    return options.model_copy(update={"language": None, "revision": None})


def _refused(error: errors.EngineError) -> JobFailure:
    """The model cannot be had here: others may have the job (unless nobody could do what it asks for)."""
    if isinstance(error, errors.OptionUnsupported):
        return JobFailure(error.code, error.message, permanent=True)
    code = (
        errors.SpeakersUnavailable.code
        if isinstance(error, errors.SpeakersUnavailable)
        else errors.ModelUnavailable.code
    )
    return JobFailure(code, error.message, charged=False)


def _why(end: BatchEnded) -> JobFailure:
    """How to report a chunk that the engine left out of its answers."""
    message = end.message or "The engine gave no answer for this chunk."
    if end.code == errors.OptionUnsupported.code:
        return JobFailure(end.code, message, permanent=True)
    if end.code in (errors.ModelUnavailable.code, errors.EngineUnavailable.code):
        return JobFailure(errors.ModelUnavailable.code, message, charged=False)
    return JobFailure(end.code or errors.EngineError.code, message)
