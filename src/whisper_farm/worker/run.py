"""A worker as a program of its own: signals, log lines, an end in good order.

The first SIGTERM or Ctrl-C drains: what is being recognised is finished, the rest handed back. The second one leaves at
once, and so does the end of the grace, if there is one (see `machine.py`). Every notice of the agent is one line of the
log.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from whisper_farm.log import WORKER, logger, set_up_logging
from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.agent import Agent
from whisper_farm.worker.machine import PlacedWorker
from whisper_farm.worker.notices import Notice, Tell, tell_nobody

_WARNINGS = frozenset(
    ["unreachable", "engine_unavailable", "model_unavailable", "job_failed", "job_refused", "child_died"]
)


def run_worker(settings: WorkerSettings, notice: Tell = tell_nobody) -> None:
    """Work until told to stop by a signal or by the farm. Raises a `FarmError` if the farm refuses this worker."""
    asyncio.run(_run(settings, notice))


async def _run(settings: WorkerSettings, notice: Tell) -> None:
    set_up_logging("console")
    lines = logger(WORKER)

    def say(news: Notice) -> None:
        level = lines.warning if news.kind in _WARNINGS else lines.info
        level(news.message, action=news.kind, **news.data)

    def tell(news: Notice) -> None:
        placed.heed(news)
        say(news)
        notice(news)

    agent, stop = Agent(settings, tell), asyncio.Event()
    placed = PlacedWorker(settings, lambda: agent.held, say)
    with _signals(agent, stop):
        watching = asyncio.create_task(placed.watch(stop, agent.leave_now))
        try:
            await agent.run(stop)
        finally:
            watching.cancel()


@contextmanager
def _signals(agent: Agent, stop: asyncio.Event) -> Iterator[None]:
    """First signal: drain; second: leave at once. Works on Windows too, where event loops take no signal handlers."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            agent.leave_now()
        stop.set()

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(on_signal)

    before = {each: signal.signal(each, handle) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
