"""What is played and drawn of a recording: a child makes it, the agent uploads the copy and hands the peaks in.

Promises: nothing waits for this. It has a child of its own that gives way to everything else on this machine, so that
no cutting and no recognition is held up; a worker that cuts asks for no such job. Memory is bounded: the copy is a file
in a folder that is removed, whatever happens. A child that dies costs the job an attempt. A lease that may have run out
is asked about before anything is published.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from whisper_farm.errors import InvalidRequest, LeaseLost, ObjectStoreRefused, RecogniserCrashed, ServerUnreachable
from whisper_farm.protocol.wire import Transfer
from whisper_farm.protocol.worker import Claim, ListeningCopy, PeaksResult, PeaksTask, UploadRequest
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.cutting import UPLOAD_TRIES, failure_of
from whisper_farm.worker.handing_in import JobFailure, failed_by
from whisper_farm.worker.heartbeats import Heartbeats
from whisper_farm.worker.pipe import CutFailed, MakePeaks, PeaksMade
from whisper_farm.worker.tasks import BackgroundTasks


class PeaksMaking:
    """The peaks job of one worker. `finished` receives its end, `lost` a claim the farm denies."""

    def __init__(
        self,
        api: WorkerApi,
        worker_id: str,
        heartbeats: Heartbeats,
        tasks: BackgroundTasks,
        silence_seconds: float,
        finished: Callable[[Claim, PeaksResult | JobFailure], None],
        lost: Callable[[Claim], None],
    ) -> None:
        self._api = api
        self._worker_id = worker_id
        self._heartbeats = heartbeats
        self._tasks = tasks
        self._silence_seconds = silence_seconds
        self._finished = finished
        self._lost = lost
        self._work: dict[str, asyncio.Task[None]] = {}

    def take(self, claim: Claim, task: PeaksTask) -> None:
        """Make what this claim asks for."""
        work = self._tasks.start(self._make(claim, task), f"peaks of {claim.job_id}")
        self._work[claim.token] = work
        work.add_done_callback(lambda _: self._work.pop(claim.token, None))

    def drop(self, token: str) -> None:
        """Stop making this one, if it is there."""
        if work := self._work.get(token):
            work.cancel()

    def drain(self) -> tuple[str, ...]:
        """Stop; the tokens of what was being made."""
        tokens = tuple(self._work)
        for token in tokens:
            self.drop(token)
        return tokens

    async def _make(self, claim: Claim, task: PeaksTask) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="whisper-farm-", ignore_cleanup_errors=True) as folder:
                end = await self._made(claim, task, Path(folder) / "copy.m4a")
        except LeaseLost:
            self._lost(claim)
        except Exception as error:
            self._finished(claim, failed_by(error))
        else:
            self._finished(claim, end)

    async def _made(self, claim: Claim, task: PeaksTask, copy: Path) -> PeaksResult | JobFailure:
        try:
            answer = await self._in_child(task, copy)
        except ChildDiedError as death:
            return JobFailure(RecogniserCrashed.code, death.evidence)
        if isinstance(answer, CutFailed):
            return failure_of(answer)
        await self._heartbeats.sure_of([claim.token])
        audio = await self._uploaded(claim.token, copy)
        return PeaksResult(duration_seconds=answer.duration_seconds, peaks=answer.peaks, audio=audio)

    async def _in_child(self, task: PeaksTask, copy: Path) -> PeaksMade | CutFailed:
        child = await Child.start("cutter")
        try:
            await child.send(self._order(task, copy))
            while True:
                message, _ = await child.receive(self._silence_seconds)
                if isinstance(message, PeaksMade | CutFailed):
                    return message
        finally:
            await child.close()

    def _order(self, task: PeaksTask, copy: Path) -> MakePeaks:
        api = self._api
        return MakePeaks(
            server=api.server, token=api.token, timeout_seconds=api.timeout_seconds, task=task, copy_path=str(copy)
        )

    async def _uploaded(self, token: str, copy: Path) -> ListeningCopy:
        """Send the copy; an address that no longer works is replaced by a new one."""
        size = (await asyncio.to_thread(copy.stat)).st_size
        for tries_left in reversed(range(UPLOAD_TRIES)):
            key, transfer = await self._target(token)
            try:
                await self._api.upload_file(transfer, copy, size)
                return ListeningCopy(key=key, size=size)
            except (ServerUnreachable, ObjectStoreRefused):
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _target(self, token: str) -> tuple[str, Transfer]:
        request = UploadRequest(worker_id=self._worker_id, token=token, positions=(0,))
        for upload in (await self._api.uploads(request)).uploads:
            return upload.key, upload.transfer
        raise InvalidRequest("The farm did not say where the listening copy goes.")
