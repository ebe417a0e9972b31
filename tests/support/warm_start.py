"""Processes of the farm that begin with its modules loaded: most of what a start costs is to load them.

One process has imported what servers and workers import, and forks whoever is asked for. What it forks is a process
like any other, with its own id, environment, folder and log; it begins where `whisper-farm` does. It is no child of
the tests: `WarmProcess` has what they use of `subprocess.Popen`. Where there is no `fork`, and where Python itself is
told something by the environment, `can_start` says no.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

LOADED = (
    *("whisper_farm.cli.main", "whisper_farm.cli.serve", "whisper_farm.cli.worker", "whisper_farm.cli.tokens"),
    *("whisper_farm.coordinator.app", "whisper_farm.coordinator.server", "whisper_farm.store.sqlite"),
    *("whisper_farm.farm", "whisper_farm.worker.run", "whisper_farm.worker.local", "whisper_farm.engines.registry"),
    *("alembic.command", "sqlite3", "sqlalchemy.dialects.postgresql.psycopg", "anyio._backends._asyncio"),
    *("uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
)


def can_start(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment may begin here."""
    return sys.platform == "linux" and _told_to_python(environment) == _told_to_python(os.environ)


def _told_to_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


class WarmProcess:
    """A process that has begun warm."""

    def __init__(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
        told = {"arguments": arguments, "log": str(log), "folder": str(Path.cwd()), "environment": dict(environment)}
        self.pid: int = _starter().ask(told)
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self._status is None:
            self._status = _starter().ask(self.pid)
        return self._status

    def wait(self, seconds: float) -> int:
        """Wait for its end; `subprocess.TimeoutExpired` if it does not come."""
        if (status := self.poll()) is not None:
            return status
        ended = os.pidfd_open(self.pid)
        try:
            select.select([ended], [], [], seconds)
        finally:
            os.close(ended)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", seconds)
        return status

    def kill(self) -> None:
        """`kill -9`, if it is still there."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end in good order."""
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Starter:
    """The process that forks; it ends with the one that made it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", str(Path(__file__)), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._lines = self._channel.makefile("rw", encoding="utf-8")
        self._turn = threading.Lock()
        atexit.register(self.close)

    def ask(self, told: object) -> Any:
        """One question, one answer: a new process is its id, the state of an old one its exit status."""
        with self._turn:
            print(json.dumps(told), file=self._lines, flush=True)
            return json.loads(self._lines.readline())

    def close(self) -> None:
        """End it."""
        self._lines.close()
        self._channel.close()
        self._process.wait()


@cache
def _starter() -> Starter:
    return Starter()


def load() -> None:
    """Import what servers and workers do; no thread may run afterwards."""
    gc.disable()
    for module in LOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "who forks has no threads"


def fork_whoever_is_asked_for(channel: socket.socket) -> dict[str, Any]:
    """Answer until the other side is gone, and end. In each process that is forked it returns what that was told."""
    with channel, channel.makefile("rw", encoding="utf-8") as lines:
        for line in iter(lines.readline, ""):
            told = json.loads(line)
            if isinstance(told, dict):
                answer: int | None = os.fork()
                if answer == 0:
                    return told
            else:
                ended, status = os.waitpid(told, os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if ended else None
            print(json.dumps(answer), file=lines, flush=True)
    sys.exit()


def become(told: Mapping[str, Any]) -> None:
    """Be the process that was asked for."""
    os.environ.clear()
    os.environ.update(told["environment"])
    os.chdir(told["folder"])
    log = os.open(told["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.argv = ["whisper-farm", *told["arguments"]]
    gc.enable()


if __name__ == "__main__":
    load()
    become(fork_whoever_is_asked_for(socket.socket(fileno=int(sys.argv[1]))))
    from whisper_farm.cli.main import run

    run()
