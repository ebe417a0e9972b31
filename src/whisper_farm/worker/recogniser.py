"""One recogniser: a child process with one model, seen from the agent. It takes batches, and answers chunk by chunk.

Promises: when the process dies, every batch in it ends with `ChildDiedError`. It is killed for a batch that takes too
long, and for one that nobody wants any more and that does not end. Which model is loaded, and when, the pool decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from whisper_farm.engines.cache import readable
from whisper_farm.errors import EngineError, every_error
from whisper_farm.protocol.jobs import TranscribeResult, TranscribeTask
from whisper_farm.protocol.worker import Claim
from whisper_farm.to_the_end import to_the_end
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker import pipe
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.handing_in import JobFailure
from whisper_farm.worker.tasks import ended

START_SECONDS = 120.0
LOAD_SECONDS = 900.0
"""A process that is silent for so long while it starts, or while it loads or fetches its model, will not speak."""
UNWANTED_SECONDS = 30.0
"""How long a recogniser may take to heed a cancel."""
ChunkEnd = TranscribeResult | JobFailure
News = Callable[[pipe.Fetching], None]
_Answer = pipe.Recognised | pipe.Refused | pipe.BatchEnded


@dataclass(eq=False, slots=True)
class ChunkJob:
    """One chunk to recognise. A `suspect` is recognised with nothing beside it."""

    claim: Claim
    task: TranscribeTask
    flac: bytes
    suspect: bool
    end: asyncio.Future[ChunkEnd] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def wanted(self) -> bool:
        """Whether nobody has given it up and it has no end yet."""
        return not self.end.done()

    def in_batch(self, number: int) -> pipe.BatchChunk:
        """As the process is told of it, beside the audio."""
        return pipe.BatchChunk(
            batch=number,
            start_seconds=self.task.start_seconds,
            seconds=self.task.end_seconds - self.task.start_seconds,
            language=self.task.options.language,
            expected_language=self.task.expected_language,
        )


@dataclass(eq=False, slots=True)
class _Batch:
    """Jobs that are in the process now."""

    jobs: Sequence[ChunkJob]
    answers: asyncio.Queue[_Answer | ChildDiedError]
    deadlines: list[asyncio.TimerHandle]


class MissingError(Exception):
    """The model has to be fetched first; `why` is for when that does not help."""

    def __init__(self, why: EngineError) -> None:
        super().__init__(why.message)
        self.why = why


class Recogniser:
    """One process that takes `slots` batches at once. Make it with `start`, then `load`."""

    def __init__(self, child: Child, capability: pipe.Capability, models: Iterable[str] = ()) -> None:
        """It may read these models, where they are folders or files."""
        self.capability, self.models = capability, frozenset(models)
        self.slots = self.free_slots = 0
        self.alive = True
        self.pid = child.pid
        self._child = child
        self._alone, self._count = False, 0
        self._batches: dict[int, _Batch] = {}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, order: pipe.LookAround, models: Iterable[str] = ()) -> Recogniser:
        """A process that has looked around. EngineError if the engine cannot run here, ChildDiedError if it died.

        It may read what was fetched, and these models where they are folders or files.
        """
        places = await asyncio.to_thread(lambda: [*readable(models, order.model_dir)])
        child = await Child.start("recogniser", engine=order.engine, readable=places)
        try:
            await child.send(order)
            answer, _ = await child.receive(START_SECONDS)
            if isinstance(answer, pipe.Capability):
                return cls(child, answer, models)
            raise _engine_error(answer)
        except BaseException:
            await child.close()
            raise

    def take_slot(self, alone: bool) -> bool:
        """Reserve a slot for the next `recognise`; `alone` wants the whole process. False if there is none."""
        if not self.alive or self._alone or not self.free_slots or (alone and self.free_slots < self.slots):
            return False
        self.free_slots -= 1
        self._alone = alone
        return True

    async def load(self, options: RecognitionOptions, died: Callable[[ChildDiedError], None]) -> pipe.Ready:
        """Load the model. MissingError if it is not here, EngineError if it does not work, ChildDiedError if that
        killed the process.

        Afterwards `died` is called when the process is gone, whether or not it was working.
        """
        slots = self.capability.slots if self.capability.shares_model else 1
        await self._child.send(pipe.Load(options=options, slots=slots, threads=self.capability.threads))
        answer, _ = await self._child.receive(LOAD_SECONDS)
        if isinstance(answer, pipe.Missing):
            raise MissingError(_engine_error(answer))
        if not isinstance(answer, pipe.Ready):
            raise _engine_error(answer)
        self.slots = self.free_slots = slots
        self._reading = asyncio.create_task(self._read(died), name=f"answers of {self.pid}")
        return answer

    async def recognise(
        self,
        jobs: Sequence[ChunkJob],
        options: RecognitionOptions,
        limit_seconds: float,
        answered: Callable[[ChunkJob, pipe.Recognised | pipe.Refused], None],
    ) -> pipe.BatchEnded:
        """Call `answered` for each job as its answer comes; return at the end of the batch. ChildDiedError if it never
        ends, also because `limit_seconds` are over. Take a slot before; this gives it back."""
        self._count += 1
        number, batch = self._count, _Batch(jobs, asyncio.Queue(), [])
        self._batches[number] = batch
        self._limit(batch, limit_seconds, "a batch was not done after")
        try:
            for job in jobs:
                await self._child.send(job.in_batch(number), job.flac)
            await self._child.send(pipe.Recognise(batch=number, options=options))
            while not isinstance(answer := await batch.answers.get(), pipe.BatchEnded | ChildDiedError):
                answered(jobs[answer.index], answer)
            if isinstance(answer, ChildDiedError):
                raise answer
            return answer
        finally:
            self.free_slots += 1
            self._alone = False
            del self._batches[number]
            for deadline in batch.deadlines:
                deadline.cancel()

    def cancel(self, job: ChunkJob) -> None:
        """Nobody wants this job any more: tell the process, which has a while to let go of it."""
        for number, batch in self._batches.items():
            if job in batch.jobs:
                self._child.post(pipe.Cancel(batch=number, index=batch.jobs.index(job)))
                if not any(each.wanted for each in batch.jobs):
                    self._limit(batch, UNWANTED_SECONDS, "it did not heed a cancel after")

    async def close(self) -> None:
        """End the process and collect it, also when cancelled."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        await ended(self._reading)
        await self._child.close()

    def _limit(self, batch: _Batch, seconds: float, what: str) -> None:
        reason = f"was killed: {what} {seconds:g} s"
        batch.deadlines.append(asyncio.get_running_loop().call_later(seconds, self._child.kill, reason))

    async def _read(self, died: Callable[[ChildDiedError], None]) -> None:
        try:
            while True:
                answer, _ = await self._child.receive()
                if isinstance(answer, _Answer) and answer.batch in self._batches:
                    self._batches[answer.batch].answers.put_nowait(answer)
        except ChildDiedError as death:
            self.alive = False
            for batch in self._batches.values():
                batch.answers.put_nowait(death)
            died(death)


async def fetch(order: pipe.LookAround, options: RecognitionOptions, news: News) -> None:
    """Bring a model to this machine, in a process of its own: no recogniser may write models.

    EngineError if it cannot be had, ChildDiedError if the process is gone.
    """
    child = await Child.start("fetcher")
    try:
        await child.send(pipe.Fetch(order=order, options=options))
        while isinstance(answer := (await child.receive(LOAD_SECONDS))[0], pipe.Fetching):
            news(answer)
        if not isinstance(answer, pipe.Fetched):
            raise _engine_error(answer)
    finally:
        await child.close()


def _engine_error(answer: pipe.PipeMessage) -> EngineError:
    if not isinstance(answer, pipe.Unavailable | pipe.Missing):
        return EngineError(f"The recogniser answered with {type(answer).__name__}, out of turn.")
    kind = every_error().get(answer.code, EngineError)
    return kind(answer.message) if issubclass(kind, EngineError) else EngineError(answer.message)
