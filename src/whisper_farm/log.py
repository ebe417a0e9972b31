"""Structured log lines of the server and of a worker, printed on standard error.

Every line has an `action`, ids and, where something took time, its duration. A line that belongs to a request has a
`duration_ms`: the time since the request arrived. For a claim that waited for work, the wait is part of it.

The lines go through the standard loggers `whisper_farm.coordinator` and `whisper_farm.worker`. Nothing is printed
unless somebody set up logging, so a farm inside a command stays silent. A thread prints. So a terminal that is held, or
a pipe that nobody reads, costs lines and never an answer or a heartbeat.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TextIO, cast

import structlog

from whisper_farm.showing import printable_lines

COORDINATOR = "whisper_farm.coordinator"
WORKER = "whisper_farm.worker"
MAX_WAITING_LINES = 1000
LAST_LINES_SECONDS = 0.5
"""How long the end of the program waits for lines that are not printed yet."""

_arrived: ContextVar[float] = ContextVar("arrived")


def time_lines() -> None:
    """From now on, every line that this task prints says how long after now that was."""
    _arrived.set(time.perf_counter())


def _add_duration(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    arrived = _arrived.get(None)
    if arrived is not None:
        line.setdefault("duration_ms", round((time.perf_counter() - arrived) * 1000, 1))
    return line


def _neutral(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Without what a terminal would obey: names and messages of others stand in lines, and in tracebacks."""
    return {name: printable_lines(value) if isinstance(value, str) else value for name, value in line.items()}


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    _add_duration,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logger(name: str = COORDINATOR) -> structlog.stdlib.BoundLogger:
    """A logger. Say what happened in words, and give `action=` and the ids."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast(structlog.stdlib.BoundLogger, wrapped)


class PrintingThread(logging.Handler):
    """Prints lines from a thread of its own; what it cannot get rid of is dropped."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out
        self._waiting: queue.Queue[str | None] = queue.Queue(MAX_WAITING_LINES)
        threading.Thread(target=self._print, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one line."""
        with suppress(queue.Full):
            self._waiting.put_nowait(self.format(record))

    def flush(self) -> None:
        """Wait a moment for the lines handed over so far."""
        with self._waiting.all_tasks_done:
            self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, LAST_LINES_SECONDS)

    def close(self) -> None:
        """End the thread once it has printed what waits."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        super().close()

    def _print(self) -> None:
        while (line := self._waiting.get()) is not None:
            with suppress(OSError, ValueError):  # a stream that is gone
                self._out.write(line + "\n")
                self._out.flush()
            self._waiting.task_done()
        self._waiting.task_done()


def set_up_logging(log_format: str) -> None:
    """Print the farm's and the web server's log lines on standard error, as text or as one JSON object a line."""
    json = log_format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    last += [structlog.processors.format_exc_info] if json else [structlog.processors.format_exc_info, _neutral]
    handler = PrintingThread(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[*last, renderer]))
    for name, wanted in (("whisper_farm", logging.INFO), ("uvicorn.error", logging.WARNING)):
        target = logging.getLogger(name)
        target.handlers[:] = [handler]
        target.setLevel(wanted)
        target.propagate = False
