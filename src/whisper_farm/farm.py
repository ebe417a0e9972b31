"""The one place that puts coordinator and worker together: a whole farm inside one process.

`LocalFarm` is what `whisper-farm transcribe` runs on: the same coordinator, protocol and worker as any farm, the
coordinator in one thread on a loopback port of its own, the worker in another with its child processes. State lives
in a data folder; any number of such farms may use the same one at the same time, each working on its own recordings.

Promises: leaving it ends every thread and process it started; what was recognised is kept; what nobody needs any more
(the audio of chunks that are done, transcriptions that are old) is cleared away.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from whisper_farm.client.farm import FarmClient
from whisper_farm.coordinator.server import ADMIN_OWNER, ADMIN_TOKEN_FILE, open_stores, serve, write_secret
from whisper_farm.errors import EngineError, ModelUnavailable, NoSpace, ServerUnreachable
from whisper_farm.leases.transcriptions import cancel, delete
from whisper_farm.settings import Policy, ServerSettings, WorkerSettings
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.jobs import audio_of_done_chunks
from whisper_farm.store.tokens import find_token, mint_token
from whisper_farm.store.transcriptions import move_source, unfinished_since
from whisper_farm.worker.agent import Agent
from whisper_farm.worker.notices import Notice, Tell, tell_nobody

START_SECONDS = 60.0
STOP_SECONDS = 10.0
KEEP_DAYS = 30.0
"""Transcriptions older than this are forgotten: their outputs were written long ago."""
DAY_SECONDS = 86_400.0
LEAST_FREE_BYTES = 32 << 20
"""With less than this the farm stops, while there is room for its database to be left in order."""
WORKER_TOKEN_FILE = "worker-token"


class Background:
    """A thread whose error is not lost: `check` raises it."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.ended = threading.Event()
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the thread died of."""
        if self._error is not None:
            raise self._error

    def join(self, seconds: float) -> bool:
        """Wait for the end; False if it does not come in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
        finally:
            self.ended.set()


class LocalWorker:
    """A worker in a thread of its own, with its children."""

    def __init__(self, settings: WorkerSettings, tell: Tell) -> None:
        self._agent = Agent(settings, tell)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Background("worker", lambda: asyncio.run(self._work()))

    @property
    def worker_id(self) -> str:
        return self._agent.worker_id

    def also(self, transcription_id: str) -> None:
        """Work for this transcription, too."""
        self._agent.also(transcription_id)

    def check(self) -> None:
        """Raise what it died of. It never leaves by itself."""
        self._thread.check()
        if self._thread.ended.is_set():
            raise EngineError("The worker of this command has left; give the command again.")

    def stop(self) -> None:
        """Leave at once: children are ended, what was not finished is handed back."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._agent.leave_now)
        self._thread.join(STOP_SECONDS)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._agent.run(asyncio.Event())


def worker_token(database: Database, data: Path) -> str:
    """A token for workers of this farm, kept in the data folder so that it stays the same."""
    file = data / WORKER_TOKEN_FILE
    with contextlib.suppress(OSError):
        secret = file.read_text(encoding="utf-8").strip()
        if database.read(lambda tx: find_token(tx, secret)):
            return secret
    secret = database.write(lambda tx: mint_token(tx, "workers", ADMIN_OWNER, "worker")[1])
    write_secret(file, secret)
    return secret


class LocalFarm:
    """A farm of one machine. Use it as a context manager; `client` speaks to it."""

    client: FarmClient

    def __init__(self, data: Path, policy: Policy, worker: WorkerSettings, tell: Tell = tell_nobody) -> None:
        self._settings = ServerSettings(
            host="127.0.0.1",
            port=0,
            data=data,
            database=None,
            blobs=None,
            public_url=None,
            local_sources=True,
            local_models=True,
            retention_days=KEEP_DAYS,
        )
        self._policy = policy
        self._worker_settings = worker
        self._tell = tell
        self._stop_serving = threading.Event()
        self._worker: LocalWorker | None = None
        self._fatal: EngineError | None = None

    def __enter__(self) -> Self:
        address: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                serve(self._settings, self._policy, address.put, self._stop_serving)
            finally:
                address.put(None)

        self._server = Background("coordinator", work)
        try:
            url = address.get(timeout=START_SECONDS)
        except queue.Empty:
            url = None
        if url is None:
            self._server.check()
            raise ServerUnreachable("The farm inside this command did not start.")
        self._stores = open_stores(self._settings)
        self._database, self._blobs = self._stores.__enter__()
        self._forget_abandoned()
        self.token = self._admin_token()
        self.client = FarmClient(url, self.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.stop()
        self.client.close()
        self._stores.__exit__(None, None, None)
        self._stop_serving.set()
        self._server.join(STOP_SECONDS)

    @property
    def has_worker(self) -> bool:
        """Whether there was anything to work on yet."""
        return self._worker is not None

    def work_on(self, transcription_id: str) -> None:
        """Let the worker do this transcription, too; the first one starts it. It does none that was not named."""
        if self._worker is not None:
            self._worker.also(transcription_id)
            return
        settings = self._worker_settings.model_copy(
            update={"server": self.client.address, "token": self.token, "only": (transcription_id,)}
        )
        self._worker = LocalWorker(settings, self._heed)

    def slots(self) -> int:
        """How many batches the worker recognises at the same time."""
        worker_id = self._worker.worker_id if self._worker is not None else None
        return next((worker.slots for worker in self.client.workers() if worker.id == worker_id), 1)

    def check(self) -> None:
        """Raise the error of a coordinator or worker that cannot go on, or of a disk that is nearly full."""
        self._server.check()
        if shutil.disk_usage(self._settings.data).free < LEAST_FREE_BYTES:
            raise NoSpace(
                f"No space is left in {self._settings.data}: make room, or set WHISPER_FARM_DATA to a folder elsewhere."
            )
        if self._fatal is not None:
            raise self._fatal
        if self._worker is not None:
            self._worker.check()

    def point_to(self, transcription_id: str, path: Path) -> None:
        """Say where a recording that is not cut yet is found now: it may have been moved since it was submitted."""
        self._database.write(lambda tx: move_source(tx, transcription_id, path))

    def drop_audio(self, transcription_id: str) -> None:
        """Clear away the audio of a transcription's chunks that are done: nobody will ask for it again."""
        self._delete_blobs(self._database.read(lambda tx: audio_of_done_chunks(tx, transcription_id)))

    def _admin_token(self) -> str:
        """The token in the data folder; another one where it was lost."""
        with contextlib.suppress(OSError):
            secret = (self._settings.data / ADMIN_TOKEN_FILE).read_text(encoding="utf-8").strip()
            if self._database.read(lambda tx: find_token(tx, secret)):
                return secret
        return self._database.write(lambda tx: mint_token(tx, "this machine", ADMIN_OWNER, "admin")[1])

    def _forget_abandoned(self) -> None:
        """Transcriptions that were begun long ago and never finished: retention only knows finished ones."""

        def forget(tx: Transaction) -> list[str]:
            keys: list[str] = []
            for one in unfinished_since(tx, tx.now - KEEP_DAYS * DAY_SECONDS):
                cancel(tx, one)
                keys += delete(tx, one)
            return keys

        self._delete_blobs(self._database.write(forget))

    def _delete_blobs(self, keys: list[str]) -> None:
        if keys:
            asyncio.run(self._blobs.delete(keys))

    def _heed(self, notice: Notice) -> None:
        if notice.kind == "model_unavailable":
            self._fatal = ModelUnavailable(notice.message)
        self._tell(notice)
