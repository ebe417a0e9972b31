"""Named points at which a worker is killed as by `kill -9`, for tests: `WHISPER_FARM_DIE_AT=after_claim`, for example.

The first time that the worker comes by the point, its process is gone: nothing is said, flushed or handed back. This
is the only place that reads the variable, and it is no setting: whoever sets it wants the worker to die.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, Literal, get_args

VARIABLE: Final = "WHISPER_FARM_DIE_AT"
EXIT_STATUS: Final[int] = 137 if sys.platform == "win32" else -signal.SIGKILL
"""What `subprocess` says of a worker that died here."""
Point = Literal["after_claim", "mid_download", "mid_recognition", "after_upload", "before_complete"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)


def passing(point: Point) -> None:
    """Die here, if that was asked for."""
    if os.environ.get(VARIABLE) == point:
        if sys.platform != "win32":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(EXIT_STATUS)
