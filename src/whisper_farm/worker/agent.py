"""One worker: claims jobs from a farm, lets its children do them, and hands the results back.

Promises: nothing is recognised or decoded in this process, so that it always has time to beat; every child it started
is ended and collected when `run` returns, whatever the reason; a job it took is completed, failed or handed back,
unless the farm cannot be reached. Draining finishes what is being recognised; `leave_now` takes less than two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import secrets
import socket
from collections.abc import Coroutine, Sequence

from whisper_farm import __version__
from whisper_farm.errors import FarmError, ServerUnreachable
from whisper_farm.protocol.worker import Claim, EngineOffer, RegisterRequest, ReleaseRequest
from whisper_farm.settings import WorkerSettings
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.bell import Bell
from whisper_farm.worker.claims import Claims, Kind
from whisper_farm.worker.cutting import Cutting
from whisper_farm.worker.handing_in import Results
from whisper_farm.worker.heartbeats import MAX_TOKENS, Beats
from whisper_farm.worker.holdings import Gone, Holdings
from whisper_farm.worker.notices import Notice, Tell, tell_nobody
from whisper_farm.worker.recognisers import Pool
from whisper_farm.worker.recognising import Recognition
from whisper_farm.worker.tasks import Crew, ended

LEAVE_SECONDS = 1.0
"""How long saying goodbye may take."""


class Agent:
    """A worker with the settings of its owner, who hears of everything by `notice`. Run it once."""

    def __init__(self, settings: WorkerSettings, notice: Tell = tell_nobody) -> None:
        self.worker_id = secrets.token_hex(8)
        self.name = settings.name or socket.gethostname() or "worker"
        self._settings = settings
        self._tell = notice
        self._asked_to_stop = asyncio.Event()
        self._asked_to_go = asyncio.Event()
        self._draining = False
        self._untouched: list[str] = []
        self._introduced: RegisterRequest | None = None
        self._news = Bell()
        self._api = WorkerApi(settings.server, settings.token, settings.request_timeout_seconds, self._tell_of_line)
        self._api.on_unknown = self._introduce
        self._holdings = Holdings(self._gone)
        self._beats = Beats(self._api, self.worker_id, self._holdings, self._told_to_go)
        self._claims = Claims(self._api, self.worker_id, settings.only, self._room, self._taken, self._told_to_go)
        self._results = Results(self._api, self.worker_id, self._holdings, self._beats, self._claims, notice)
        self._crew = Crew()
        self._pool = Pool(settings, self._crew, self._pool_changed, notice)
        self._recognition = Recognition(
            self._api,
            self._pool,
            self._crew,
            settings.chunk_timeout_seconds,
            finished=self._results.put,
            lost=self._lost,
            room_changed=self._claims.changed.ring,
        )
        self._cutting = Cutting(
            self._api,
            self.worker_id,
            self._beats,
            self._crew,
            settings.chunk_timeout_seconds,
            finished=self._results.put,
            lost=self._lost,
            tell=notice,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set (or the farm says so) and what was begun is done; or until `leave_now`."""
        work = asyncio.create_task(self._work(stop), name="worker")
        go = asyncio.create_task(self._wait_to_go(), name="worker told to go")
        try:
            await asyncio.wait({work, go}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            await self._end(work, go)

    def leave_now(self) -> None:
        """End at once: children are killed, jobs handed back. Call it in the thread of the event loop."""
        self._asked_to_go.set()

    def also(self, transcription_id: str) -> None:
        """Work for this transcription, too, where the settings name some. Any thread may call it."""
        self._claims.also(transcription_id)

    async def _work(self, stop: asyncio.Event) -> None:
        async with self._crew:
            self._crew.start(self._heed(stop), "wait for the end")
            if await self._unless_stopped(self._begin()):
                claiming = [self._crew.start(self._claims.run(kind), f"claims to {kind}") for kind in self._kinds()]
                self._crew.start(self._beats.run(), "beats")
                self._crew.start(self._results.run(), "results")
                self._crew.start(self._recognition.run(), "recognition")
                self._crew.start(self._keep_introduced(), "introductions")
                await self._asked_to_stop.wait()
                await self._drain(claiming)
            await self._end_children()
            self._crew.dismiss()

    async def _wait_to_go(self) -> None:
        await self._asked_to_go.wait()

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._asked_to_stop.set()

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> bool:
        """Do this, unless the worker is asked to stop before it is done."""
        doing = asyncio.create_task(work)
        stopped = asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                await doing
            return doing.done()
        finally:
            stopped.cancel()
            await ended(doing)

    async def _begin(self) -> None:
        """Look around, start loading the model if there is only one to serve, and introduce the worker."""
        settings = self._settings
        if settings.cuts:
            self._cutting.warm_up()
        await self._pool.look_around()
        if settings.models and len(settings.models) == len(settings.engines) == 1:
            await self._pool.switch(RecognitionOptions(engine=settings.engines[0], model=settings.models[0]))
        await self._introduce()

    def _kinds(self) -> list[Kind]:
        kinds: list[Kind] = ["transcribe"] if self._settings.engines else []
        return [*kinds, "chunk"] if self._settings.cuts else kinds

    async def _drain(self, claiming: Sequence[asyncio.Task[None]]) -> None:
        """Claim no more, hand back what no child has begun, finish the rest. Beats go on meanwhile."""
        self._draining = True
        for task in claiming:
            task.cancel()
        handed_back = [*self._recognition.drain(), *self._cutting.drain()]
        running = len(self._holdings) - len(handed_back)
        self._tell(Notice("draining", f"Draining: {running} jobs to finish.", {"jobs": running}))
        await self._claims.recover()
        await self._hand_back([*handed_back, *self._untouched])
        await self._recognition.idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(LEAVE_SECONDS, self._beats.lease_seconds)):
                await self._results.all_sent()

    async def _hand_back(self, tokens: Sequence[str]) -> None:
        """Release these now if the farm answers; what it did not hear is released again at the end."""
        held = tuple(token for token in tokens if token in self._holdings)
        if held:
            with contextlib.suppress(ServerUnreachable):
                await self._api.release(ReleaseRequest(worker_id=self.worker_id, tokens=held), LEAVE_SECONDS)
                for token in held:
                    self._holdings.settle(token)

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        """End every child and task, hand back what is left, say goodbye."""
        try:
            await ended(*tasks)
            await asyncio.gather(self._end_children(), self._leave())
        finally:
            await self._api.close()

    async def _end_children(self) -> None:
        await asyncio.gather(self._recognition.close(), self._cutting.close(), self._pool.close())

    async def _leave(self) -> None:
        if self._introduced is None:
            return
        goodbye = ReleaseRequest(worker_id=self.worker_id, tokens=self._holdings.tokens()[:MAX_TOKENS], leaving=True)
        with contextlib.suppress(FarmError):
            await self._api.release(goodbye, LEAVE_SECONDS)
            self._tell(Notice("left", f"Worker {self.name} has left the farm."))

    async def _introduce(self) -> None:
        """Register, or say what has changed."""
        request = self._introduction()
        answer = await self._api.register(request)
        self._beats.set_pace(answer.lease_seconds, answer.heartbeat_seconds)
        if self._introduced is None:
            message = f"Worker {self.name} ({self.worker_id}) works for {self._api.server}."
            self._tell(Notice("registered", message, {"worker_id": self.worker_id, "name": self.name}))
        self._introduced = request

    async def _keep_introduced(self) -> None:
        """Tell the farm when another model is loaded."""
        while True:
            if self._introduction() != self._introduced:
                await self._introduce()
            await self._news.wait(1.0)

    def _introduction(self) -> RegisterRequest:
        able, ready, models = self._pool.able.values(), self._pool.ready, self._settings.models
        offers = tuple(
            EngineOffer(
                engine=each.engine,
                version=each.version,
                models=models or each.models,
                loaded=(ready.model,) if ready and ready.engine == each.engine else (),
                device=each.device,
                compute_type=ready.compute_type if ready else self._settings.compute_type,
                batch=each.batch,
            )
            for each in able
        )
        return RegisterRequest(
            worker_id=self.worker_id,
            name=self.name,
            version=__version__,
            platform=platform.platform(terse=True)[:255],
            slots=max((each.lanes for each in able), default=1),
            engines=offers,
            cuts=self._settings.cuts,
            reserved=self._settings.only is not None,
        )

    def _room(self, kind: Kind) -> int:
        held = self._holdings.unfinished(kind)
        if self._draining:
            return 0
        return 1 - held if kind == "chunk" else self._recognition.room(held)

    def _taken(self, claim: Claim) -> None:
        if not self._holdings.add(claim):
            return
        self._beats.keep_up_with(claim.lease_seconds)
        if self._draining:
            self._untouched.append(claim.token)
        elif claim.chunk:
            self._cutting.take(claim, claim.chunk)
        elif claim.transcribe:
            self._recognition.take(claim, claim.transcribe)

    def _gone(self, claim: Claim, how: Gone) -> None:
        self._cutting.drop(claim.token)
        self._recognition.drop(claim.token)
        self._claims.changed.ring()
        data: dict[str, object] = {"job_id": claim.job_id, "transcription_id": claim.transcription_id, "how": how}
        why = "was cancelled, or done by another worker" if how == "cancelled" else "is no longer held by this worker"
        self._tell(Notice("job_dropped", f"Job {claim.job_id} {why}: dropped.", data))

    def _lost(self, claim: Claim) -> None:
        self._holdings.take_away([claim.token], "lost")

    def _told_to_go(self, at_once: bool) -> None:
        (self._asked_to_go if at_once else self._asked_to_stop).set()

    def _pool_changed(self) -> None:
        self._recognition.changed.ring()
        self._claims.changed.ring()
        self._news.ring()

    def _tell_of_line(self, open_: bool, message: str) -> None:
        self._tell(Notice("reachable" if open_ else "unreachable", message))
