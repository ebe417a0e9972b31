"""What is played and drawn of a recording: a child makes it, the agent uploads the copy and hands the peaks in.

Promises: nothing waits for this. Its child gives way to everything else on this machine: no cutting and no recognition
is held up. A worker that cuts asks for no such job. Memory is bounded: the copy is a file in a folder that is removed,
whatever happens. A child that dies costs the job an attempt.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from whisper_farm.errors import RecogniserCrashed
from whisper_farm.protocol.jobs import ListeningCopy, PeaksResult, PeaksTask
from whisper_farm.protocol.worker import Claim
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.cutting import Storing, failure_of
from whisper_farm.worker.handing_in import JobFailure
from whisper_farm.worker.heartbeats import Heartbeats
from whisper_farm.worker.pipe import CutFailed, PeaksMade
from whisper_farm.worker.reading import Reading


class PeaksMaking:
    """The peaks job of one worker."""

    def __init__(self, api: WorkerApi, heartbeats: Heartbeats, silence_seconds: float) -> None:
        self._api, self._heartbeats, self._silence_seconds = api, heartbeats, silence_seconds

    async def make(self, claim: Claim, task: PeaksTask) -> PeaksResult | JobFailure:
        """Make what this claim asks for; cancel this to stop."""
        with tempfile.TemporaryDirectory(prefix="whisper-farm-", ignore_cleanup_errors=True) as folder:
            copy = Path(folder) / "copy.m4a"
            try:
                answer = await self._in_child(task, copy)
            except ChildDiedError as death:
                return JobFailure(RecogniserCrashed.code, death.evidence)
            if isinstance(answer, CutFailed):
                return failure_of(answer)
            audio = await self._stored(claim.token, copy)
            return PeaksResult(duration_seconds=answer.duration_seconds, peaks=answer.peaks, audio=audio)

    async def _in_child(self, task: PeaksTask, copy: Path) -> PeaksMade | CutFailed:
        child = await Child.start("cutter", writable=copy.parent)
        reading = Reading(child, self._api, task, self._silence_seconds)
        try:
            await reading.begin(copy)
            while True:
                message, _ = await reading.receive()
                if isinstance(message, PeaksMade | CutFailed):
                    return message
        finally:
            await child.close()  # first, for it is done even when this is cancelled once more
            await reading.close()

    async def _stored(self, token: str, copy: Path) -> ListeningCopy:
        storing = Storing(self._api, self._heartbeats, token)
        size = (await asyncio.to_thread(copy.stat)).st_size
        target = (await storing.targets([0]))[0]
        return ListeningCopy(key=await storing.store(target, copy), size=size)
