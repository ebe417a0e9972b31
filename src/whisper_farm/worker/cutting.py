"""The way of a recording through the worker: a child cuts it, the agent uploads the chunks and appends them.

Promises: the first chunk is appended as soon as it is cut, later ones in groups, while cutting goes on; a child that
runs ahead waits, so memory is bounded; a child that dies is replaced and goes on after the last chunk that is safe, and
the second death at the same place fails the job, charged. A recording that is no audio fails for good. One recording at
a time; its child stays for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from whisper_farm.errors import FarmError, LeaseLost, RecogniserCrashed, ServerUnreachable
from whisper_farm.protocol.worker import ChunkResult, ChunkTask, Claim
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.appending import Appending, PieceAudio
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.handing_in import Failed, failed_by
from whisper_farm.worker.heartbeats import Beats
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.pipe import Cut, CutEnded, CutFailed, Piece
from whisper_farm.worker.tasks import Crew, ended

GROUP = 16
AHEAD_SECONDS = 480.0
"""Audio that may wait in memory between the child and the farm."""

_End = CutEnded | CutFailed | ChildDiedError
_Tray = asyncio.Queue[PieceAudio | _End]


class Cutting:
    """The chunk job of one worker. `finished` receives its end, `lost` a claim the farm denies."""

    def __init__(
        self,
        api: WorkerApi,
        worker_id: str,
        beats: Beats,
        crew: Crew,
        silence_seconds: float,
        finished: Callable[[Claim, ChunkResult | Failed], None],
        lost: Callable[[Claim], None],
        tell: Tell,
    ) -> None:
        self._api = api
        self._worker_id = worker_id
        self._beats = beats
        self._crew = crew
        self._silence_seconds = silence_seconds
        self._finished = finished
        self._lost = lost
        self._tell = tell
        self._work: dict[str, asyncio.Task[None]] = {}
        self._child: Child | None = None
        self._warming: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def warm_up(self) -> None:
        """Start a child, so that the first recording need not wait for it."""
        self._warming = self._crew.start(self._warm_up(), "start of the cutter")

    def take(self, claim: Claim, task: ChunkTask) -> None:
        """Cut the recording of a claim."""
        work = self._crew.start(self._cut(claim, task), f"cutting of {claim.job_id}")
        self._work[claim.token] = work
        work.add_done_callback(lambda _: self._work.pop(claim.token, None))

    def drop(self, token: str) -> None:
        """Stop cutting this one, if it is there."""
        if work := self._work.get(token):
            work.cancel()

    def drain(self) -> tuple[str, ...]:
        """Stop cutting; the tokens of what was being cut. What is appended stays."""
        tokens = tuple(self._work)
        for token in tokens:
            self.drop(token)
        return tokens

    async def close(self) -> None:
        """Stop at once, end the child and collect it."""
        await ended(*self._work.values(), self._warming)
        await self._end_child()

    async def _warm_up(self) -> None:
        with contextlib.suppress(ChildDiedError):
            async with self._one_at_a_time:
                await self._ready_child()

    async def _cut(self, claim: Claim, task: ChunkTask) -> None:
        try:
            async with self._one_at_a_time:
                end = await self._cut_in_children(Appending(self._api, self._worker_id, self._beats, claim, task), task)
        except LeaseLost:
            self._lost(claim)
        except FarmError as error:
            self._finished(claim, failed_by(error))
        else:
            self._finished(claim, end)

    async def _cut_in_children(self, appending: Appending, task: ChunkTask) -> ChunkResult | Failed:
        """Cut to the end; a child that dies has a successor, unless its predecessor died at the same place."""
        died_at: int | None = None
        while True:
            try:
                return await self._cut_in(await self._ready_child(), appending, task)
            except ChildDiedError as death:
                self._tell(Notice("child_died", str(death), {"last_words": death.last_words}))
                if died_at == appending.position:
                    return Failed(RecogniserCrashed.code, death.evidence)
                died_at = appending.position

    async def _cut_in(self, child: Child, appending: Appending, task: ChunkTask) -> ChunkResult | Failed:
        await child.send(self._order(appending, task))
        tray = _Tray(max(1, min(GROUP, int(AHEAD_SECONDS / task.chunk_seconds))))
        pump = self._crew.start(self._pump(child, tray), "chunks from the cutter")
        end: _End | None = None
        try:
            while end is None:
                group, end = await _next_group(tray)
                if group:
                    await appending.append(group)
                    self._tell_of(appending, len(group))
        finally:
            await ended(pump)
            if end is None:
                await self._end_child()
        if isinstance(end, ChildDiedError):
            raise end
        if isinstance(end, CutFailed):
            return _failed(end)
        return end.result

    def _order(self, appending: Appending, task: ChunkTask) -> Cut:
        url, headers = self._api.resolved(task.source.transfer)
        return Cut(
            url=url,
            headers=headers,
            size=task.source.size,
            name=task.source.name,
            chunk_seconds=task.chunk_seconds,
            resume_position=appending.position,
            resume_seconds=appending.end_seconds,
            timeout_seconds=self._api.timeout_seconds,
            trust_env=self._api.trust_env,
        )

    async def _pump(self, child: Child, tray: _Tray) -> None:
        """From the pipe to the tray, which makes the child wait when it is full."""
        try:
            while True:
                message, flac = await child.receive(self._silence_seconds)
                if isinstance(message, Piece):
                    await tray.put((message, flac))
                elif isinstance(message, CutEnded | CutFailed):
                    return await tray.put(message)
        except ChildDiedError as death:
            await tray.put(death)

    async def _ready_child(self) -> Child:
        if self._child is None or not self._child.running:
            await self._end_child()
            self._child = await Child.start("cutter")
        return self._child

    async def _end_child(self) -> None:
        if self._child:
            await self._child.close()
            self._child = None

    def _tell_of(self, appending: Appending, count: int) -> None:
        message = f"{count} chunks appended, the recording is cut up to {appending.end_seconds:.0f} s."
        data = {
            "transcription_id": appending.claim.transcription_id,
            "count": count,
            "cut_seconds": appending.end_seconds,
        }
        self._tell(Notice("chunks_appended", message, data))


async def _next_group(tray: _Tray) -> tuple[list[PieceAudio], _End | None]:
    """Whatever is in the tray, at least one thing; what ends the cutting comes last."""
    group: list[PieceAudio] = []
    item = await tray.get()
    while isinstance(item, tuple):
        group.append(item)
        if len(group) == GROUP or tray.empty():
            return group, None
        item = tray.get_nowait()
    return group, item


def _failed(end: CutFailed) -> Failed:
    """How to report a recording that the child could not cut."""
    if end.code == LeaseLost.code:
        raise LeaseLost(end.message)
    passing = end.code == ServerUnreachable.code
    return Failed(end.code, end.message, end.permanent, charged=not passing)
