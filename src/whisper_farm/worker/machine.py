"""A worker that somebody placed on a machine: what it says of that machine, and when it ends by itself.

It ends when it was idle for its time, and when its life is over. It ends when the farm was away for longer than its
patience, and when the process that started it is gone. At the end of its working hours it ends, too; `run.py` starts
another one at their beginning. With a grace, one signal is enough: what is not finished in time
is handed back before the end. None of this applies unless it was set. This module does no work and speaks to nobody.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Sequence

from whisper_farm import __version__
from whisper_farm.protocol.worker import EngineOffer, MachineFacts, RegisterRequest
from whisper_farm.settings import WorkerSettings
from whisper_farm.times import HOURS, within_hours
from whisper_farm.worker.notices import Notice, Tell

LOOK_SECONDS = 0.25
NAME_LENGTH = 255


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


def introduction(
    settings: WorkerSettings, worker_id: str, engines: Sequence[EngineOffer], slots: int = 1, cuts: bool = False
) -> RegisterRequest:
    """What a worker says of itself. One that rests offers nothing."""
    return RegisterRequest(
        worker_id=worker_id,
        name=name_of(settings),
        version=__version__,
        platform=platform.platform(terse=True)[:NAME_LENGTH],
        slots=slots,
        engines=tuple(engines),
        cuts=cuts,
        label=settings.label,
        machine=machine_facts(settings),
        hours=settings.hours,
    )


def name_of(settings: WorkerSettings) -> str:
    """The worker's name: as its owner wants it, or that of the machine."""
    return (settings.name or socket.gethostname() or "worker")[:NAME_LENGTH]


class Hours:
    """When a worker works, by the clock of this machine. What the farm wants counts more than how it was started."""

    def __init__(self, own: str | None) -> None:
        self._own = own
        self._wanted: str | None = None

    def heed(self, wanted: str | None) -> None:
        """Take over what the farm says: None leaves it to the worker, empty is at any time."""
        if wanted is None or wanted == "" or re.match(HOURS, wanted):
            self._wanted = wanted

    @property
    def in_force(self) -> str | None:
        """These hours; None at any time."""
        return (self._own if self._wanted is None else self._wanted) or None

    def go_on(self, at: time.struct_time | None = None) -> bool:
        """Whether it is time to work."""
        at = at or time.localtime()
        return self.in_force is None or within_hours(self.in_force, at.tm_hour * 60 + at.tm_min)


class PlacedWorker:
    """Watches over the end of one worker. Give it every notice of the agent; `held` counts the jobs in hand."""

    def __init__(
        self,
        settings: WorkerSettings,
        held: Callable[[], int],
        tell: Tell,
        hours: Hours | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._hours = hours or Hours(settings.hours)
        self._held, self._tell, self._clock = held, tell, clock
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
        if not self._hours.go_on():
            return f"The working hours {self._hours.in_force} are over: this worker rests."
        return None

    def _say(self, why: str) -> None:
        self._tell(Notice("ending", why))
