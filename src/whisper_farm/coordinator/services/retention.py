"""Deletes what is older than the owner of the farm wants to keep: events, and finished transcriptions.

A transcription is deleted like by its owner: rows first, then its blobs. Should the coordinator die in between,
the blobs belong to nobody and the sweeper removes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import select

from whisper_farm.coordinator.services.service import Report, Timing
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.leases.lifecycle import delete
from whisper_farm.settings import ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import RETIRE_BATCH, retire_events
from whisper_farm.store.tables import transcriptions

DAY_SECONDS = 86_400
BATCH = 20
"""Transcriptions deleted in one run; each is a transaction of its own, so that writers never wait long."""


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

    @property
    def worked(self) -> bool:
        return self.events >= RETIRE_BATCH or self.transcriptions >= BATCH


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
        if self._settings.retention_days is None:
            return RetentionReport(events)
        keep_seconds = self._settings.retention_days * DAY_SECONDS
        old = await self._store.read(lambda tx: _finished_before(tx, tx.now - keep_seconds))
        return RetentionReport(events, sum([await self._delete(one) for one in old]))

    async def _delete(self, transcription_id: str) -> bool:
        try:
            keys = await self._store.write(lambda tx: delete(tx, transcription_id))
        except (NotFound, WrongState):  # deleted or tried again meanwhile
            return False
        await self._blobs.delete(keys)
        return True


def _finished_before(tx: Transaction, time: float) -> list[str]:
    query = select(transcriptions.c.id).where(transcriptions.c.finished_at < time)
    return list(tx.connection.scalars(query.order_by(transcriptions.c.finished_at).limit(BATCH)))
