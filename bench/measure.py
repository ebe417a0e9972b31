"""Running a command as a whole and saying what it cost: wall seconds and the peak memory of its process tree."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took. Memory is the sum over its processes; pages they share count for each."""

    seconds: float
    processor_seconds: float
    peak_mb: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, timeout_seconds: float = 900) -> Cost:
    """Run to the end and measure; raises with the end of the output when it fails."""
    started, used = time.perf_counter(), _used()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
    )
    peak = PeakMemory(process.pid)
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    finally:
        process.kill()
        seconds = time.perf_counter() - started
        peak_mb = peak.stop()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-2000:]}")
    return Cost(seconds, _used() - used, peak_mb, output)


def _used() -> float:
    """Processor time of the children that have ended, and theirs."""
    times = os.times()
    return times.children_user + times.children_system


class PeakMemory:
    """Watches the memory of a process and its children from a thread."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The peak so far, in megabytes (10^6 bytes); ends the watch."""
        self._stop.set()
        self._thread.join(timeout=5)
        return self.peak / 1e6

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        total = 0
        try:
            for process in (self._root, *self._root.children(recursive=True)):
                total += process.memory_info().rss
        except psutil.Error:
            pass
        return total
