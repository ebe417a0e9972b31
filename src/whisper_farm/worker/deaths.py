"""Named points at which a worker ends as by `kill -9`, for tests: `WHISPER_FARM_DIE_AT=after_claim`, for example.

The first time that the worker comes by the point, its process is gone: nothing is said, flushed or handed back. This
is the only place that reads the variable, and it is no setting: whoever sets it wants the worker to die.
"""

from __future__ import annotations

import os
from typing import Final, Literal, get_args

VARIABLE: Final = "WHISPER_FARM_DIE_AT"
EXIT_STATUS: Final = 137
Point = Literal["after_claim", "mid_download", "mid_recognition", "after_upload", "before_complete"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)


def passing(point: Point) -> None:
    """Die here, if that was asked for."""
    if os.environ.get(VARIABLE) == point:
        os._exit(EXIT_STATUS)
