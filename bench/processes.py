"""The product's own processes, started and stopped as a user would: servers and workers for the benchmarks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60
FARM = (sys.executable, "-m", "whisper_farm")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address, its admin token, its process."""

    url: str
    token: str
    process: subprocess.Popen[str]


@contextmanager
def server(
    data: Path, database: str | None = None, settings: Mapping[str, str] | None = None, token: str | None = None
) -> Iterator[Server]:
    """`whisper-farm serve` on a free port; stopped at the end. `token` is that of a database with an admin already."""
    command = [*FARM, "serve", "--port", "0", "--data", str(data), "--log_format", "json"]
    if database:
        command += ["--database", database]
    environment = {**os.environ, **(settings or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        url = _address(process)
        yield Server(url, token or (data / "admin-token").read_text().strip(), process)
    finally:
        _stop(process)


@contextmanager
def worker(at: Server, *flags: str, stop: int = signal.SIGINT) -> Iterator[subprocess.Popen[str]]:
    """`whisper-farm worker` for that server; stopped at the end."""
    command = [*FARM, "worker", "--server", at.url, "--token", at.token, *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        _stop(process, stop)


def _address(process: subprocess.Popen[str]) -> str:
    """What the server prints once it answers; its further output is read and dropped."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    for line in process.stdout:
        if found := re.search(r"https?://[0-9.:\[\]a-z]+", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found.group()
        if time.monotonic() > deadline:
            break
    raise RuntimeError(f"the server did not start (status {process.poll()})")


def _stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(timeout=10)
