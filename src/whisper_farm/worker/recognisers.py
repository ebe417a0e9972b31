"""The recognisers of one worker: a pool of child processes, and the one model that they have loaded.

Promises: where a model may have to be fetched, the first process loads alone and the others follow. A dead process is
replaced. One that dies while it loads is tried again after growing pauses; after three such deaths the model counts as
unavailable. Another model means other processes: it is fetched while the old ones work on, and they are ended before it
loads, so that their memory is free. A model that cannot be had rests for a while, and the one before stays or comes
back. When a process dies, every batch in it ends with `ChildDiedError`. A process is killed for a batch that takes too
long, and for one that nobody wants any more and that does not end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable, OptionUnsupported, every_error
from whisper_farm.protocol.jobs import TranscribeResult, TranscribeTask
from whisper_farm.protocol.wire import MAX_BATCH
from whisper_farm.protocol.worker import MAX_RESTING, Claim
from whisper_farm.settings import WorkerSettings
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker import pipe
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.handing_in import JobFailure
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.tasks import BackgroundTasks, ended, now

START_SECONDS = 120.0
LOAD_SECONDS = 900.0
"""A process that is silent for so long while it starts, or while it loads or fetches its model, will not speak."""
UNWANTED_SECONDS = 30.0
"""How long a recogniser may take to heed a cancel."""
LOAD_DEATHS = 3
_FIRST_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 60.0
_LOOK_SECONDS = 0.05
ChunkEnd = TranscribeResult | JobFailure
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


@dataclass(eq=False, slots=True)
class _Batch:
    """Jobs that are in the process now."""

    jobs: Sequence[ChunkJob]
    answers: asyncio.Queue[_Answer | ChildDiedError]
    deadlines: list[asyncio.TimerHandle]


class Recogniser:
    """One process that takes `slots` batches at once. Make it with `start`, then `load`."""

    def __init__(self, child: Child, capability: pipe.Capability) -> None:
        self.capability = capability
        self.slots = self.free_slots = 0
        self.alive = True
        self.pid = child.pid
        self._child = child
        self._alone, self._count = False, 0
        self._batches: dict[int, _Batch] = {}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, order: pipe.LookAround) -> Recogniser:
        """A process that has looked around. EngineError if the engine cannot run here, ChildDiedError if it died."""
        child = await Child.start("recogniser")
        try:
            await child.send(order)
            answer, _ = await child.receive(START_SECONDS)
            if isinstance(answer, pipe.Capability):
                return cls(child, answer)
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

    async def fetch(self, options: RecognitionOptions, news: Callable[[pipe.Fetching], None]) -> None:
        """Bring the model to this machine. EngineError if it cannot be had, ChildDiedError if the process is gone."""
        await self._child.send(pipe.Fetch(options=options))
        while not isinstance(answer := (await self._child.receive(LOAD_SECONDS))[0], pipe.Fetched):
            if not isinstance(answer, pipe.Fetching):
                raise _engine_error(answer)
            news(answer)

    async def load(
        self, options: RecognitionOptions, news: Callable[[pipe.Fetching], None], died: Callable[[ChildDiedError], None]
    ) -> pipe.Ready:
        """Load the model. EngineError if it cannot be had, ChildDiedError if that killed the process. Afterwards `died`
        is called when the process is gone, whether or not it was working."""
        slots = self.capability.slots if self.capability.shares_model else 1
        await self._child.send(pipe.Load(options=options, slots=slots, threads=self.capability.threads))
        while True:
            answer, _ = await self._child.receive(LOAD_SECONDS)
            if isinstance(answer, pipe.Fetching):
                news(answer)
            elif isinstance(answer, pipe.Ready):
                self.slots = self.free_slots = slots
                self._reading = asyncio.create_task(self._read(died), name=f"answers of {self.pid}")
                return answer
            else:
                raise _engine_error(answer)

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
                start, seconds = job.task.start_seconds, job.task.end_seconds - job.task.start_seconds
                chunk = pipe.BatchChunk(
                    batch=number,
                    start_seconds=start,
                    seconds=seconds,
                    language=job.task.options.language,
                    expected_language=job.task.expected_language,
                )
                await self._child.send(chunk, job.flac)
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
        """End the process and collect it."""
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


@dataclass(slots=True)
class _Trouble:
    """Loads of a model that failed one after the other; with an error where it cannot be had until then."""

    failures: int = 0
    until: float = 0.0
    error: EngineError | None = None

    def rest(self) -> None:
        """One more failure: a longer rest."""
        self.failures += 1
        seconds = min(_LONGEST_REST_SECONDS, _FIRST_REST_SECONDS * 2.0 ** min(self.failures - 1, 30))
        self.until = now() + seconds


class RecogniserPool:
    """All recognisers of a worker. `changed` is called whenever one is ready, dead or unable."""

    def __init__(
        self, settings: WorkerSettings, tasks: BackgroundTasks, changed: Callable[[], None], tell: Tell
    ) -> None:
        self.capabilities: dict[str, pipe.Capability] = {}
        """What each engine that runs here can do."""
        self.model: RecognitionOptions | None = None
        self.ready: pipe.Ready | None = None
        self.recognisers: list[Recogniser] = []
        self.largest_batch = MAX_BATCH
        """Lowered when larger batches of the present model proved too much for the memory."""
        self._settings = settings
        self._tasks = tasks
        self._changed = changed
        self._tell = tell
        self._spare: dict[str, Recogniser] = {}
        self._closing: list[Recogniser] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._coming: asyncio.Task[None] | None = None
        self._handing_over = False
        self._before: RecognitionOptions | None = None
        self._troubles: dict[str, _Trouble] = {}

    async def look_around(self) -> None:
        """Find out what the engines can do here. EngineUnavailable if there are some and none can run."""
        last: EngineError | None = None
        for engine in self._settings.engines:
            try:
                recogniser = await Recogniser.start(_order(engine, self._settings))
                self.capabilities[engine], self._spare[engine] = recogniser.capability, recogniser
            except (EngineError, ChildDiedError) as error:
                last = error if isinstance(error, EngineError) else EngineUnavailable(error.evidence)
                self._tell(Notice("engine_unavailable", f"{engine}: {last.message}", {"engine": engine}))
        if last and not self.capabilities:
            raise last

    @property
    def loading(self) -> bool:
        """Whether a model is wanted and no process has it yet."""
        return self._coming is not None or (self.model is not None and self.ready is None)

    @property
    def slots(self) -> int:
        """Slots of the processes that are alive and ready."""
        return sum(each.slots for each in self.recognisers if each.alive)

    @property
    def free_slots(self) -> int:
        """Those of them with nothing in them."""
        return sum(each.free_slots for each in self.recognisers if each.alive)

    @property
    def batch(self) -> int:
        """Chunks in one batch."""
        return min(self.capabilities[self.model.engine].batch, self.largest_batch) if self.model else 1

    def serves(self, options: RecognitionOptions) -> bool:
        """Whether the model loaded (or being loaded alone) is the one for these options, and takes batches."""
        if self._handing_over or self.model is None:
            return False
        if (self.model.engine, self.model.model) != (options.engine, options.model):
            return False
        revision = self.ready.revision if self.ready else self.model.revision
        return options.revision is None or revision in (options.revision, None)

    def refusal(self, options: RecognitionOptions) -> EngineError | None:
        """Why jobs with these options cannot be done here for now; None if nothing is known against them."""
        for key in _keys(options):
            trouble = self._troubles.get(key)
            if trouble is not None and trouble.error is not None and now() < trouble.until:
                return trouble.error
        return None

    def resting(self, engine: str) -> tuple[str, ...]:
        """The models of this engine that cannot be had here for now."""
        known = [key.partition(" ") for key, one in self._troubles.items() if one.error and now() < one.until]
        return tuple(sorted(model for name, _, model in known if name == engine))[:MAX_RESTING]

    async def switch(self, options: RecognitionOptions) -> None:
        """Load this model in the background. One that is loaded works on until this one is here."""
        if options.engine not in self.capabilities:
            self._give_up(options, EngineUnavailable(f"This worker does not run the engine {options.engine!r}."))
        elif self.slots:
            self._coming = self._tasks.start(self._change(options), "change of the model")
            self._coming.add_done_callback(self._came)
        else:
            await self.close(keep_spare=options.engine)
            self._want(options)

    def fill(self) -> None:
        """Start the processes that are missing."""
        self.recognisers = [each for each in self.recognisers if each.alive]
        if self.model is None or self._handing_over:
            return
        capability = self.capabilities[self.model.engine]
        nothing_to_fetch = self.ready or capability.models
        wanted = capability.slots if nothing_to_fetch and not capability.shares_model else 1
        for _ in range(wanted - len(self.recognisers) - len(self._starting)):
            task = self._tasks.start(self._start(self.model), "start of a recogniser")
            self._starting.add(task)
            task.add_done_callback(self._started)

    async def close(self, keep_spare: str = "") -> None:
        """End all processes and collect them, but for one of this engine that has loaded no model yet."""
        await ended(*self._starting, *([self._coming] if self._coming else []))
        await self._end_old(keep_spare)

    async def _end_old(self, keep_spare: str) -> None:
        spares = [self._spare.pop(engine) for engine in tuple(self._spare) if engine != keep_spare]
        self._closing += self.recognisers + spares
        self.recognisers = []
        await asyncio.gather(*(each.close() for each in self._closing))
        self._closing.clear()

    def _want(self, model: RecognitionOptions) -> None:
        self.model, self.ready, self.largest_batch = model, None, MAX_BATCH
        self.fill()

    async def _change(self, model: RecognitionOptions) -> None:
        """Fetch another model; then let the old processes end what they have, and load it in their place."""
        await self._rested(model)
        recogniser = self._spare.pop(model.engine, None)
        try:
            recogniser = recogniser or await Recogniser.start(_order(model.engine, self._settings))
            await recogniser.fetch(model, self._fetching)
        except BaseException as error:
            if recogniser:
                await recogniser.close()
            self._not_loaded(model, error)
        else:
            self._spare[model.engine] = recogniser
            self._handing_over = True
            await ended(*self._starting)
            while self.free_slots < self.slots:  # noqa: ASYNC110 - slots come free, and processes die, in many places
                await asyncio.sleep(_LOOK_SECONDS)
            await self._end_old(keep_spare=model.engine)
            self._before, self._handing_over = self.model, False
            self._want(model)

    def _came(self, task: asyncio.Task[None]) -> None:
        self._coming, self._handing_over = None, False
        self._changed()

    async def _rested(self, model: RecognitionOptions) -> None:
        """Wait for the end of the rest that earlier deaths have earned."""
        trouble = self._troubles.get(_keys(model)[0])
        await asyncio.sleep(max(0.0, trouble.until - now()) if trouble else 0.0)

    async def _start(self, model: RecognitionOptions) -> None:
        """Start one process and load the model in it."""
        await self._rested(model)
        recogniser = self._spare.pop(model.engine, None)
        try:
            recogniser = recogniser or await Recogniser.start(_order(model.engine, self._settings))
            ready = await recogniser.load(model, self._fetching, self._died)
            if model.revision not in (None, ready.revision):
                message = f"{model.model} is at revision {ready.revision} here, not {model.revision}."
                raise _OtherRevisionError(message)
        except BaseException as error:
            if recogniser:
                await recogniser.close()
            self._not_loaded(model, error)
        else:
            self._loaded(model, recogniser, ready)

    def _not_loaded(self, model: RecognitionOptions, error: BaseException) -> None:
        if isinstance(error, EngineError):
            self._give_up(model, error)
        elif isinstance(error, ChildDiedError):
            self._died_at_load(model, error)
        else:
            raise error

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        self._changed()

    def _loaded(self, model: RecognitionOptions, recogniser: Recogniser, ready: pipe.Ready) -> None:
        self._troubles.pop(_keys(model)[0], None)
        self._before = None
        self.recognisers.append(recogniser)
        self.ready = ready
        message = f"{ready.engine} is ready with {ready.model} on {ready.device} ({ready.compute_type})."
        self._tell(Notice("model_ready", message, {**ready.model_dump(), "pid": recogniser.pid}))

    def _give_up(self, model: RecognitionOptions, error: EngineError) -> None:
        """This process cannot load: if no other has, the model cannot be had, and rests."""
        general, of_revision, of_options = _keys(model)
        key = {_OtherRevisionError: of_revision, OptionUnsupported: of_options}.get(type(error), general)
        trouble = self._troubles.setdefault(key, _Trouble())
        trouble.rest()
        mine = self.model is not None and _keys(self.model) == _keys(model)
        if mine and self.slots:
            return
        trouble.error = error
        if mine:
            self.model, before, self._before = None, self._before, None
            if before is not None and self.refusal(before) is None:
                self._want(before)
        data = {"engine": model.engine, "model": model.model, "code": ModelUnavailable.code}
        self._tell(Notice("model_unavailable", error.message, data))
        self._changed()

    def _died_at_load(self, model: RecognitionOptions, death: ChildDiedError) -> None:
        self._died(death)
        trouble = self._troubles.setdefault(_keys(model)[0], _Trouble())
        if trouble.failures + 1 >= LOAD_DEATHS:
            message = f"The recogniser dies while it loads its model, {LOAD_DEATHS} times running. {death.evidence}"
            self._give_up(model, ModelUnavailable(message))
        else:
            trouble.rest()

    def _died(self, death: ChildDiedError) -> None:
        self._tell(Notice("child_died", str(death), {"last_words": death.last_words}))
        self._changed()

    def _fetching(self, news: pipe.Fetching) -> None:
        of_all = f" of {news.total_bytes:,}" if news.total_bytes else ""
        message = f"Fetching the model {news.model}: {news.done_bytes:,}{of_all} bytes."
        self._tell(Notice("model_fetching", message, news.model_dump()))


class _OtherRevisionError(ModelUnavailable):
    """The model is here, but not as it is wanted."""


def _keys(options: RecognitionOptions) -> tuple[str, str, str]:
    """What is remembered of a load that failed: of the model, of one revision of it, or of these options alone."""
    model = f"{options.engine} {options.model}"
    shared = options.model_copy(update={"language": None}).model_dump_json()
    return model, f"revision {model} {options.revision}", f"options {shared}"


def _order(engine: str, settings: WorkerSettings) -> pipe.LookAround:
    """What the owner has decided, for the process to add what it finds."""
    decided = settings.model_dump(include=set(pipe.LookAround.model_fields))
    return pipe.LookAround.model_validate({"engine": engine, **decided})


def _engine_error(answer: pipe.PipeMessage) -> EngineError:
    """The error that the process sent instead of what was asked for."""
    if not isinstance(answer, pipe.Unavailable):
        return EngineError(f"The recogniser answered with {type(answer).__name__}, out of turn.")
    kind = every_error().get(answer.code, EngineError)
    return kind(answer.message) if issubclass(kind, EngineError) else EngineError(answer.message)
