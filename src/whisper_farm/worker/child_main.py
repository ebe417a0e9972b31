"""The start of every child process: `python -m whisper_farm.worker.child_main ROLE PARENT [WRITABLE [ENGINE [PATH…]]]`.

Promises: the process does not outlive its agent (the kernel ends it on Linux, the end of standard input everywhere);
Ctrl-C and SIGTERM are left to the agent; when memory is short the child goes before the agent. All this holds before
anything big is imported. Cutters and recognisers are in their sandboxes by then, too; a recogniser reads the paths
that are named. A fetcher, which brings models here and reads nothing of strangers, has none.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FIRST_TO_GO = "500"


def depend_on(parent: int) -> None:
    """Tie this process to its agent."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)


def main(role: str, parent: int, writable: str = "", engine: str = "", *readable: str) -> None:
    """Serve the agent in this role until it goes away."""
    depend_on(parent)
    faulthandler.enable()
    gc.set_threshold(100_000)  # as `cli/main.py` does
    from whisper_farm.worker.pipe import AgentPipe, crash

    pipe = AgentPipe.on_standard_streams()
    try:
        if role != "cutter":
            from whisper_farm.worker.bounds import bound_recogniser
            from whisper_farm.worker.sandbox import confine

            if role == "recogniser":
                confine(engine, writable, readable)
            from whisper_farm.worker.recogniser_child import RecogniserChild

            bound_recogniser()
            RecogniserChild(pipe).serve()
        else:
            from whisper_farm.worker import sandbox
            from whisper_farm.worker.bounds import CUTTER_MEMORY_BYTES, bound_memory

            bound_memory(CUTTER_MEMORY_BYTES)
            sandbox.enter(writable)
            from whisper_farm.worker.cutter_child import CutterChild

            CutterChild(pipe).serve()
    except BaseException:
        crash()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
