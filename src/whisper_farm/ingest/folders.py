"""Folders that are watched: which of their files are whole by now, and new.

A file that is still being written changes its size or its time. So one counts as whole when it has stayed as it is for
a while. Remembers what it gave, by size and time: a file that changes later is given again. Reads no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class _Seen:
    facts: tuple[int, int]
    since: float
    given: bool = False


class Settling:
    """The files of one folder."""

    def __init__(self, quiet_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet, self._clock = quiet_seconds, clock
        self._seen: dict[Path, _Seen] = {}

    def ready(self, files: Iterable[Path]) -> list[Path]:
        """Of the files that are there now, those that are whole and were not given as they are."""
        now, before, self._seen = self._clock(), self._seen, {}
        found = []
        for file in files:
            try:
                stat = file.stat()
            except OSError:  # gone in this moment
                continue
            facts = (stat.st_size, stat.st_mtime_ns)
            one = before.get(file)
            if one is None or one.facts != facts:
                one = _Seen(facts, now)
            self._seen[file] = one
            if not one.given and stat.st_size and now - one.since >= self._quiet:
                one.given = True
                found.append(file)
        return found
