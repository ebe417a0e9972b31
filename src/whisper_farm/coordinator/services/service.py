"""The one form of a background service, and what runs them: again and again, with a pause, a time-out and an end.

A service says itself how long it pauses, how long a run may take, and which events end its pause. A run that fails or
hangs is logged, given up and followed by the next one. Two coordinators that start together do not run in step. This
module does not know what a service does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar, Protocol

from whisper_farm.log import logger
from whisper_farm.protocol.events import EventKind

JITTER = 0.2
"""Pauses vary by this share, both ways."""


class Report(dict[str, int]):
    """What a run did, in numbers, which are logged."""

    def __init__(self, more: bool = False, **numbers: int) -> None:
        super().__init__(numbers)
        self.more = more
        """Whether there is reason to run again at once."""


class Service(Protocol):
    """What a service is made of."""

    name: ClassVar[str]
    woken_by: ClassVar[frozenset[EventKind]] = frozenset()
    """Events of this coordinator that end a pause. What another coordinator did waits for the next run."""
    period_seconds: float
    timeout_seconds: float

    async def run_once(self) -> Report:
        """Do what there is to do now, in bounded portions."""
        ...


class Services:
    """Runs services, each in a task of its own."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = [(service, asyncio.Event()) for service in services]

    def notice(self, kinds: Iterable[str]) -> None:
        """Events of these kinds have happened: wake the services that they concern."""
        happened = frozenset(kinds)
        for service, wake in self._services:
            if not happened.isdisjoint(service.woken_by):
                wake.set()

    def wake(self, name: str) -> None:
        """End the pause of the service of that name."""
        for service, wake in self._services:
            if service.name == name:
                wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run all of them until `stop`."""
        await asyncio.gather(*(run_service(service, stop, wake) for service, wake in self._services))


async def run_service(service: Service, stop: asyncio.Event, wake: asyncio.Event) -> None:
    """Run one service until `stop`. `wake` ends a pause early and is cleared. `stop` cancels a run in progress."""
    running = asyncio.create_task(_run_for_ever(service, wake))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
        stopped.cancel()
    await asyncio.wait({running})


async def _run_for_ever(service: Service, wake: asyncio.Event) -> None:
    while True:
        wake.clear()
        if not await _guarded(service):
            with suppress(TimeoutError):
                async with asyncio.timeout(service.period_seconds * random.uniform(1 - JITTER, 1 + JITTER)):
                    await wake.wait()


async def _guarded(service: Service) -> bool:
    """One run, whatever happens in it. True when there may be more to do."""
    log = logger().bind(action=f"{service.name}_run")
    started = time.perf_counter()
    try:
        async with asyncio.timeout(service.timeout_seconds):
            report = await service.run_once()
    except TimeoutError:
        log.warning("a service took too long", service=service.name, timeout_seconds=service.timeout_seconds)
        return False
    except Exception:
        log.exception("a service failed", service=service.name)
        return False
    facts = {name: value for name, value in report.items() if value}
    if facts:
        log.info("service", service=service.name, duration_ms=round((time.perf_counter() - started) * 1000, 1), **facts)
    return report.more
