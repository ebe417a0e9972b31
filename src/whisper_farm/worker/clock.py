"""The one clock of the worker: seconds that also count while the process is stopped or the machine sleeps."""

from __future__ import annotations

import sys
import time


def now() -> float:
    """Seconds since some moment in the past; never jumps back, and does not stand still in a laptop's sleep."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()
