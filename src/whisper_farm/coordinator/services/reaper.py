"""Gives up workers that have been silent for long, and jobs that nobody is left to claim.

The queue does not wait for it: a lapsed job is taken by the next claim. See `leases/reap.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from whisper_farm.coordinator.services.service import Report
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.leases.lapse import reap
from whisper_farm.protocol.events import EventKind
from whisper_farm.settings import Policy


class Reaper:
    """The service."""

    name: ClassVar[str] = "reaper"
    woken_by: ClassVar[frozenset[EventKind]] = frozenset()
    period_seconds: float = 5
    timeout_seconds: float = 30

    def __init__(self, store: StoreThreads, policy: Policy) -> None:
        self._store = store
        self._policy = policy

    async def run_once(self) -> Report:
        """One sweep over the whole farm."""
        report = await self._store.write(lambda tx: reap(tx, self._policy))
        return Report(**asdict(report))
