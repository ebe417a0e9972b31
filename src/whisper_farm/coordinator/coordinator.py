"""One running coordinator: what its routes share, and how it starts and stops.

It holds connections, threads and listeners, but no state of the farm: that is in the database and the blob store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request

from whisper_farm.coordinator.claims import WORK_MAKING, Claims
from whisper_farm.coordinator.completions import Completions
from whisper_farm.coordinator.editing import Texts
from whisper_farm.coordinator.event_log import EventLog
from whisper_farm.coordinator.layers.auth import KnownTokens, KnownWorkers
from whisper_farm.coordinator.layers.quotas import AtOnce, FailedTries, OneEach, Turns
from whisper_farm.coordinator.layers.sessions import KnownSessions, OwnNames, WaysIn
from whisper_farm.coordinator.long_poll import LongPolls
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.readiness import Readiness, settle_identity
from whisper_farm.coordinator.services.assembler import Assembler
from whisper_farm.coordinator.services.cleaner import Reaper, Retention, Sweeper
from whisper_farm.coordinator.services.feeds import Feeds
from whisper_farm.coordinator.services.fetcher import Fetcher
from whisper_farm.coordinator.services.reconciler import MachinesService
from whisper_farm.coordinator.services.service import Service, Services
from whisper_farm.coordinator.services.webhooks import Webhooks
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transcripts import Renderer
from whisper_farm.coordinator.web_app import WebApp
from whisper_farm.errors import FarmError, FarmMismatch, StorageError
from whisper_farm.fleet.pools import read_pools
from whisper_farm.log import logger
from whisper_farm.protocol.events import EventKind
from whisper_farm.settings import MAX_FETCHES, Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database
from whisper_farm.store.events import Event

STOP_SECONDS = 1.5
"""How long the tasks behind the API have to end."""
MOST_DOWNLOADS = 128
"""Files that are sent at once: one that nobody reads holds three megabytes."""
DRAINING: frozenset[EventKind] = frozenset({"worker_draining", "worker_dismissed"})


class Coordinator:
    def __init__(self, settings: ServerSettings, policy: Policy, database: Database, blobs: Blobs) -> None:
        self.settings, self.policy, self.database, self.blobs = settings, policy, database, blobs
        self.metrics = Metrics()
        self.store = StoreThreads(database, self._emitted)
        self.readiness = Readiness(database, self.store, blobs)
        self.tokens = KnownTokens(self.store)
        self.workers = KnownWorkers(self.store)
        self.sessions = KnownSessions(self.store)
        self.names = OwnNames(settings)
        self.failed_tries = FailedTries()
        self.one_search, self.one_page = OneEach(), OneEach()
        self.one_password = asyncio.Semaphore(1)
        """Looking at one costs a processor, and much memory: others wait, and the readers of the database do not."""
        self.enter = WaysIn(self.store, settings, self.tokens, self.sessions, self.names).enter
        self.uploads_at_once = AtOnce(settings.max_uploads_at_once, "uploads")
        self.streams_at_once = AtOnce(settings.max_streams, "event streams")
        self.downloads = Turns(MOST_DOWNLOADS)
        self.web_app = WebApp.read()
        self.claims = Claims(self.store, policy, self.metrics)
        self.long_polls = LongPolls(self.claims.attempt)
        self.completions = Completions(self.store, blobs, policy, self.metrics)
        self.renderer = Renderer(self.store, blobs)
        self.texts = Texts(self.store, blobs)
        self.machines = (
            None
            if settings.pools is None
            else MachinesService(self.store, read_pools(settings.pools), settings.pools_dry_run)
        )
        self.services = Services(self._services())
        self.event_log = EventLog(self.store, self._heed)
        self.log = logger()
        self.start_error: FarmError | None = None
        """Why it could not start."""
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def _services(self) -> Iterator[Service]:
        yield Assembler(self.store, self.blobs)
        yield Reaper(self.store, self.policy)
        yield Retention(self.store, self.blobs, self.settings)
        yield Sweeper(self.store, self.blobs, self.settings)
        yield Webhooks(self.store, self.settings)
        yield Feeds(self.store, self.blobs, self.settings)
        for most_of_one in (MAX_FETCHES, 1):
            for _ in range(self.settings.fetches_at_once):
                yield Fetcher(self.store, self.blobs, self.settings, most_of_one)
        if self.machines is not None:
            yield self.machines

    async def start(self) -> None:
        """Begin to follow the event log and to run the background services."""
        try:
            await self._settle_identity()
            await self.event_log.start()
        except FarmError as error:
            self.start_error = error
            raise
        self._run(self.event_log.run())
        self._run(self.long_polls.run())
        self._run(self.services.run(self._stop))
        self.log.info("coordinator started", action="coordinator_started", database=self.database.place)

    async def _settle_identity(self) -> None:
        """A store that does not answer now is asked again before anything is swept."""
        try:
            await settle_identity(self.store, self.blobs)
        except FarmMismatch:
            raise
        except StorageError as error:
            self.log.warning("the blob store was not looked at", action="identity_unknown", error=error.message)

    async def end_waits(self) -> None:
        """Let every long poll and event stream end now; the first step of stopping."""
        self.event_log.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self.long_polls.close()

    async def stop(self) -> None:
        """End everything that `start` began."""
        await self.end_waits()
        self._stop.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        if self.machines is not None:
            await self.machines.close()
        self.renderer.close()
        await self.store.close(STOP_SECONDS)
        self.log.info("coordinator stopped", action="coordinator_stopped")

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _heed(self, event: Event) -> None:
        """What the coordinator itself does about events, whoever made them."""
        if event.kind in WORK_MAKING:
            self.long_polls.wake()
        elif event.kind in DRAINING:
            self.long_polls.prefer(str(event.data.get("worker_id")))

    def _emitted(self, events: Sequence[Mapping[str, object]]) -> None:
        """What this coordinator has just changed: no need to read it in the log before workers are told."""
        self.metrics.emitted(events)
        kinds = {str(event["kind"]) for event in events}
        if not kinds.isdisjoint(WORK_MAKING):
            self.long_polls.wake()
        self.services.notice(kinds)


async def _coordinator(request: Request) -> Coordinator:
    found: Coordinator = request.app.state.coordinator
    return found


Farm = Annotated[Coordinator, Depends(_coordinator)]
"""For routes: the coordinator they belong to."""
