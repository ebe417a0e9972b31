"""A worker that is killed as by `kill -9` at a named point: `python dying_worker.py POINT worker --server …`.

The first time that it comes by the point, its process is gone: nothing is said, flushed or handed back. The points are
put into the product here, from outside; the product itself knows nothing of them.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, get_args

Point = Literal["after_claim", "mid_download", "mid_recognition", "after_upload", "before_complete"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)
PROGRAM = (sys.executable, str(Path(__file__)))
EXIT_STATUS: Final[int] = 137 if sys.platform == "win32" else -signal.SIGKILL
"""What `subprocess` says of a worker that died here."""


def die() -> None:
    """End this process now."""
    if sys.platform != "win32":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(EXIT_STATUS)


def die_before(owner: type, method: str) -> None:
    """Die when this method is called."""
    _wrap(owner, method, before=True, wanted=lambda *_: True)


def die_after(owner: type, method: str, wanted: Callable[[Any, Any], bool] = lambda *_: True) -> None:
    """Die when this method is done, if its first argument and its answer are the ones that are wanted."""
    _wrap(owner, method, before=False, wanted=wanted)


def _wrap(owner: type, method: str, before: bool, wanted: Callable[[Any, Any], bool]) -> None:
    real: Callable[..., Awaitable[object]] = getattr(owner, method)

    @functools.wraps(real)
    async def doomed(self: object, argument: object, *more: object, **named: object) -> object:
        if before:
            die()
        answer = await real(self, argument, *more, **named)
        if wanted(argument, answer):
            die()
        return answer

    setattr(owner, method, doomed)


def doom(point: Point) -> None:
    """Put the point where it belongs."""
    from whisper_farm.worker.api import WorkerApi
    from whisper_farm.worker.child import Child
    from whisper_farm.worker.pipe import Recognise

    if point == "after_claim":
        die_after(WorkerApi, "claim", lambda request, answer: bool(answer.claims))
    elif point == "mid_download":
        die_after(WorkerApi, "download")
    elif point == "mid_recognition":
        die_after(Child, "send", lambda message, _: isinstance(message, Recognise))
    elif point == "after_upload":
        die_after(WorkerApi, "upload")
    elif point == "before_complete":
        die_before(WorkerApi, "complete")


if __name__ == "__main__":
    from whisper_farm.cli.main import run

    if sys.argv[1] not in POINTS:
        raise SystemExit(f"{sys.argv[1]} is none of {POINTS}")
    doom(sys.argv.pop(1))  # type: ignore[arg-type]
    run()
