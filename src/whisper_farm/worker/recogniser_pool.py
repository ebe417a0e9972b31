"""The recognisers of one worker: a pool of child processes, and the one model that they have loaded.

Promises: where a model may have to be fetched, the first process loads alone and the others follow. A process of its
own fetches. A dead process is replaced. One that dies while it loads is tried again after growing pauses; after three
such deaths the model counts as unavailable. Another model means other processes: it is fetched while the old ones work
on, and they are ended before it loads, so that their memory is free. A model that cannot be had rests for a while, and
the one before stays or comes back. What one process does is said in `recogniser.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable, OptionUnsupported, SpeakersUnavailable
from whisper_farm.models import may_be_folder
from whisper_farm.protocol.wire import MAX_BATCH
from whisper_farm.protocol.worker import MAX_RESTING
from whisper_farm.settings import WorkerSettings
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker import pipe
from whisper_farm.worker.child import ChildDiedError
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.recogniser import MissingError, Recogniser, fetch
from whisper_farm.worker.tasks import BackgroundTasks, ended, now

T = TypeVar("T")

LOAD_DEATHS = 3
_FIRST_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 60.0
_LOOK_SECONDS = 0.05


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
        self._settings, self._tasks, self._changed, self._tell = settings, tasks, changed, tell
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
                recogniser = await Recogniser.start(_order(engine, self._settings), self._settings.models or ())
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
    def busy(self) -> bool:
        """Whether something is being recognised."""
        return self.free_slots < self.slots

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
        if options.diarize and _voices_of(self.model) != _voices_of(options):
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
        prepared = await self._prepared(model, lambda _: self._fetch(model))
        if prepared is None:
            return
        self._spare[model.engine] = prepared[0]
        self._handing_over = True
        await ended(*self._starting)
        while self.busy:  # noqa: ASYNC110 - slots come free, and processes die, in many places
            await asyncio.sleep(_LOOK_SECONDS)
        await self._end_old(keep_spare=model.engine)
        self._before, self._handing_over = self.model, False
        self._want(model)

    def _came(self, task: asyncio.Task[None]) -> None:
        self._coming, self._handing_over = None, False
        self._changed()

    async def _start(self, model: RecognitionOptions) -> None:
        prepared = await self._prepared(model, lambda recogniser: self._load(recogniser, model))
        if prepared is not None:
            self._loaded(model, *prepared)

    async def _load(self, recogniser: Recogniser, model: RecognitionOptions) -> pipe.Ready:
        ready = await recogniser.load(model, self._died)
        if model.revision not in (None, ready.revision):
            raise _OtherRevisionError(f"{model.model} is at revision {ready.revision} here, not {model.revision}.")
        return ready

    async def _prepared(
        self, model: RecognitionOptions, prepare: Callable[[Recogniser], Awaitable[T]]
    ) -> tuple[Recogniser, T] | None:
        """A process that has prepared for this model, and what that gave; None if it failed, which is noted.

        Waits first for the end of the rest that earlier deaths have earned.
        """
        trouble = self._troubles.get(_keys(model)[0])
        await asyncio.sleep(max(0.0, trouble.until - now()) if trouble else 0.0)
        recogniser = None
        try:
            recogniser = await self._process_for(model)
            try:
                return recogniser, await prepare(recogniser)
            except MissingError:
                await recogniser.close()
                await self._fetch(model)
                recogniser = await self._process_for(model)  # one that may read what is new
                return recogniser, await prepare(recogniser)
        except BaseException as problem:
            error = problem.why if isinstance(problem, MissingError) else problem
            if recogniser:
                await recogniser.close()
            if isinstance(error, EngineError):
                self._give_up(model, error)
            elif isinstance(error, ChildDiedError):
                self._died_at_load(model, error)
            else:
                raise
            return None

    async def _fetch(self, model: RecognitionOptions) -> None:
        await fetch(_order(model.engine, self._settings), model, self._fetching)

    async def _process_for(self, model: RecognitionOptions) -> Recogniser:
        """A process that has loaded nothing yet, and may read this model."""
        named = self._settings.models or ()
        places = [one for one in (model.model, model.speaker_model) if one is not None and may_be_folder(one)]
        spare = self._spare.pop(model.engine, None)
        if spare is not None and not spare.models.issuperset(places):
            self._closing.append(spare)
            await spare.close()
            spare = None
        return spare or await Recogniser.start(_order(model.engine, self._settings), (*named, *places))

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        self._changed()

    def _loaded(self, model: RecognitionOptions, recogniser: Recogniser, ready: pipe.Ready) -> None:
        for key in _keys(model):
            self._troubles.pop(key, None)
        self._before = None
        self.recognisers.append(recogniser)
        self.ready = ready
        message = f"{ready.engine} is ready with {ready.model} on {ready.device} ({ready.compute_type})."
        self._tell(Notice("model_ready", message, {**ready.model_dump(), "pid": recogniser.pid}))

    def _give_up(self, model: RecognitionOptions, error: EngineError) -> None:
        """This process cannot load: if no other has, the model cannot be had, and rests."""
        general, of_revision, of_speakers, of_options = _keys(model)
        keys = {_OtherRevisionError: of_revision, SpeakersUnavailable: of_speakers, OptionUnsupported: of_options}
        key = keys.get(type(error), general)
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


def _voices_of(options: RecognitionOptions) -> tuple[bool, str | None]:
    """Whether voices are compared, and by which model."""
    return options.diarize, options.speaker_model


def _keys(options: RecognitionOptions) -> tuple[str, str, str, str]:
    """What a load that failed is remembered by: the model, its revision, the speaker model, or all options."""
    model = f"{options.engine} {options.model}"
    shared = options.model_copy(update={"language": None}).model_dump_json()
    speakers = f"speakers {options.diarize} {options.speaker_model}"
    return model, f"revision {model} {options.revision}", speakers, f"options {shared}"


def _order(engine: str, settings: WorkerSettings) -> pipe.LookAround:
    """What the owner has decided, for the process to add what it finds."""
    decided = settings.model_dump(include=set(pipe.LookAround.model_fields))
    return pipe.LookAround.model_validate({"engine": engine, **decided})
