"""Deletes what is older than the owner of the farm wants to keep: events, finished transcriptions, workers long gone.

A transcription is deleted like by its owner: rows first, then its blobs. Should the coordinator die in between,
the blobs belong to nobody and the sweeper removes them. A worker is kept as long as an attempt names it: its name is
part of the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whisper_farm.coordinator.services.service import Report, Timing
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.leases.transcriptions import delete
from whisper_farm.settings import ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.events import RETIRE_BATCH, retire_events
from whisper_farm.store.transcriptions import finished_before
from whisper_farm.store.workers import forget_workers, long_gone

DAY_SECONDS = 86_400
BATCH = 20
"""Transcriptions deleted in one run; each is a transaction of its own, so that writers never wait long."""
GONE_DAYS = 30
"""Workers not heard of for longer are forgotten: every start of a worker makes a row."""
WORKERS_BATCH = 500
"""Workers forgotten in one run, in one transaction."""


@dataclass(frozen=True, slots=True)
class RetentionTiming(Timing):
    """Retention's defaults."""

    period_seconds: float = 600
    timeout_seconds: float = 300


@dataclass(frozen=True, slots=True)
class RetentionReport(Report):
    """What one run deleted."""

    events: int = 0
    transcriptions: int = 0
    workers: int = 0

    @property
    def worked(self) -> bool:
        return self.events >= RETIRE_BATCH or self.transcriptions >= BATCH or self.workers >= WORKERS_BATCH


class Retention:
    """The service."""

    name: ClassVar[str] = "retention"

    def __init__(
        self, store: StoreThreads, blobs: Blobs, settings: ServerSettings, config: Timing | None = None
    ) -> None:
        self.config = config or RetentionTiming()
        self._store = store
        self._blobs = blobs
        self._settings = settings

    async def run_once(self) -> RetentionReport:
        """Delete one batch of each."""
        event_seconds = self._settings.event_days * DAY_SECONDS
        events = await self._store.write(lambda tx: retire_events(tx, tx.now - event_seconds))
        return RetentionReport(events, await self._delete_old(), await self._forget_workers())

    async def _delete_old(self) -> int:
        if self._settings.retention_days is None:
            return 0
        keep_seconds = self._settings.retention_days * DAY_SECONDS
        old = await self._store.read(lambda tx: finished_before(tx, tx.now - keep_seconds, BATCH))
        return sum([await self._delete(one) for one in old])

    async def _delete(self, transcription_id: str) -> bool:
        try:
            keys = await self._store.write(lambda tx: delete(tx, transcription_id))
        except (NotFound, WrongState):  # deleted or tried again meanwhile
            return False
        await self._blobs.delete(keys)
        return True

    async def _forget_workers(self) -> int:
        """They are looked for beside the writers: most workers that are gone may have attempts that are kept."""
        keep_seconds = GONE_DAYS * DAY_SECONDS
        ids = await self._store.read(lambda tx: long_gone(tx, tx.now - keep_seconds, WORKERS_BATCH))
        return await self._store.write(lambda tx: forget_workers(tx, ids, tx.now - keep_seconds)) if ids else 0
