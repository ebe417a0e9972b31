"""Structured logs: every line has an `action`, ids and, where something took time, its duration.

A line that belongs to a request has a `duration_ms`: the time since the request arrived. For a claim that waited for
work, the wait is part of it.

The lines go through the standard logger `whisper_farm.coordinator`. Nothing is printed unless somebody set up logging,
so the coordinator inside a command stays silent. `set_up_logging` is for `whisper-farm serve`.
"""

from __future__ import annotations

import logging
import sys
import time
from contextvars import ContextVar
from typing import Literal, cast

import structlog

LOGGER_NAME = "whisper_farm.coordinator"

LogFormat = Literal["console", "json"]

_arrived: ContextVar[float] = ContextVar("arrived")


def time_lines() -> None:
    """From now on, every line that this task prints says how long after now that was."""
    _arrived.set(time.perf_counter())


def is_answering() -> bool:
    """Whether this task answers a request, rather than to work in the background."""
    return _arrived.get(None) is not None


def _add_duration(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    arrived = _arrived.get(None)
    if arrived is not None:
        line.setdefault("duration_ms", round((time.perf_counter() - arrived) * 1000, 1))
    return line


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    _add_duration,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logger() -> structlog.stdlib.BoundLogger:
    """The coordinator's logger. Say what happened in words, and give `action=` and the ids."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(LOGGER_NAME),
        processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast(structlog.stdlib.BoundLogger, wrapped)


def set_up_logging(log_format: str, level: int = logging.INFO) -> None:
    """Print the farm's and the web server's log lines on standard error, as text or as one JSON object a line."""
    json = log_format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json:
        last.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[*last, renderer]))
    for name, wanted in (("whisper_farm", level), ("uvicorn.error", logging.WARNING)):
        target = logging.getLogger(name)
        target.handlers[:] = [handler]
        target.setLevel(wanted)
        target.propagate = False
