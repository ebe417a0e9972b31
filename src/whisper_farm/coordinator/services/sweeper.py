"""Removes blobs that nobody refers to, and announcements of uploads that never came.

Such blobs are what is left of attempts that were overtaken, of uploads that broke off, of a coordinator that died
between a deletion and its blobs. Only what is old is looked at, so nothing on its way is touched: a blob exists a
moment before the database knows it, and the setting allows no less than an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from whisper_farm.coordinator.keys import PREFIXES, owned
from whisper_farm.coordinator.services.service import Report, Timing
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.settings import ServerSettings
from whisper_farm.store.blobs import BlobEntry, Blobs
from whisper_farm.store.references import named_blobs
from whisper_farm.store.uploads import forget_uploads

BATCH = 500
HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class SweeperTiming(Timing):
    """The sweeper's defaults."""

    period_seconds: float = 3600
    timeout_seconds: float = 1800


@dataclass(frozen=True, slots=True)
class SweeperReport(Report):
    """What one run removed; of `blobs` that others removed in the same moment it cannot tell."""

    blobs: int = 0
    uploads: int = 0
    unfinished_files: int = 0


class Sweeper:
    """The service."""

    name: ClassVar[str] = "sweeper"

    def __init__(
        self, store: StoreThreads, blobs: Blobs, settings: ServerSettings, config: Timing | None = None
    ) -> None:
        self.config = config or SweeperTiming()
        self._store = store
        self._blobs = blobs
        self._orphan_seconds = settings.orphan_hours * HOUR_SECONDS

    async def run_once(self) -> SweeperReport:
        """One walk over all blobs."""
        stale = await self._store.write(lambda tx: forget_uploads(tx, tx.now - self._orphan_seconds))
        now = await self._store.read(lambda tx: tx.now)
        swept = 0
        for prefix in PREFIXES:
            batch: list[BlobEntry] = []
            async for entry in self._blobs.list(prefix):
                if entry.modified < now - self._orphan_seconds:
                    batch.append(entry)
                if len(batch) == BATCH:
                    swept += await self._sweep(batch)
                    batch = []
            swept += await self._sweep(batch)
        unfinished = await self._blobs.sweep_unfinished(now - self._orphan_seconds)
        return SweeperReport(swept, stale, unfinished)

    async def _sweep(self, batch: Sequence[BlobEntry]) -> int:
        if not batch:
            return 0
        keys = [entry.key for entry in batch]
        owners = {mine.transcription_id for key in keys if (mine := owned(key)) is not None}
        named = await self._store.read(lambda tx: named_blobs(tx, keys, owners))
        orphans = [key for key in keys if key not in named]
        await self._blobs.delete(orphans)
        return len(orphans)
