"""The one place that puts coordinator and worker together, in one event loop of one background thread.

`FarmThread` is that thread. `LocalFarm` is what `whisper-farm transcribe` runs on: a whole farm inside one command,
with the same coordinator, protocol and worker as any farm. The coordinator listens on a loopback port of its own. State
lives in a data folder. Any number of such farms may use the same one at the same time, each for its own transcriptions.

Promises: leaving it ends every thread, process and connection it started, and so does failing half-way in starting.
What was recognised is kept. What nobody needs any more is cleared away: the audio of chunks that are done,
transcriptions that are old.
"""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from uvicorn.loops.auto import auto_loop_factory

from whisper_farm.client.farm import FarmClient
from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.coordinator.app import Dialects, own_dialects
from whisper_farm.coordinator.server import ADMIN_OWNER, known_token, open_stores, serve_stores
from whisper_farm.errors import EngineError, NoSpace, ServerUnreachable
from whisper_farm.leases.transcriptions import cancel, delete
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.jobs import audio_of_done_chunks
from whisper_farm.store.tokens import mint_token
from whisper_farm.store.transcriptions import find, move_source, unfinished_since
from whisper_farm.times import DAY_SECONDS
from whisper_farm.whole_files import ADMIN_TOKEN_FILE
from whisper_farm.worker.local import LocalWorker

START_SECONDS = 60.0
STOP_SECONDS = 10.0
KEEP_DAYS = 30.0
"""Transcriptions older than this are forgotten: their outputs were written long ago."""
LEAST_FREE_BYTES = 32 << 20
"""With less than this the farm stops, while there is room for its database to be left in order."""


class FarmThread:
    """A coordinator, and a worker if asked, in one event loop. Use it as a context manager."""

    address: str

    def __init__(
        self,
        settings: ServerSettings,
        policy: Policy,
        database: Database,
        blobs: Blobs,
        loop: LoopThread | None = None,
        dialects: Dialects | None = None,
    ) -> None:
        """`loop` is one that others use, too; without it the farm has one of its own: uvloop, if there is one."""
        self._loop, self._dialects = loop, dialects
        self._settings, self._policy, self._database, self._blobs = settings, policy, database, blobs
        self._stop = threading.Event()
        self.worker: LocalWorker | None = None

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self.loop = self._loop or started.enter_context(closing(LoopThread("farm", auto_loop_factory())))
            started.callback(self._stop_serving)
            self.address = self._start_serving()
            started.callback(self._stop_working)
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def employ(self, worker: LocalWorker, token: str) -> None:
        """Let a worker work for this farm. It is there until the end, unless the farm sends it away."""
        self.worker = worker
        worker.work_for(self.address, token)

    def check(self) -> None:
        """Raise what the coordinator died of."""
        if self._serving.done():
            self._serving.result()

    def _start_serving(self) -> str:
        address: Future[str] = Future()
        stores = self._database, self._blobs
        self._serving = self.loop.start(
            serve_stores(self._settings, self._policy, stores, address.set_result, self._stop, self._dialects)
        )
        either: list[Future[Any]] = [address, self._serving]
        wait(either, START_SECONDS, FIRST_COMPLETED)
        if address.done():
            return address.result()
        self.check()
        raise ServerUnreachable("The farm inside this command did not start.")

    def _stop_serving(self) -> None:
        self._stop.set()
        wait([self._serving], STOP_SECONDS)

    def _stop_working(self) -> None:
        if self.worker is not None:
            self.worker.close()


class LocalFarm:
    """A farm of one machine, in the event loop of its worker. Use it as a context manager; `client` speaks to it."""

    client: FarmClient

    def __init__(self, data: Path, policy: Policy, worker: LocalWorker) -> None:
        self._settings = ServerSettings(
            host="127.0.0.1",
            port=0,
            data=data,
            database=None,
            blobs=None,
            public_url=None,
            tls_cert=None,
            tls_key=None,
            local_sources=True,
            local_models=True,
            retention_days=KEEP_DAYS,
        )
        self._policy, self._worker = policy, worker

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._database, self._blobs = started.enter_context(open_stores(self._settings))
            stores = self._database, self._blobs
            farm = FarmThread(self._settings, self._policy, *stores, self._worker.loop, own_dialects)
            self._farm = started.enter_context(farm)
            self._forget_abandoned()
            known = known_token(self._database, self._settings.data / ADMIN_TOKEN_FILE)  # another one where it was lost
            self.token = known or self._database.write(
                lambda tx: mint_token(tx, "this machine", ADMIN_OWNER, "admin")[1]
            )
            self.client = FarmClient(self._farm.address, self.token, loop=self._farm.loop)
            started.callback(self.client.close)
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def start_worker(self) -> bool:
        """Let the worker work, on transcriptions with its label and no others; False if it does so already."""
        if self._farm.worker is not None:
            return False
        self._farm.employ(self._worker, self.token)
        return True

    def slots(self) -> int:
        """How many batches the worker recognises at the same time."""
        workers = self.client.workers()
        return next((worker.slots for worker in workers if worker.id == self._worker.worker_id), 1)

    def check(self) -> None:
        """Raise the error of a coordinator or worker that cannot go on, or of a disk that is nearly full."""
        self._farm.check()
        if shutil.disk_usage(self._settings.data).free < LEAST_FREE_BYTES:
            raise NoSpace(
                f"No space is left in {self._settings.data}: make room, or set WHISPER_FARM_DATA to a folder elsewhere."
            )
        if self._worker.unavailable is not None:
            raise self._worker.unavailable
        if self._worker.ending():
            raise EngineError("The worker of this command has left; give the command again.")

    def point_to(self, transcription_id: str, path: Path) -> None:
        """Say where a recording that is not cut yet is found now: it may have been moved since it was submitted."""
        self._database.write(lambda tx: move_source(tx, transcription_id, path))

    def drop_audio(self, transcription_id: str) -> None:
        """Clear away the audio of a transcription that is done, and what was fetched: nobody will ask for it again."""

        def audio(tx: Transaction) -> list[str]:
            source = find(tx, transcription_id).source_key
            return [*audio_of_done_chunks(tx, transcription_id), *([source] if source else [])]

        self._delete_blobs(self._database.read(audio))

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
            self._farm.loop.run(self._blobs.delete(keys))
