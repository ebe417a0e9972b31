"""Looks after the machines of the farm's pools: one round again and again, on one coordinator at a time.

See `fleet/reconcile.py`. Without a file of pools there is no such service. When the server stops, workers on this
machine end with it, and another coordinator may go on at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

from whisper_farm.coordinator.services.service import Report, Service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import FarmError, WrongState
from whisper_farm.fleet.pools import Fleet, Pool
from whisper_farm.fleet.providers.provider import open_providers
from whisper_farm.fleet.reconcile import DatabaseKeeper, Reconciler
from whisper_farm.store.machines import forget_log

SILENT_SECONDS = 3.0
"""A coordinator that is unheard of for so long, or for three pauses, has lost its turn."""
LOG_SECONDS = 30 * 86_400.0
FORGET_EVERY_SECONDS = 3600.0
"""The log of machines is kept for a month."""
LEAST_SECONDS = 1.0
"""Rounds do not follow each other faster than this, or than the rules say."""


class MachinesService(Service):
    """The service. `place` must be called before workers can be told where the farm is."""

    name = "machines"
    woken_by = frozenset(
        {
            *("transcription_submitted", "transcription_fetched", "transcription_retried", "chunking_done"),
            *("worker_joined", "worker_gone"),
        }
    )
    timeout_seconds = 300

    def __init__(self, store: StoreThreads, fleet: Fleet, dry_run: bool) -> None:
        self.fleet, self.dry_run = fleet, dry_run
        self.period_seconds = fleet.fleet.look_seconds
        self.providers = open_providers(fleet)
        self._store = store
        self._forget_at = 0.0
        self._keeper = DatabaseKeeper(store, turn_seconds=max(SILENT_SECONDS, 3 * self.period_seconds))
        self._reconciler = Reconciler(fleet, self.providers, self._keeper, self._environment, dry_run)
        self._farm: tuple[str, str] | None = None
        self._last = 0.0

    def place(self, address: str, token: str) -> None:
        """Say where workers find the farm, and with which token."""
        self._farm = address, token

    async def run_once(self) -> Report:
        if self._farm is None:
            return Report()
        await asyncio.sleep(max(0.0, self._last + min(LEAST_SECONDS, self.period_seconds) - time.monotonic()))
        self._last = time.monotonic()
        await self._forget()
        renewing = asyncio.create_task(self._renew())
        try:
            done = await self._reconciler.round()
        except WrongState:  # another coordinator has taken over
            return Report()
        finally:
            renewing.cancel()
        return Report(decisions=len(done.decisions), failed=done.failed)

    async def _forget(self) -> None:
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS
            await self._store.write(lambda tx: forget_log(tx, tx.now - LOG_SECONDS))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._keeper.turn_seconds / 4)
            with suppress(FarmError):
                await self._keeper.take_turn()

    async def close(self) -> None:
        """End what runs on this machine, and let another coordinator go on."""
        for provider in self.providers.values():
            await provider.close()
        with suppress(FarmError):
            await self._keeper.leave_turn()

    def _environment(self, pool: Pool, launch_id: str, region: str) -> Mapping[str, str]:
        assert self._farm is not None
        return pool.environment_of(launch_id, region, *self._farm)
