"""Which processes there are, and whether they live: one may end between two looks.

One that was killed ends when its kernel comes to it, and is there until it is collected.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

PATIENCE_SECONDS = 60.0


def lives(process: psutil.Process | int) -> bool:
    """Whether it runs: one that has ended does not, even if nobody collected it."""
    try:
        one = psutil.Process(process) if isinstance(process, int) else process
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children(word: str = "", of: int | None = None) -> list[psutil.Process]:
    """The children of this process, or all below another; with this word of their command line, if one is given.

    Below this one there may be farms of other tests, which last for a session.
    """
    found = []
    with suppress(psutil.NoSuchProcess):
        for one in psutil.Process(of).children(recursive=of is not None):
            with suppress(psutil.NoSuchProcess):
                if not word or word in one.cmdline():
                    found.append(one)
    return found


def all_end(processes: Iterable[psutil.Process | int]) -> None:
    """Wait until all of them have ended."""
    waited_for = list(processes)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while left := [one for one in waited_for if lives(one)]:
        assert time.monotonic() < give_up_at, f"still running: {left}"
        time.sleep(0.01)
