"""The Python client of a farm: submit recordings, watch them, take the transcripts.

::

    with FarmClient("http://farm.example:8765", token) as farm:
        view = farm.submit_file(Path("talk.mp3"), options=RecognitionOptions(model="turbo"))
        for event in farm.events(transcription=view.id):
            ...
        print(farm.transcript(view.id).text)

It is a thin front of `AsyncFarmClient`, which says what each call promises, and runs it in a thread with an event loop.
Safe to use from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from whisper_farm.client.async_farm import AsyncFarmClient, Progress, no_progress
from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.protocol.client import (
    EventView,
    JobView,
    Scope,
    SegmentPage,
    ServerView,
    Submission,
    TokenView,
    TranscriptionState,
    TranscriptionView,
    WorkerView,
)
from whisper_farm.protocol.machines import MachineAction, MachineLine, MachineList, MachineView, PoolChange
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Transcript


class FarmClient:
    """One farm, seen through one access token."""

    def __init__(self, server: str, token: str, timeout: float = 30.0, loop: LoopThread | None = None) -> None:
        """`loop` is one that others use, too; without it the client has its own."""
        self._farm = AsyncFarmClient(server, token, timeout)
        self._has_own_loop = loop is None
        self._loop = loop or LoopThread("farm client")
        self.address = self._farm.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._loop.run(self._farm.close())
        if self._has_own_loop:
            self._loop.close()

    def server(self) -> ServerView:
        """Who answers, and what it can do."""
        return self._loop.run(self._farm.server())

    def submit(self, submission: Submission) -> TranscriptionView:
        """Ask for a transcription. With a key it may be sent again; without one it is sent once."""
        return self._loop.run(self._farm.submit(submission))

    def submit_file(
        self,
        path: Path,
        *,
        options: RecognitionOptions | None = None,
        chunk_seconds: float = 30,
        priority: int = 0,
        key: str | None = None,
        sha256: str | None = None,
        progress: Progress = no_progress,
    ) -> TranscriptionView:
        """Upload a recording and ask for its transcription. `progress` is called in another thread."""
        return self._loop.run(
            self._farm.submit_file(
                path,
                options=options,
                chunk_seconds=chunk_seconds,
                priority=priority,
                key=key,
                sha256=sha256,
                progress=progress,
            )
        )

    def upload(self, path: Path, progress: Progress = no_progress) -> str:
        """Send a file to the farm; returns the id under which it can be submitted."""
        return self._loop.run(self._farm.upload(path, progress))

    def get(self, transcription_id: str) -> TranscriptionView:
        """A transcription: state, progress, gaps."""
        return self._loop.run(self._farm.get(transcription_id))

    def list(self, state: TranscriptionState | None = None) -> Iterator[TranscriptionView]:
        """The transcriptions this token may see, newest first, asked for page by page as they are taken."""
        return self._loop.iterate(self._farm.list(state))

    def jobs(self, transcription_id: str) -> Iterator[JobView]:
        """Every job of a transcription with the evidence of its attempts."""
        return self._loop.iterate(self._farm.jobs(transcription_id))

    def cancel(self, transcription_id: str) -> TranscriptionView:
        """Stop a transcription."""
        return self._loop.run(self._farm.cancel(transcription_id))

    def retry(self, transcription_id: str) -> TranscriptionView:
        """Try again what failed or was cancelled; what is done is kept."""
        return self._loop.run(self._farm.retry(transcription_id))

    def delete(self, transcription_id: str) -> None:
        """Delete a finished transcription, its audio and its transcript."""
        self._loop.run(self._farm.delete(transcription_id))

    def transcript(self, transcription_id: str) -> Transcript:
        """The whole transcript."""
        return self._loop.run(self._farm.transcript(transcription_id))

    def rendered(self, transcription_id: str, format: str) -> str:
        """The transcript as the text of a file: txt, srt, vtt, tsv or json."""
        return self._loop.run(self._farm.rendered(transcription_id, format))

    def segments(self, transcription_id: str, after: int = -1) -> SegmentPage:
        """What was said in the finished chunks after position `after`, as far as they follow it without a hole."""
        return self._loop.run(self._farm.segments(transcription_id, after))

    def workers(self) -> tuple[WorkerView, ...]:
        """The workers the farm has heard of lately."""
        return self._loop.run(self._farm.workers())

    def drain(self, worker_id: str) -> None:
        """Let a worker finish what it holds and leave."""
        self._loop.run(self._farm.drain(worker_id))

    def machines(self) -> MachineList:
        """The pools of machines, and the machines that count or ended today."""
        return self._loop.run(self._farm.machines())

    def machine_log(self, machine: str | None = None) -> tuple[MachineLine, ...]:
        """What happened to machines, newest first; to one of them or to all."""
        return self._loop.run(self._farm.machine_log(machine))

    def change_pool(self, pool: str, change: PoolChange) -> MachineList:
        """Switch a pool, or fix how many machines it shall have."""
        return self._loop.run(self._farm.change_pool(pool, change))

    def change_machine(self, machine: str, action: MachineAction) -> MachineView:
        """Ask that a machine be started, drained, stopped or destroyed."""
        return self._loop.run(self._farm.change_machine(machine, action))

    def create_token(self, name: str, scope: Scope, owner: str | None = None) -> TokenView:
        """Make an access token; the secret is in this answer and nowhere else."""
        return self._loop.run(self._farm.create_token(name, scope, owner))

    def tokens(self) -> tuple[TokenView, ...]:
        """The access tokens, without their secrets."""
        return self._loop.run(self._farm.tokens())

    def revoke_token(self, token_id: str) -> None:
        """End an access token."""
        self._loop.run(self._farm.revoke_token(token_id))

    def events(self, after: int | None = None, transcription: str | None = None) -> Generator[EventView, None, None]:
        """Follow what happens, of one transcription or of all that this token may see, for ever."""
        return self._loop.iterate(aiter(self._farm.events(after, transcription)))

    def on_event(self, told: Callable[[EventView], None]) -> Future[None]:
        """Call this, in another thread, with all that happens from now on, until the future is cancelled."""

        async def following() -> None:
            async for event in self._farm.events():
                told(event)

        return self._loop.start(following())
