"""Stands between a test run and the PostgreSQL it started: takes the server down when the run ends, however it ends.

`python postgres_guard.py FOLDER USER PROGRAM ARGUMENTS…` runs the program in FOLDER (as USER, unless that is empty)
until it exits or standard input closes. Closed without a word, the run was killed: then FOLDER goes too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

STOP_SECONDS = 20.0


def as_user(user: str) -> dict[str, Any]:
    """Arguments for `subprocess` that give up root for `user`; none for an empty name."""
    if not user:
        return {}
    import pwd

    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def main(folder: str, user: str, *program: str) -> int:
    """Run `program`; return its exit status."""
    with Path(folder, "log").open("ab") as log:
        server = subprocess.Popen(
            program, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user(user)
        )
    _adopt_orphans()
    abandoned = threading.Event()
    threading.Thread(target=_stop_when_told, args=(server, abandoned), daemon=True).start()
    status = server.wait()
    with suppress(ChildProcessError):  # a killed server's children end by themselves, a moment later
        while hasattr(os, "waitpid"):
            os.waitpid(-1, 0)
    if abandoned.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return status


def _adopt_orphans() -> None:
    """On Linux, become the parent of the server's children when it is killed, so as to see them off."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _stop_when_told(server: subprocess.Popen[bytes], abandoned: threading.Event) -> None:
    if not sys.stdin.readline():
        abandoned.set()
    server.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
