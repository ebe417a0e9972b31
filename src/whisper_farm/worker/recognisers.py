"""The recogniser children of one worker and the one model that they have loaded.

Promises: where a model may have to be fetched, the first child loads alone and the others follow; a dead child is
replaced; one that dies while it loads is tried again after growing pauses, and after three such deaths the model counts
as unavailable. Another model means other children: the old ones are ended first, so that their memory is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable
from whisper_farm.protocol.wire import MAX_BATCH
from whisper_farm.settings import WorkerSettings
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.child import ChildDiedError
from whisper_farm.worker.clock import now
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.pipe import Able, Begin, Fetching, Ready
from whisper_farm.worker.recogniser import Recogniser
from whisper_farm.worker.tasks import Crew, ended

LOAD_DEATHS = 3
_FIRST_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 60.0


class Pool:
    """All recogniser children. `changed` is called whenever one is ready, dead or unable."""

    def __init__(self, settings: WorkerSettings, crew: Crew, changed: Callable[[], None], tell: Tell) -> None:
        self.able: dict[str, Able] = {}
        self.model: RecognitionOptions | None = None
        self.ready: Ready | None = None
        self.failure: EngineError | None = None
        self.recognisers: list[Recogniser] = []
        self.largest_batch = MAX_BATCH
        """Lowered when larger batches of the present model proved too much for the memory."""
        self._settings = settings
        self._crew = crew
        self._changed = changed
        self._tell = tell
        self._spare: dict[str, Recogniser] = {}
        self._ending: list[Recogniser] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._rest_until = 0.0

    async def look_around(self) -> None:
        """Find out what the engines can do here; EngineUnavailable if there are some and none can run."""
        last: EngineError | None = None
        for engine in self._settings.engines:
            try:
                recogniser = await Recogniser.start(_begin(engine, self._settings))
                self.able[engine], self._spare[engine] = recogniser.able, recogniser
            except (EngineError, ChildDiedError) as error:
                last = error if isinstance(error, EngineError) else EngineUnavailable(error.evidence)
                self._tell(Notice("engine_unavailable", f"{engine}: {last.message}", {"engine": engine}))
        if last and not self.able:
            raise last

    @property
    def loading(self) -> bool:
        """Whether a model is wanted and no child has it yet."""
        return self.model is not None and self.ready is None and self.failure is None

    @property
    def resting(self) -> bool:
        """Whether the last load failed a moment ago."""
        return now() < self._rest_until

    @property
    def lanes(self) -> int:
        """Lanes of the children that are alive and ready."""
        return sum(each.lanes for each in self.recognisers if each.alive)

    @property
    def free_lanes(self) -> int:
        """Those of them with nothing in them."""
        return sum(each.free_lanes for each in self.recognisers if each.alive)

    @property
    def batch(self) -> int:
        """Chunks in one batch."""
        return min(self.able[self.model.engine].batch, self.largest_batch) if self.model else 1

    def serves(self, options: RecognitionOptions) -> bool:
        """Whether the model loaded (or being loaded) is the one for these options."""
        if self.model is None or (self.model.engine, self.model.model) != (options.engine, options.model):
            return False
        revision = self.ready.revision if self.ready else self.model.revision
        return options.revision is None or revision in (options.revision, None)

    async def switch(self, options: RecognitionOptions) -> None:
        """End the children of another model and load this one, in the background."""
        await self._end_all(keep_spare=options.engine)
        self.model, self.ready, self.failure, self.largest_batch = options, None, None, MAX_BATCH
        if options.engine in self.able:
            self.fill()
        else:
            self._give_up(EngineUnavailable(f"This worker does not run the engine {options.engine!r}."))

    def fill(self) -> None:
        """Start the children that are missing."""
        self.recognisers = [each for each in self.recognisers if each.alive]
        if self.model is None or self.failure:
            return
        nothing_to_fetch = self.ready or self.able[self.model.engine].models
        wanted = self._processes() if nothing_to_fetch else 1
        for _ in range(wanted - len(self.recognisers) - len(self._starting)):
            task = self._crew.start(self._start(self.model), "start of a recogniser")
            self._starting.add(task)
            task.add_done_callback(self._started)

    def forget_failure(self) -> None:
        """Be ready to try again, after a rest."""
        self.model = self.failure = None

    async def close(self) -> None:
        """End all children and collect them."""
        await self._end_all(keep_spare="")

    async def _end_all(self, keep_spare: str) -> None:
        await ended(*self._starting)
        spares = [self._spare.pop(engine) for engine in tuple(self._spare) if engine != keep_spare]
        self._ending += self.recognisers + spares
        self.recognisers = []
        await asyncio.gather(*(each.close() for each in self._ending))
        self._ending.clear()

    async def _start(self, model: RecognitionOptions) -> None:
        """Start one child and load the model in it, after the rest that earlier failures have earned."""
        await asyncio.sleep(max(0.0, self._rest_until - now()))
        recogniser = self._spare.pop(model.engine, None)
        try:
            recogniser = recogniser or await Recogniser.start(_begin(model.engine, self._settings))
            ready = await recogniser.load(model, self._fetching, self._died)
            if model.revision not in (None, ready.revision):
                raise ModelUnavailable(f"{model.model} is at revision {ready.revision} here, not {model.revision}.")
        except BaseException as error:
            if recogniser:
                await recogniser.close()
            if isinstance(error, EngineError):
                self._give_up(error)
            elif isinstance(error, ChildDiedError):
                self._died_at_load(error)
            else:
                raise
        else:
            self._loaded(recogniser, ready)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        self._changed()

    def _loaded(self, recogniser: Recogniser, ready: Ready) -> None:
        self._failures, self._rest_until = 0, 0.0
        self.recognisers.append(recogniser)
        self.ready = ready
        message = f"{ready.engine} is ready with {ready.model} on {ready.device} ({ready.compute_type})."
        self._tell(Notice("model_ready", message, {**ready.model_dump(exclude={"kind"}), "pid": recogniser.pid}))

    def _give_up(self, error: EngineError) -> None:
        """This child cannot load: if no other has, the model cannot be had."""
        self._rest()
        if not self.lanes and self.model and not self.failure:
            self.failure = error
            data = {"engine": self.model.engine, "model": self.model.model, "code": error.code}
            self._tell(Notice("model_unavailable", error.message, data))

    def _died_at_load(self, death: ChildDiedError) -> None:
        self._died(death)
        self._rest()
        if self._failures >= LOAD_DEATHS:
            message = f"The recogniser dies while it loads its model, {self._failures} times running. {death.evidence}"
            self._give_up(ModelUnavailable(message))

    def _rest(self) -> None:
        self._failures += 1
        pause = min(_LONGEST_REST_SECONDS, _FIRST_REST_SECONDS * 2.0 ** (self._failures - 1))
        self._rest_until = now() + pause

    def _died(self, death: ChildDiedError) -> None:
        self._tell(Notice("child_died", str(death), {"last_words": death.last_words}))
        self._changed()

    def _fetching(self, news: Fetching) -> None:
        of_all = f" of {news.total_bytes:,}" if news.total_bytes else ""
        message = f"Fetching the model {news.model}: {news.done_bytes:,}{of_all} bytes."
        self._tell(Notice("model_fetching", message, news.model_dump(exclude={"kind"})))

    def _processes(self) -> int:
        """Children that the present engine needs for its lanes."""
        able = self.able[self.model.engine] if self.model else None
        return 1 if able is None or able.shares_model else able.lanes


def _begin(engine: str, settings: WorkerSettings) -> Begin:
    """What the owner has decided, for the child to add what it finds."""
    return Begin.model_validate({"engine": engine, **settings.model_dump(include=set(Begin.model_fields))})
