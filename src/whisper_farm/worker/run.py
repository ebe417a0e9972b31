"""A worker as a program of its own: signals, log lines, an end in good order.

The first SIGTERM or Ctrl-C drains: what is being recognised is finished, the rest handed back. The second one leaves at
once. Every notice of the agent is one structured log line on standard error, written in a thread of its own: a terminal
that is held or a pipe that nobody reads costs lines, never a heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

import structlog

from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.agent import Agent
from whisper_farm.worker.notices import Notice, Tell, tell_nobody

MAX_WAITING_LINES = 1000
LAST_LINES_SECONDS = 0.5
_WARNINGS = frozenset(
    ["unreachable", "engine_unavailable", "model_unavailable", "job_failed", "job_refused", "child_died"]
)


def run_worker(settings: WorkerSettings, notice: Tell = tell_nobody) -> None:
    """Work until told to stop by a signal or by the farm. Raises a `FarmError` if the farm refuses this worker."""
    asyncio.run(_run(settings, notice))


async def _run(settings: WorkerSettings, notice: Tell) -> None:
    with _lines() as write:

        def tell(news: Notice) -> None:
            write(news)
            notice(news)

        agent, stop = Agent(settings, tell), asyncio.Event()
        with _signals(agent, stop):
            await agent.run(stop)


@contextmanager
def _lines() -> Iterator[Tell]:
    """Writes notices as log lines, from a thread; what it cannot get rid of is dropped."""
    waiting: queue.Queue[tuple[str, Notice] | None] = queue.Queue(MAX_WAITING_LINES)
    writer = threading.Thread(target=_write, args=(waiting,), name="log", daemon=True)
    writer.start()

    def write(news: Notice) -> None:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait((datetime.now(UTC).isoformat(timespec="milliseconds"), news))

    try:
        yield write
    finally:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        writer.join(LAST_LINES_SECONDS)


def _write(waiting: queue.Queue[tuple[str, Notice] | None]) -> None:
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), processors=[structlog.processors.add_log_level, console]
    )
    while line := waiting.get():
        timestamp, news = line
        say = log.warning if news.kind in _WARNINGS else log.info
        say(news.message, timestamp=timestamp, action=news.kind, **news.data)


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
