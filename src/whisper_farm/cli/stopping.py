"""How a command is told to stop: by Ctrl-C or by SIGTERM, which differ in nothing but the exit code.

The first signal raises `Stopped` in the main thread, and whatever is open is closed on the way out. The second signal
ends the process on the spot. A server and a worker, which work until they are told to stop, have handlers of their own
and end with 0.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

BY_SIGNAL = 128
"""What shells add to the number of the signal that ended a process."""


class Stopped(KeyboardInterrupt):
    """The command was told to stop, by this signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = BY_SIGNAL + number
        self.line: str | None = "stopped."
        """What to say of it; None where that was said already."""


@contextmanager
def told_to_stop() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `Stopped` in here. After it they end the process: nothing is open any more."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda again, _: os._exit(BY_SIGNAL + again))
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def saying(line: str) -> Iterator[None]:
    """What is said where a command is told to stop in here."""
    try:
        yield
    except Stopped as stopped:
        stopped.line = line
        raise
