"""The agent's side of one recogniser child: find out what it can do, load a model, give it batches, hear the answers.

Promises: answers arrive one by one as the child finds them; when the child dies, every batch in it ends with
`ChildDiedError`; a batch that takes too long, or that nobody wants and that does not end, is the child's death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from whisper_farm.errors import EngineError, every_error
from whisper_farm.protocol.worker import Claim, TranscribeTask
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.deaths import passing
from whisper_farm.worker.pipe import (
    Able,
    BatchEnded,
    Begin,
    Cancel,
    Chunk,
    Fetching,
    Heard,
    Load,
    Ready,
    Recognise,
    Refused,
    Unable,
)

START_SECONDS = 120.0
LOAD_SECONDS = 900.0
"""A child that is silent for so long while it starts, or while it loads or fetches its model, is not going to speak."""
UNWANTED_SECONDS = 30.0
"""How long a recogniser may take to heed a cancel."""


@dataclass(eq=False, slots=True)
class Job:
    """One chunk to recognise. A `suspect` is recognised with nothing beside it."""

    claim: Claim
    task: TranscribeTask
    flac: bytes
    suspect: bool
    wanted: bool = True

    @property
    def seconds(self) -> float:
        """How much audio it is."""
        return self.task.end_seconds - self.task.start_seconds


@dataclass(eq=False, slots=True)
class _Batch:
    """Jobs that are in the child now."""

    jobs: Sequence[Job]
    answers: asyncio.Queue[Heard | Refused | BatchEnded | ChildDiedError]
    deadlines: list[asyncio.TimerHandle]


class Recogniser:
    """One child with room for `lanes` batches. Make it with `start`, then `load`."""

    def __init__(self, child: Child, able: Able) -> None:
        self.able = able
        self.ready: Ready | None = None
        self.lanes = 0
        self.free_lanes = 0
        self._alone = False
        self.pid = child.pid
        self._child = child
        self._count = 0
        self._batches: dict[int, _Batch] = {}
        self._reading: asyncio.Task[None] | None = None
        self._death: ChildDiedError | None = None

    @classmethod
    async def start(cls, begin: Begin) -> Recogniser:
        """A child that has looked around; EngineError if the engine cannot run here, ChildDiedError if it died."""
        child = await Child.start("recogniser")
        try:
            await child.send(begin)
            answer, _ = await child.receive(START_SECONDS)
            if isinstance(answer, Unable):
                raise _engine_error(answer)
            assert isinstance(answer, Able)
            return cls(child, answer)
        except BaseException:
            await child.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it still takes batches."""
        return self._death is None

    def take_lane(self, alone: bool) -> bool:
        """Reserve a lane for the next `recognise`; `alone` wants the whole child. False if there is none."""
        if not self.alive or self._alone or not self.free_lanes or (alone and self.free_lanes < self.lanes):
            return False
        self.free_lanes -= 1
        self._alone = alone
        return True

    async def load(
        self,
        options: RecognitionOptions,
        news: Callable[[Fetching], None],
        died: Callable[[ChildDiedError], None],
    ) -> Ready:
        """Load the model; EngineError if it cannot be had, ChildDiedError if that killed the child. Afterwards `died`
        is called when the child is gone, whether or not it was working."""
        lanes = self.able.lanes if self.able.shares_model else 1
        await self._child.send(Load(options=options, lanes=lanes, threads=self.able.threads))
        while True:
            answer, _ = await self._child.receive(LOAD_SECONDS)
            match answer:
                case Fetching():
                    news(answer)
                case Unable():
                    raise _engine_error(answer)
                case Ready():
                    self.ready, self.lanes, self.free_lanes = answer, lanes, lanes
                    self._reading = asyncio.create_task(self._read(died), name=f"answers of {self.pid}")
                    return answer

    async def recognise(
        self,
        jobs: Sequence[Job],
        options: RecognitionOptions,
        limit_seconds: float,
        answered: Callable[[Job, Heard | Refused], None],
    ) -> BatchEnded:
        """Call `answered` for each job as its answer comes; return at the end of the batch. ChildDiedError when no more
        will come, also because `limit_seconds` are over. Needs a lane taken before, and gives it back."""
        self._count += 1
        number, batch = self._count, _Batch(jobs, asyncio.Queue(), [])
        self._batches[number] = batch
        self._limit(batch, limit_seconds, f"was killed: a batch was not done after {limit_seconds:g} s")
        try:
            for job in jobs:
                chunk = Chunk(batch=number, start_seconds=job.task.start_seconds, language=job.task.options.language)
                await self._child.send(chunk, job.flac)
            await self._child.send(Recognise(batch=number, options=options))
            passing("mid_recognition")
            while not isinstance(answer := await batch.answers.get(), BatchEnded | ChildDiedError):
                answered(jobs[answer.index], answer)
            if isinstance(answer, ChildDiedError):
                raise answer
            return answer
        finally:
            self.free_lanes += 1
            self._alone = False
            del self._batches[number]
            for deadline in batch.deadlines:
                deadline.cancel()

    def cancel(self, job: Job) -> None:
        """Nobody wants this job any more: tell the child, which has a while to let go of it."""
        job.wanted = False
        for number, batch in self._batches.items():
            if job in batch.jobs:
                self._child.post(Cancel(batch=number, index=batch.jobs.index(job)))
                if not any(each.wanted for each in batch.jobs):
                    self._limit(
                        batch, UNWANTED_SECONDS, f"was killed: it did not heed a cancel for {UNWANTED_SECONDS:g} s"
                    )

    async def close(self) -> None:
        """End the child and collect it."""
        if self._reading and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._child.close()

    def _limit(self, batch: _Batch, seconds: float, reason: str) -> None:
        batch.deadlines.append(asyncio.get_running_loop().call_later(seconds, self._child.kill, reason))

    async def _read(self, died: Callable[[ChildDiedError], None]) -> None:
        try:
            while True:
                answer, _ = await self._child.receive()
                if isinstance(answer, Heard | Refused | BatchEnded) and (batch := self._batches.get(answer.batch)):
                    batch.answers.put_nowait(answer)
        except ChildDiedError as death:
            self._death = death
            for batch in self._batches.values():
                batch.answers.put_nowait(death)
            died(death)


def _engine_error(answer: Unable) -> EngineError:
    kind = every_error().get(answer.code, EngineError)
    return kind(answer.message) if issubclass(kind, EngineError) else EngineError(answer.message)
