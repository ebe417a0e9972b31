"""One worker: it claims jobs from a farm, lets its children do them, and hands the results back.

Promises: nothing is recognised or decoded in this process, so that it always has time for heartbeats. Every child it
started is ended and collected when `run` returns, whatever the reason. A job it took is completed, failed or handed
back, unless the farm cannot be reached. Draining finishes what is being recognised; `leave_now` takes less than two
seconds. The end tells why it came: an order of the farm is no error.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Sequence
from typing import Literal, assert_never

from whisper_farm.errors import FarmError, LeaseLost, OptionUnsupported
from whisper_farm.protocol import worker
from whisper_farm.protocol.jobs import ChunkTask, PeaksTask, Result, TranscribeTask
from whisper_farm.protocol.wire import JobKind
from whisper_farm.settings import WorkerSettings
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.api import FATAL, WorkerApi
from whisper_farm.worker.claims import ClaimCalls, Room, room_to_cut
from whisper_farm.worker.cutting import Cutting
from whisper_farm.worker.handing_in import HandingIn, JobFailure, failed_by
from whisper_farm.worker.heartbeats import MAX_TOKENS, Heartbeats, HowGone, Leases
from whisper_farm.worker.machine import Hours, introduction, name_of
from whisper_farm.worker.notices import Notice, Tell, tell_nobody
from whisper_farm.worker.peaks import PeaksMaking
from whisper_farm.worker.recogniser_pool import RecogniserPool
from whisper_farm.worker.recognising import Recognising
from whisper_farm.worker.tasks import BackgroundTasks, Wakeup, ended

Ending = Literal["stopped", "left", "drained", "dismissed"]
"""Why a worker ended without an error. Its owner let it finish, or leave at once; or the farm wanted the one or the
other."""
_TOKEN = "[A-Za-z0-9_-]{16,64}"
_REFUSED_SECONDS = 5.0
LEAVE_SECONDS = 1.0
"""How long saying goodbye may take."""


class Agent:
    """A worker with the settings of its owner, who hears of everything by `notice`. Run it once.

    One that does not know its farm yet (`waits`) loads its model, and waits for `work_for`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        notice: Tell = tell_nobody,
        waits: bool = False,
        hours: Hours | None = None,
        worker_id: str | None = None,
    ) -> None:
        self.name = name_of(settings)
        self.hours = hours or Hours(settings.hours)
        self._settings, self._tell = settings, notice
        self._ending: Ending | None = None
        self._asked_to_stop = asyncio.Event()
        self._over = asyncio.Event()
        self._knows_farm = asyncio.Event()
        if not waits:
            self._knows_farm.set()
        self._draining = False
        self._untouched: list[str] = []
        self._introduced: worker.RegisterRequest | None = None
        self._introduction_changed = Wakeup()
        self._tasks = BackgroundTasks(failed=self._over.set)
        self._api = WorkerApi(
            settings.server, settings.token, settings.request_timeout_seconds, self._tell_of_server, worker_id
        )
        self.worker_id = self._api.worker_id
        self._api.on_unknown = self._introduce_again
        self._api.on_strange_claim = self._not_understood
        self._leases = Leases(self._gone)
        self._heartbeats = Heartbeats(self._api, self._leases, self._told_to_go, self.hours.heed)
        self._claiming = ClaimCalls(self._api, self._room, self._taken, self._told_to_go, notice)
        self._handing_in = HandingIn(self._api, self._leases, self._heartbeats, self._claiming, self._tell)
        self._pool = RecogniserPool(settings, self._tasks, self._pool_changed, notice)
        room_changed, timeout_seconds = self._claiming.changed.notify_all, settings.chunk_timeout_seconds
        self._recognising = Recognising(self._api, self._pool, self._tasks, timeout_seconds, room_changed, notice)
        self._cutting = Cutting(
            self._api, self._heartbeats, timeout_seconds, notice, self._tasks, lambda: self._pool.busy
        )
        self._peaks = PeaksMaking(self._api, self._heartbeats, timeout_seconds)
        self._jobs: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> Ending:
        """Work until `stop` is set (or the farm says so) and what was begun is done; or until `leave_now`.

        Returns why it ended. Raises a `FarmError` if the farm refuses this worker or none of its engines runs here.
        """
        try:
            self._tasks.start(self._work(stop), "worker")
            await self._over.wait()
            self._tasks.check()
            return self._ending or "left"
        finally:
            await self._end()

    def work_for(self, server: str, token: str) -> None:
        """Say where the farm of a worker that waits is. Call it in the thread of the event loop."""
        self._api.turn_to(server, token)
        self._knows_farm.set()

    @property
    def held(self) -> int:
        """How many jobs it has in hand."""
        return len(self._leases)

    def leave_now(self) -> None:
        """End at once: children are killed, jobs handed back. Call it in the thread of the event loop."""
        self._ending = "left"
        self._over.set()

    async def _work(self, stop: asyncio.Event) -> None:
        self._tasks.start(self._heed(stop), "wait for the end")
        if await self._unless_stopped(self._begin()):
            kinds: list[JobKind] = ["transcribe"] if self._settings.engines else []
            kinds += ["chunk", "peaks"] if self._settings.cuts else []
            claiming = [self._tasks.start(self._claiming.run(kind), f"claims to {kind}") for kind in kinds]
            self._tasks.start(self._heartbeats.run(), "heartbeats")
            self._tasks.start(self._handing_in.run(), "results")
            self._tasks.start(self._recognising.run(), "recognition")
            self._tasks.start(self._keep_introduced(), "introductions")
            await self._asked_to_stop.wait()
            await self._drain(claiming)
        self._over.set()

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._ending = self._ending or "stopped"
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
            self._tasks.start(self._cutting.warm_up(), "start of the cutter")
        await self._pool.look_around()
        if settings.models and len(settings.models) == len(settings.engines) == 1:
            await self._pool.switch(RecognitionOptions(engine=settings.engines[0], model=settings.models[0]))
        await self._knows_farm.wait()
        await self._introduce()

    async def _drain(self, claiming: Sequence[asyncio.Task[None]]) -> None:
        """Claim no more, hand back what no child has begun, finish the rest. Heartbeats go on meanwhile."""
        self._draining = True
        for task in claiming:
            task.cancel()
        begun = self._recognising.drain()
        handed_back = [token for token in self._jobs if token not in begun]
        for token in handed_back:
            self._jobs[token].cancel()
        finishing = [self._jobs[token] for token in begun if token in self._jobs]
        running = len(self._leases) - len(handed_back)
        self._tell(Notice("draining", f"Draining: {running} jobs to finish.", {"jobs": running}))
        await self._claiming.recover()
        await self._hand_back([*handed_back, *self._untouched])
        if finishing:
            await asyncio.wait(finishing)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(LEAVE_SECONDS, self._heartbeats.lease_seconds)):
                await self._handing_in.all_sent()

    async def _hand_back(self, tokens: Sequence[str]) -> None:
        """Release these now if the farm answers; what it did not hear is released again at the end."""
        held = tuple(token for token in tokens if token in self._leases)[:MAX_TOKENS]
        if held:
            with contextlib.suppress(FarmError):
                await self._api.release(worker.ReleaseRequest(worker_id=self.worker_id, tokens=held), LEAVE_SECONDS)
                for token in held:
                    self._leases.end(token)

    async def _end(self) -> None:
        try:
            await self._tasks.end()
            await asyncio.gather(self._cutting.close(), self._pool.close(), self._leave())
        finally:
            await self._api.close()

    async def _leave(self) -> None:
        if self._introduced is None:
            return
        goodbye = worker.ReleaseRequest(
            worker_id=self.worker_id, tokens=self._leases.tokens()[:MAX_TOKENS], leaving=True
        )
        with contextlib.suppress(FarmError):
            await self._api.release(goodbye, LEAVE_SECONDS)
            self._tell(Notice("left", f"Worker {self.name} has left the farm."))

    async def _introduce(self) -> None:
        request = self._introduction()
        answer = await self._api.register(request)
        self._heartbeats.set_pace(answer.lease_seconds, answer.heartbeat_seconds)
        self.hours.heed(answer.hours)
        if self._introduced is None:
            message = f"Worker {self.name} ({self.worker_id}) works for {self._api.server}."
            self._tell(Notice("registered", message, {"worker_id": self.worker_id, "name": self.name}))
        self._introduced = request

    async def _introduce_again(self) -> None:
        """Register; a refusal that may pass is told, and does not end a worker that the farm knew before."""
        try:
            await self._introduce()
        except FATAL:
            raise
        except FarmError as refusal:
            message = f"The farm does not take what this worker says of itself: {refusal.message}"
            self._tell(Notice("refused", message, {"code": refusal.code}))
            self._introduced = self._introduction()
            await asyncio.sleep(_REFUSED_SECONDS)

    async def _keep_introduced(self) -> None:
        while True:
            if self._introduction() != self._introduced:
                await self._introduce_again()
            await self._introduction_changed.wait(1.0)

    def _introduction(self) -> worker.RegisterRequest:
        capabilities, ready, models = self._pool.capabilities.values(), self._pool.ready, self._settings.models
        offers = tuple(
            worker.EngineOffer(
                engine=each.engine,
                version=each.version,
                models=models or each.models,
                loaded=(ready.model,) if ready and ready.engine == each.engine else (),
                resting=self._pool.resting(each.engine),
                device=each.device,
                compute_type=ready.compute_type if ready else self._settings.compute_type,
                batch=each.batch,
                options=each.options,
            )
            for each in capabilities
        )
        slots = max((each.slots for each in capabilities), default=1)
        return introduction(self._settings, self.worker_id, offers, slots, self._settings.cuts)

    def _room(self, kind: JobKind) -> Room:
        held = self._leases.unfinished(kind)
        if self._draining:
            return Room(0)
        match kind:
            case "chunk":
                return room_to_cut(held)
            case "peaks":
                return Room(1 - held - self._leases.unfinished("chunk"))
            case "transcribe":
                return Room(self._recognising.room(held))
        assert_never(kind)

    def _taken(self, claim: worker.Claim) -> None:
        if not self._leases.add(claim):
            return
        self._heartbeats.keep_up_with(claim.lease_seconds)
        if self._draining:
            self._untouched.append(claim.token)
            return
        self._jobs[claim.token] = job = self._tasks.start(self._do(claim), f"job {claim.job_id}")
        job.add_done_callback(lambda _: self._jobs.pop(claim.token, None))

    async def _do(self, claim: worker.Claim) -> None:
        end: Result | JobFailure
        try:
            match claim.task:
                case ChunkTask():
                    end = await self._cutting.cut(claim, claim.task)
                case PeaksTask():
                    end = await self._peaks.make(claim, claim.task)
                case TranscribeTask():
                    end = await self._recognising.recognise(claim, claim.task)
                case _:
                    assert_never(claim.task)
        except LeaseLost:
            self._leases.take_away([claim.token], "lost")
        except Exception as error:
            self._handing_in.put(claim, failed_by(error))
        else:
            self._handing_in.put(claim, end)

    def _gone(self, claim: worker.Claim, how: HowGone) -> None:
        if job := self._jobs.get(claim.token):
            job.cancel()
        self._claiming.changed.notify_all()
        data: dict[str, object] = {"job_id": claim.job_id, "transcription_id": claim.transcription_id, "how": how}
        why = "was cancelled, or done by another worker" if how == "cancelled" else "is no longer held by this worker"
        self._tell(Notice("job_dropped", f"Job {claim.job_id} {why}: dropped.", data))

    def _not_understood(self, token: str, why: str) -> None:
        """A claim that is beyond this worker: others may have the job. The farm counts how often that happens."""
        message = f"This worker does not understand the job ({why}); install the release of the server here."
        if re.fullmatch(_TOKEN, token):
            self._handing_in.refuse(token, JobFailure(OptionUnsupported.code, message, charged=False))

    def _told_to_go(self, at_once: bool) -> None:
        self._ending = self._ending or ("dismissed" if at_once else "drained")
        (self._over if at_once else self._asked_to_stop).set()

    def _pool_changed(self) -> None:
        self._recognising.changed.notify_all()
        self._claiming.changed.notify_all()
        self._introduction_changed.notify_all()

    def _tell_of_server(self, open_: bool, message: str) -> None:
        self._tell(Notice("reachable" if open_ else "unreachable", message))
