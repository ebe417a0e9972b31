"""A worker that somebody placed on a machine: what it says of that machine, and when it ends by itself.

It ends when it was idle for its time, and when its life is over. It ends when the farm was away for longer than its
patience, and when the process that started it is gone. At the end of its working hours it ends, too; `run.py` starts
another one at their beginning. With a grace, one signal is enough: what is not finished in time
is handed back before the end. None of this applies unless it was set. This module does no work and speaks to nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from whisper_farm.protocol.worker import MachineFacts
from whisper_farm.settings import WorkerSettings
from whisper_farm.times import within_hours
from whisper_farm.worker.notices import Notice, Tell

LOOK_SECONDS = 0.25


def machine_facts(settings: WorkerSettings) -> MachineFacts | None:
    """The machine, as whoever placed the worker there described it; None if nobody did."""
    if settings.provider is None:
        return None
    return MachineFacts(
        provider=settings.provider,
        launch_id=settings.launch_id,
        machine_id=settings.machine_id or os.environ.get("FLY_MACHINE_ID"),
        region=settings.region or os.environ.get("FLY_REGION"),
        price_per_hour=settings.price_per_hour,
        accelerators=settings.accelerators,
    )


def works_now(settings: WorkerSettings, at: time.struct_time | None = None) -> bool:
    """Whether its working hours, if it has any, go on: by the clock of this machine."""
    at = at or time.localtime()
    return settings.hours is None or within_hours(settings.hours, at.tm_hour * 60 + at.tm_min)


class PlacedWorker:
    """Watches over the end of one worker. Give it every notice of the agent; `held` counts the jobs in hand."""

    def __init__(
        self, settings: WorkerSettings, held: Callable[[], int], tell: Tell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._held = held
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._idle_since: float | None = None
        self._away_since: float | None = None

    def heed(self, notice: Notice) -> None:
        """Learn from a notice whether the farm is there."""
        if notice.kind == "unreachable":
            self._away_since = self._away_since or self._clock()
        elif notice.kind in ("reachable", "registered"):
            self._away_since = None
        if notice.kind == "registered":
            self._idle_since = self._clock()

    async def watch(self, stop: asyncio.Event, leave_now: Callable[[], None]) -> None:
        """Set `stop` when it is time to drain; call `leave_now` when there is no time left. Ends with the worker."""
        stopped_at: float | None = None
        while True:
            if self._settings.parent is not None and os.getppid() != self._settings.parent:
                self._say("The process that started this worker is gone: it ends.")
                stop.set()
                leave_now()
                return
            if not stop.is_set() and (why := self._reason()):
                self._say(why)
                stop.set()
            if stop.is_set():
                stopped_at = stopped_at if stopped_at is not None else self._clock()
                grace = self._settings.grace_seconds
                if grace is not None and self._clock() - stopped_at >= grace:
                    leave_now()
                    return
            await asyncio.sleep(LOOK_SECONDS)

    def _reason(self) -> str | None:
        now, settings = self._clock(), self._settings
        if self._held():
            self._idle_since = now
        limits = (
            (settings.life_seconds, self._began, "This worker has lived for {:g} s: it ends."),
            (settings.idle_seconds, self._idle_since, "This worker was idle for {:g} s: it ends."),
            (settings.patience_seconds, self._away_since, "The farm was away for {:g} s: this worker ends."),
        )
        for limit, since, words in limits:
            if limit is not None and since is not None and now - since >= limit:
                return words.format(limit)
        if self._settings.hours is not None and not works_now(self._settings):
            return f"The working hours {self._settings.hours} are over: this worker rests."
        return None

    def _say(self, why: str) -> None:
        self._tell(Notice("ending", why))
