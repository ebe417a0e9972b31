"""A worker as a program of its own: signals, log lines, an end in good order.

The first SIGTERM or Ctrl-C drains: what is being recognised is finished, the rest handed back. The second one leaves at
once, and so does the end of the grace, if there is one (see `machine.py`). Every notice of the agent is one line of the
log.

Outside of its working hours it rests: no agent and no child is there, the machine is free. It offers nothing and only
beats. So the farm sees that it rests, and can give it other hours.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from whisper_farm.errors import FarmError
from whisper_farm.log import WORKER, logger, set_up_logging
from whisper_farm.protocol.worker import HeartbeatRequest, ReleaseRequest
from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.agent import LEAVE_SECONDS, Agent
from whisper_farm.worker.api import FATAL, WorkerApi
from whisper_farm.worker.machine import Hours, PlacedWorker, introduction
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.tasks import ended

_WARNINGS = frozenset(
    ["unreachable", "engine_unavailable", "model_unavailable", "job_failed", "job_refused", "child_died"]
)
LOOK_SECONDS = 1.0
"""How often a resting worker looks at the clock."""


def run_worker(settings: WorkerSettings) -> None:
    """Work until told to stop by a signal or by the farm. Raises a `FarmError` if the farm refuses this worker."""
    asyncio.run(_run(settings))


async def _run(settings: WorkerSettings) -> None:
    set_up_logging("console")
    lines = logger(WORKER)

    def say(news: Notice) -> None:
        level = lines.warning if news.kind in _WARNINGS else lines.info
        level(news.message, action=news.kind, **news.data)

    ending, hours, worker_id = Ending(), Hours(settings.hours), secrets.token_hex(8)
    with _signals(ending):
        while await rest(settings, hours, worker_id, ending.asked, say):
            if not await _work(settings, hours, worker_id, ending, say):
                break


@dataclass
class Ending:
    """What a signal does: it lets the agent at work drain, and the second one ends it."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    agent: Agent | None = None

    def on_signal(self) -> None:
        """Heed one signal."""
        if self.stop.is_set() and self.agent is not None:
            self.agent.leave_now()
        self.asked.set()
        self.stop.set()


async def _work(settings: WorkerSettings, hours: Hours, worker_id: str, ending: Ending, say: Tell) -> bool:
    """Work until told to stop; True if that was the end of the working hours."""

    def tell(news: Notice) -> None:
        placed.heed(news)
        say(news)

    ending.agent = agent = Agent(settings, tell, hours=hours, worker_id=worker_id)
    ending.stop = stop = asyncio.Event()
    placed = PlacedWorker(settings, lambda: agent.held, say, hours)
    watching = asyncio.create_task(placed.watch(stop, agent.leave_now))
    try:
        return await agent.run(stop) == "stopped" and not ending.asked.is_set() and not hours.go_on()
    finally:
        watching.cancel()


async def rest(settings: WorkerSettings, hours: Hours, worker_id: str, asked: asyncio.Event, say: Tell) -> bool:
    """Wait for the working hours to begin; False if the worker is asked to end before, by its owner or by the farm.

    Raises a `FarmError` if the farm refuses this worker.
    """
    if hours.go_on():
        return not asked.is_set()
    say(Notice("ending", f"This worker rests; it works from {hours.in_force}."))
    api = WorkerApi(settings.server, settings.token, settings.request_timeout_seconds, worker_id=worker_id)
    beating = asyncio.create_task(_beat(api, settings, hours))
    try:
        while not (hours.go_on() or asked.is_set() or beating.done()):
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), LOOK_SECONDS)
        if beating.done():
            await beating
        elif not asked.is_set():
            return True
        with suppress(FarmError):
            await api.release(ReleaseRequest(worker_id=worker_id, leaving=True), LEAVE_SECONDS)
        return False
    finally:
        await ended(beating)
        await api.close()


async def _beat(api: WorkerApi, settings: WorkerSettings, hours: Hours) -> None:
    """Be there until the farm wants this worker to go."""
    pause = 1.0

    async def introduce() -> None:
        nonlocal pause
        answer = await api.register(introduction(settings, api.worker_id, engines=()))
        pause = answer.heartbeat_seconds
        hours.heed(answer.hours)

    api.on_unknown = introduce
    await introduce()
    while True:
        await asyncio.sleep(pause)
        try:
            answer = await api.heartbeat(HeartbeatRequest(worker_id=api.worker_id, tokens=()), api.timeout_seconds)
        except FATAL:
            raise
        except FarmError:  # it is asked again with the next beat
            continue
        pause = answer.heartbeat_seconds
        hours.heed(answer.hours)
        if answer.drain or answer.dismissed:
            return


@contextmanager
def _signals(ending: Ending) -> Iterator[None]:
    """First signal: drain; second: leave at once. Works on Windows too, where event loops take no signal handlers."""
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ending.on_signal)

    before = {each: signal.signal(each, handle) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
