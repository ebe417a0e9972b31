"""Three services that clear away.

The reaper gives up who is silent, retention deletes what is old, the sweeper removes what nobody refers to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from whisper_farm.coordinator.readiness import settle_identity
from whisper_farm.coordinator.services.service import Report, Service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import PREFIXES, UPLOAD_SECONDS, owner_of_blob
from whisper_farm.leases.lapse import reap
from whisper_farm.leases.transcriptions import delete
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import BlobEntry, Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import RETIRE_BATCH, retire_events
from whisper_farm.store.limits import limits_in_force
from whisper_farm.store.references import empty_trash, named_blobs, note_trash, overfull_uploads
from whisper_farm.store.transcriptions import finished_before
from whisper_farm.store.uploads import forget_uploads
from whisper_farm.store.workers import forget_workers, long_gone
from whisper_farm.times import DAY_SECONDS

HOUR_SECONDS = 3600
BATCH = 20
"""Transcriptions deleted in one run; each is a transaction of its own, so that writers never wait long."""
GONE_DAYS = 30
"""Workers not heard of for longer are forgotten: every start of a worker makes a row."""
WORKERS_BATCH = 500
"""Workers forgotten in one run, in one transaction."""
SWEEP_BATCH = 500
"""Blobs asked about in one read."""


class Reaper(Service):
    """The service that gives up workers that have been silent for long, and jobs that nobody is left to claim.

    The queue does not wait for it: a lapsed job is taken by the next claim. See `leases/lapse.py`.
    """

    name = "reaper"
    period_seconds = 5
    timeout_seconds = 30

    def __init__(self, store: StoreThreads, policy: Policy) -> None:
        self._store, self._policy = store, policy

    async def run_once(self) -> Report:
        """One sweep over the whole farm."""
        report = await self._store.write(lambda tx: reap(tx, self._policy))
        return Report(**asdict(report))


class Retention(Service):
    """The service that deletes what is older than the owner of the farm wants to keep.

    A transcription is deleted like by its owner: rows first, then its blobs. If the coordinator dies in between, the
    sweeper removes the blobs. A worker is kept as long as an attempt names it: its name is part of the evidence.
    """

    name = "retention"
    woken_by = frozenset({"limits_changed"})
    period_seconds = 600
    timeout_seconds = 300

    def __init__(self, store: StoreThreads, blobs: Blobs, settings: ServerSettings) -> None:
        self._store, self._blobs, self._settings = store, blobs, settings

    async def run_once(self) -> Report:
        """Delete one batch of each."""
        event_seconds = self._settings.event_days * DAY_SECONDS
        events = await self._store.write(lambda tx: retire_events(tx, tx.now - event_seconds))
        transcriptions = sum([await self._delete(one) for one in await self._store.read(self._old)])
        workers = await self._forget_workers()
        more = events >= RETIRE_BATCH or transcriptions >= BATCH or workers >= WORKERS_BATCH
        return Report(more, events=events, transcriptions=transcriptions, workers=workers)

    def _old(self, tx: Transaction) -> list[str]:
        days = limits_in_force(tx, self._settings).retention_days
        return [] if days is None else finished_before(tx, tx.now - days * DAY_SECONDS, BATCH)

    async def _delete(self, transcription_id: str) -> bool:
        """Delete it if it is still old: it may have been tried again, or deleted, meanwhile."""

        def change(tx: Transaction) -> list[str] | None:
            return delete(tx, transcription_id) if transcription_id in self._old(tx) else None

        keys = await self._store.write(change)
        await self._blobs.delete(keys or [])
        return keys is not None

    async def _forget_workers(self) -> int:
        """They are looked for beside the writers: most workers that are gone may have attempts that are kept."""
        keep_seconds = GONE_DAYS * DAY_SECONDS
        ids = await self._store.read(lambda tx: long_gone(tx, tx.now - keep_seconds, WORKERS_BATCH))
        return await self._store.write(lambda tx: forget_workers(tx, ids, tx.now - keep_seconds)) if ids else 0


class Sweeper(Service):
    """The service that removes blobs nobody refers to, and announcements of uploads that never came.

    Such blobs are left by attempts that were overtaken and by uploads that broke off. A coordinator that died between a
    deletion and its blobs leaves some, too. Only what is old is looked at, so nothing on its way is touched: a blob
    exists a moment before the database knows it, and the setting allows no less than an hour.

    What nobody refers to is noted first, and deleted when that is still so after the time in the trash. Nothing is
    swept where database and blob store are not of one farm.

    A presigned address takes any number of bytes. What was sent to one, is larger than announced and was not submitted
    is removed as soon as the address has run out.
    """

    name = "sweeper"
    period_seconds = 3600
    timeout_seconds = 1800

    def __init__(self, store: StoreThreads, blobs: Blobs, settings: ServerSettings) -> None:
        self._store, self._blobs = store, blobs
        self._orphan_seconds = settings.orphan_hours * HOUR_SECONDS
        self._trash_seconds = settings.trash_hours * HOUR_SECONDS

    async def run_once(self) -> Report:
        """One walk over all blobs. Raises `FarmMismatch` where they are another farm's: then all would be unknown."""
        await settle_identity(self._store, self._blobs)
        stale = await self._store.write(lambda tx: forget_uploads(tx, tx.now - self._orphan_seconds))
        now = await self._store.read(lambda tx: tx.now)
        swept = 0
        for prefix in PREFIXES:
            batch: list[BlobEntry] = []
            async for entry in self._blobs.list(prefix):
                if entry.modified < now - min(UPLOAD_SECONDS, self._orphan_seconds):
                    batch.append(entry)
                if len(batch) == SWEEP_BATCH:
                    swept += await self._sweep(batch, now - self._orphan_seconds)
                    batch = []
            swept += await self._sweep(batch, now - self._orphan_seconds)
        unfinished = await self._blobs.sweep_unfinished(now - self._orphan_seconds)
        return Report(blobs=swept, uploads=stale, unfinished_files=unfinished)

    async def _sweep(self, batch: Sequence[BlobEntry], before: float) -> int:
        """Remove what nobody refers to and is older than that time, and what is larger than it may be."""
        if not batch:
            return 0
        old = [entry.key for entry in batch if entry.modified < before]
        owners = {owner for key in old if (owner := owner_of_blob(key)) is not None}
        named = await self._store.read(lambda tx: named_blobs(tx, old, owners))
        sizes = {entry.key: entry.size for entry in batch}
        gone = await self._store.read(lambda tx: overfull_uploads(tx, sizes))
        unknown = [key for key in old if key not in named]
        if unknown:
            gone |= set(await self._store.write(lambda tx: note_trash(tx, unknown, tx.now - self._trash_seconds)))
        await self._blobs.delete(sorted(gone))
        if gone:
            await self._store.write(lambda tx: empty_trash(tx, gone))
        return len(gone)
