"""The one form of a background service: `run_once()` again and again, with a pause, a time-out and a way to stop.

Promises that a run that fails or hangs is logged, given up and followed by the next one, and that two
coordinators started together do not run in step. Says nothing of what a service does.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, Protocol

from whisper_farm.coordinator.log import logger

JITTER = 0.2
"""Pauses vary by this share, both ways."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. Every service has its own; `worked` says whether there is reason to run again at once."""

    @property
    def worked(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Timing:
    """When a service runs. Each service's own config derives from it and names its defaults."""

    period_seconds: float = 60
    timeout_seconds: float = 60


class Service(Protocol):
    """What a service is made of."""

    name: ClassVar[str]

    @property
    def config(self) -> Timing: ...

    async def run_once(self) -> Report:
        """Do what there is to do now, in bounded portions."""
        ...


async def run_service(service: Service, stop: asyncio.Event, wake: asyncio.Event | None = None) -> None:
    """Run until `stop`. `wake` ends a pause early (and is cleared). A run in progress is cancelled by `stop`."""
    wake = wake or asyncio.Event()
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            wake.clear()
            run = asyncio.ensure_future(_guarded(service))
            await asyncio.wait([run, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                run.cancel()
                await asyncio.wait({run})
                return
            if not run.result():
                await _pause(service.config.period_seconds, stopped, wake)
    finally:
        stopped.cancel()


async def _pause(period_seconds: float, stopped: asyncio.Future[Literal[True]], wake: asyncio.Event) -> None:
    woken = asyncio.ensure_future(wake.wait())
    pause = period_seconds * random.uniform(1 - JITTER, 1 + JITTER)
    await asyncio.wait({woken, stopped}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
    woken.cancel()


async def _guarded(service: Service) -> bool:
    """One run, whatever happens in it. True when there may be more to do."""
    log = logger().bind(action=f"{service.name}_run")
    started = time.perf_counter()
    try:
        async with asyncio.timeout(service.config.timeout_seconds):
            report = await service.run_once()
    except TimeoutError:
        log.warning("a service took too long", service=service.name, timeout_seconds=service.config.timeout_seconds)
        return False
    except Exception:
        log.exception("a service failed", service=service.name)
        return False
    facts = {name: value for name, value in asdict(report).items() if value}
    if facts:
        log.info("service", service=service.name, duration_ms=round((time.perf_counter() - started) * 1000, 1), **facts)
    return report.worked
