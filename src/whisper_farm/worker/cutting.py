"""The way of a recording through the worker: a child cuts it, the agent uploads the chunks and appends them.

Promises: the first chunk is appended as soon as it is cut, later ones in groups, while cutting goes on. Groups are
appended in order. A child that runs ahead waits, so memory is bounded. A child that dies is replaced, and the next one
goes on after the last chunk that is safe; the second death at the same place fails the job, charged. A recording that
is no audio fails for good. An address that no longer works is replaced by a new one. A lease that may have run out is
asked about before anything is published. A few recordings are cut at a time, so that a long one
holds up no other. A child stays for the next one, unless recognisers want its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from whisper_farm.errors import (
    InvalidRequest,
    ObjectStoreRefused,
    RecogniserCrashed,
    ServerUnreachable,
    SourceTooCostly,
)
from whisper_farm.protocol import worker
from whisper_farm.protocol.jobs import ChunkResult, ChunkTask
from whisper_farm.to_the_end import to_the_end
from whisper_farm.transcript.options import longest_seconds
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.claims import CUTS_AT_ONCE, MOST_CUTS
from whisper_farm.worker.handing_in import JobFailure
from whisper_farm.worker.heartbeats import Heartbeats
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.pipe import CutChunk, CutEnded, CutFailed
from whisper_farm.worker.reading import Reading
from whisper_farm.worker.tasks import BackgroundTasks, ended

GROUP = 16
IDLE_SECONDS = 3.0
"""A child that waits so long while something is recognised is ended: it holds a hundred megabytes."""
UPLOAD_TRIES = 3
AHEAD_SECONDS = 480.0
"""Audio that may wait in memory between the child and the farm."""

_ChunkAudio = tuple[CutChunk, bytes]
_End = CutEnded | CutFailed | Exception
_Chunks = asyncio.Queue[_ChunkAudio | _End]


class Cutting:
    """The chunk jobs of one worker."""

    def __init__(
        self,
        api: WorkerApi,
        heartbeats: Heartbeats,
        silence_seconds: float,
        tell: Tell,
        tasks: BackgroundTasks,
        recognising: Callable[[], bool],
    ) -> None:
        """`recognising` says whether something is being recognised beside."""
        self._api, self._heartbeats, self._silence_seconds, self._tell = api, heartbeats, silence_seconds, tell
        self._tasks, self._recognising = tasks, recognising
        self._idle: dict[Child, asyncio.Task[None] | None] = {}
        """Children that wait, each with what ends it when it has waited long enough."""
        self._room = asyncio.Semaphore(MOST_CUTS)

    async def warm_up(self) -> None:
        """Start a child, so that the first recording need not wait for it."""
        with contextlib.suppress(ChildDiedError):
            self._idle[await Child.start("cutter")] = None

    async def cut(self, claim: worker.Claim, task: ChunkTask) -> ChunkResult | JobFailure:
        """Cut the recording of a claim; cancel this to stop. What is appended stays."""
        storing = Storing(self._api, self._heartbeats, claim.token)
        async with self._room:
            return await self._cut_in_children(Appending(storing, claim, task), task)

    async def close(self) -> None:
        """End the children that wait for a recording, and collect them."""
        while self._idle:
            await self._idle.popitem()[0].close()

    async def _cut_in_children(self, appending: Appending, task: ChunkTask) -> ChunkResult | JobFailure:
        """Cut to the end; a child that dies has a successor, unless its predecessor died at the same place."""
        died_at: int | None = None
        while True:
            try:
                return await self._cut_in(await self._idle_child(), appending, task)
            except ChildDiedError as death:
                self._tell(Notice("child_died", str(death), {"last_words": death.last_words}))
                if death.out_of_processor_time:
                    return JobFailure(SourceTooCostly.code, f"{task.source.name}: {SourceTooCostly().message}", True)
                if died_at == appending.position:
                    return JobFailure(RecogniserCrashed.code, death.evidence)
                died_at = appending.position

    async def _cut_in(self, child: Child, appending: Appending, task: ChunkTask) -> ChunkResult | JobFailure:
        place = {"resume_position": appending.position, "resume_seconds": appending.end_seconds}
        reading = Reading(child, self._api, task.model_copy(update=place), self._silence_seconds)
        queue = _Chunks(max(1, min(GROUP, int(AHEAD_SECONDS / longest_seconds(task.chunk_seconds)))))
        pump = asyncio.create_task(_pump(reading, queue), name="chunks from the cutter")
        end: _End | None = None
        try:
            while end is None:
                group, end = await _next_group(queue)
                if group:
                    await appending.append(group)
                    self._tell(appending.notice(len(group)))
        finally:
            await to_the_end(self._part(child, reading, pump, isinstance(end, CutEnded | CutFailed)))
        if isinstance(end, Exception):
            raise end
        if isinstance(end, CutFailed):
            return failure_of(end)
        return end.result

    async def _part(self, child: Child, reading: Reading, pump: asyncio.Task[None], sound: bool) -> None:
        """Have no more to do with a child: one that is `sound` rests until the next recording."""
        rests = sound and len(self._idle) < CUTS_AT_ONCE
        if not rests:
            await child.close()  # first: so nobody waits for its words any more
        await ended(pump)
        await reading.close()
        if rests:
            self._idle[child] = self._tasks.start(self._let_go(child), "rest of a cutter")

    async def _let_go(self, child: Child) -> None:
        await asyncio.sleep(IDLE_SECONDS)
        if child in self._idle and self._recognising():
            del self._idle[child]
            await child.close()

    async def _idle_child(self) -> Child:
        while self._idle:
            child, rest = self._idle.popitem()
            if rest:
                rest.cancel()
            if child.running:
                return child
            await child.close()
        return await Child.start("cutter")


class Storing:
    """What one claim stores at the farm before its end: chunks that were cut, or a listening copy."""

    def __init__(self, api: WorkerApi, heartbeats: Heartbeats, token: str) -> None:
        self._api, self._heartbeats, self._token = api, heartbeats, token

    async def targets(self, positions: Sequence[int]) -> dict[int, worker.ChunkUpload]:
        """Where the audio at these positions goes."""
        await self._heartbeats.sure_of([self._token])
        request = worker.UploadRequest(worker_id=self._api.worker_id, token=self._token, positions=tuple(positions))
        targets = {upload.position: upload for upload in (await self._api.uploads(request)).uploads}
        if missing := set(positions) - set(targets):
            raise InvalidRequest(f"The farm did not say where the audio {sorted(missing)} goes.")
        return targets

    async def store(self, target: worker.ChunkUpload, content: bytes | Path) -> str:
        """Upload these bytes, or this file; gives the key under which the farm keeps them."""
        for tries_left in reversed(range(UPLOAD_TRIES)):
            try:
                await self._api.upload(target.transfer, content)
                break
            except (ServerUnreachable, ObjectStoreRefused):
                if not tries_left:
                    raise
                target = (await self.targets([target.position]))[target.position]
        return target.key

    async def append(
        self, chunks: Sequence[worker.NewChunk], duration_seconds: float | None, language: str | None
    ) -> None:
        """Add chunks that are stored to the recording, and what its container says of all of it."""
        request = worker.AppendRequest(
            worker_id=self._api.worker_id,
            token=self._token,
            chunks=tuple(chunks),
            duration_seconds=duration_seconds,
            language=language,
        )
        await self._api.append(request)


class Appending:
    """The chunks of one recording, as far as they are safe."""

    def __init__(self, storing: Storing, claim: worker.Claim, task: ChunkTask) -> None:
        self._transcription_id = claim.transcription_id
        self.position = task.resume_position
        self.end_seconds = task.resume_seconds
        self._storing = storing

    async def append(self, group: Sequence[_ChunkAudio]) -> None:
        """Upload and append the next chunks."""
        targets = await self._storing.targets([chunk.position for chunk, _ in group])
        try:
            async with asyncio.TaskGroup() as uploads:
                new = [uploads.create_task(self._stored(one, flac, targets[one.position])) for one, flac in group]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        last = group[-1][0]
        await self._storing.append([one.result() for one in new], last.declared_seconds, last.tagged_language)
        self.position, self.end_seconds = last.position + 1, last.end_seconds

    def notice(self, count: int) -> Notice:
        """So many chunks were appended."""
        message = f"Chunks appended: {count}. The recording is cut up to {self.end_seconds:.0f} s."
        data = {"transcription_id": self._transcription_id, "count": count, "cut_seconds": self.end_seconds}
        return Notice("chunks_appended", message, data)

    async def _stored(self, chunk: CutChunk, flac: bytes, target: worker.ChunkUpload) -> worker.NewChunk:
        key = await self._storing.store(target, flac)
        cut, digest = (
            chunk.model_dump(exclude={"declared_seconds", "tagged_language"}),
            hashlib.sha256(flac).hexdigest(),
        )
        return worker.NewChunk(**cut, key=key, size=len(flac), sha256=digest)


async def _pump(reading: Reading, queue: _Chunks) -> None:
    """Let the child begin, and move what it sends to the queue, which makes the child wait when it is full."""
    try:
        await reading.begin()
        while True:
            message, flac = await reading.receive()
            if isinstance(message, CutChunk):
                await queue.put((message, flac))
            elif isinstance(message, CutEnded | CutFailed):
                return await queue.put(message)
    except Exception as error:
        await queue.put(error)


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
    return JobFailure(end.code, end.message, end.permanent)
