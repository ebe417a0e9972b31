"""The way of a recording through the worker: a child cuts it, the agent uploads the chunks and appends them.

Promises: the first chunk is appended as soon as it is cut, later ones in groups, while cutting goes on. Groups are
appended in order. A child that runs ahead waits, so memory is bounded. A child that dies is replaced, and the next one
goes on after the last chunk that is safe; the second death at the same place fails the job, charged. A recording that
is no audio fails for good. An address that no longer works is replaced by a new one. A lease that may have run out is
asked about before anything is published. One recording is cut at a time; its child stays for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Sequence

from whisper_farm.errors import (
    InvalidRequest,
    LeaseLost,
    ObjectStoreRefused,
    RecogniserCrashed,
    ServerUnreachable,
    SourceTooCostly,
)
from whisper_farm.protocol.worker import (
    AppendRequest,
    ChunkResult,
    ChunkTask,
    ChunkUpload,
    Claim,
    NewChunk,
    UploadRequest,
)
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.handing_in import JobFailure, failed_by
from whisper_farm.worker.heartbeats import Heartbeats
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.pipe import Cut, CutChunk, CutEnded, CutFailed
from whisper_farm.worker.tasks import BackgroundTasks, ended

GROUP = 16
AHEAD_SECONDS = 480.0
"""Audio that may wait in memory between the child and the farm."""

UPLOAD_TRIES = 3

_ChunkAudio = tuple[CutChunk, bytes]
_End = CutEnded | CutFailed | ChildDiedError
_Chunks = asyncio.Queue[_ChunkAudio | _End]


class Cutting:
    """The chunk job of one worker. `finished` receives its end, `lost` a claim the farm denies."""

    def __init__(
        self,
        api: WorkerApi,
        worker_id: str,
        heartbeats: Heartbeats,
        tasks: BackgroundTasks,
        silence_seconds: float,
        finished: Callable[[Claim, ChunkResult | JobFailure], None],
        lost: Callable[[Claim], None],
        tell: Tell,
    ) -> None:
        self._api = api
        self._worker_id = worker_id
        self._heartbeats = heartbeats
        self._tasks = tasks
        self._silence_seconds = silence_seconds
        self._finished = finished
        self._lost = lost
        self._tell = tell
        self._work: dict[str, asyncio.Task[None]] = {}
        self._child: Child | None = None
        self._one_at_a_time = asyncio.Lock()

    def warm_up(self) -> None:
        """Start a child, so that the first recording need not wait for it."""
        self._tasks.start(self._warm_up(), "start of the cutter")

    def take(self, claim: Claim, task: ChunkTask) -> None:
        """Cut the recording of a claim."""
        work = self._tasks.start(self._cut(claim, task), f"cutting of {claim.job_id}")
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
        """End the child and collect it, when the tasks have ended."""
        await self._end_child()

    async def _warm_up(self) -> None:
        with contextlib.suppress(ChildDiedError):
            async with self._one_at_a_time:
                await self._ready_child()

    async def _cut(self, claim: Claim, task: ChunkTask) -> None:
        try:
            async with self._one_at_a_time:
                end = await self._cut_in_children(
                    Appending(self._api, self._worker_id, self._heartbeats, claim, task), task
                )
        except LeaseLost:
            self._lost(claim)
        except Exception as error:
            self._finished(claim, failed_by(error))
        else:
            self._finished(claim, end)

    async def _cut_in_children(self, appending: Appending, task: ChunkTask) -> ChunkResult | JobFailure:
        """Cut to the end; a child that dies has a successor, unless its predecessor died at the same place."""
        died_at: int | None = None
        while True:
            try:
                return await self._cut_in(await self._ready_child(), appending, task)
            except ChildDiedError as death:
                self._tell(Notice("child_died", str(death), {"last_words": death.last_words}))
                if death.out_of_processor_time:
                    return JobFailure(SourceTooCostly.code, f"{task.source.name}: {SourceTooCostly().message}", True)
                if died_at == appending.position:
                    return JobFailure(RecogniserCrashed.code, death.evidence)
                died_at = appending.position

    async def _cut_in(self, child: Child, appending: Appending, task: ChunkTask) -> ChunkResult | JobFailure:
        await child.send(self._order(appending, task))
        queue = _Chunks(max(1, min(GROUP, int(AHEAD_SECONDS / task.chunk_seconds))))
        pump = self._tasks.start(self._pump(child, queue), "chunks from the cutter")
        end: _End | None = None
        try:
            while end is None:
                group, end = await _next_group(queue)
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
            return failure_of(end)
        return end.result

    def _order(self, appending: Appending, task: ChunkTask) -> Cut:
        place = {"resume_position": appending.position, "resume_seconds": appending.end_seconds}
        api, rest = self._api, task.model_copy(update=place)
        return Cut(server=api.server, token=api.token, timeout_seconds=api.timeout_seconds, task=rest)

    async def _pump(self, child: Child, queue: _Chunks) -> None:
        """Move what the child sends to the queue, which makes the child wait when it is full."""
        try:
            while True:
                message, flac = await child.receive(self._silence_seconds)
                if isinstance(message, CutChunk):
                    await queue.put((message, flac))
                elif isinstance(message, CutEnded | CutFailed):
                    return await queue.put(message)
        except ChildDiedError as death:
            await queue.put(death)

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


class Appending:
    """The chunks of one recording, as far as they are safe."""

    def __init__(self, api: WorkerApi, worker_id: str, heartbeats: Heartbeats, claim: Claim, task: ChunkTask) -> None:
        self.claim = claim
        self.position = task.resume_position
        self.end_seconds = task.resume_seconds
        self._api = api
        self._worker_id = worker_id
        self._heartbeats = heartbeats
        self._token = claim.token

    async def append(self, group: Sequence[_ChunkAudio]) -> None:
        """Upload and append the next chunks."""
        await self._heartbeats.sure_of([self._token])
        targets = await self._targets([chunk.position for chunk, _ in group])
        new = await _all([self._uploaded(chunk, flac, targets[chunk.position]) for chunk, flac in group])
        last = group[-1][0]
        request = AppendRequest(
            worker_id=self._worker_id,
            token=self._token,
            chunks=tuple(new),
            duration_seconds=last.declared_seconds,
        )
        await self._api.append(request)
        self.position, self.end_seconds = last.position + 1, last.end_seconds

    async def _targets(self, positions: Sequence[int]) -> dict[int, ChunkUpload]:
        request = UploadRequest(worker_id=self._worker_id, token=self._token, positions=tuple(positions))
        targets = {upload.position: upload for upload in (await self._api.uploads(request)).uploads}
        if missing := set(positions) - set(targets):
            raise InvalidRequest(f"The farm did not say where the chunks {sorted(missing)} go.")
        return targets

    async def _uploaded(self, chunk: CutChunk, flac: bytes, target: ChunkUpload) -> NewChunk:
        for tries_left in reversed(range(UPLOAD_TRIES)):
            try:
                await self._api.upload(target.transfer, flac)
                break
            except (ServerUnreachable, ObjectStoreRefused):
                if not tries_left:
                    raise
                target = (await self._targets([chunk.position]))[chunk.position]
        cut, digest = chunk.model_dump(exclude={"declared_seconds"}), hashlib.sha256(flac).hexdigest()
        return NewChunk(**cut, key=target.key, size=len(flac), sha256=digest)


async def _next_group(queue: _Chunks) -> tuple[list[_ChunkAudio], _End | None]:
    """Whatever is in the queue, at least one thing. What ends the cutting comes last."""
    group: list[_ChunkAudio] = []
    item = await queue.get()
    while isinstance(item, tuple):
        group.append(item)
        if len(group) == GROUP or queue.empty():
            return group, None
        item = queue.get_nowait()
    return group, item


def failure_of(end: CutFailed) -> JobFailure:
    """How to report a recording that the child could not cut."""
    if end.code == LeaseLost.code:
        raise LeaseLost(end.message)
    passing = end.code in (ServerUnreachable.code, ObjectStoreRefused.code)
    return JobFailure(end.code, end.message, end.permanent, charged=not passing)


async def _all(uploads: Sequence[Coroutine[None, None, NewChunk]]) -> list[NewChunk]:
    """All of them at once; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(upload) for upload in uploads]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
