"""A Ray cluster of one node: the real head, started as a child of the test, from an environment of its own.

`WHISPER_FARM_TEST_RAY` names the `ray` program of that environment; without it these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from filelock import FileLock

from support.farm_processes import until
from support.ports import free_port

TOKEN = "0123456789abcdef0123456789abcdef"
START_SECONDS = 120.0


@dataclass(frozen=True)
class RayCluster:
    """The head's address, and where it logs."""

    url: str
    log: Path


def ray_program() -> str | None:
    """The program, if there is one for these tests."""
    return shutil.which(os.environ.get("WHISPER_FARM_TEST_RAY", ""))


@contextmanager
def ray_cluster(log: Path) -> Iterator[RayCluster]:
    """Runs a head; ready when it has taken a first job. One at a time on this machine: a head is 23 processes."""
    with FileLock(Path(tempfile.gettempdir()) / "whisper-farm-ray.lock"), _head(log) as cluster:
        yield cluster


@contextmanager
def _head(log: Path) -> Iterator[RayCluster]:
    program = ray_program()
    assert program is not None
    port, dashboard = free_port(), free_port()
    folder = tempfile.mkdtemp(prefix="ray")  # unix sockets in it: its path has to be short
    line = [
        program, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=4",
        "--object-store-memory=80000000", "--include-dashboard=true", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--temp-dir={folder}", "--disable-usage-stats",
    ]  # fmt: skip
    told = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    cluster = RayCluster(f"http://127.0.0.1:{dashboard}", log)
    with log.open("wb") as out:
        head = subprocess.Popen(line, env={**os.environ, **told}, stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: _takes_jobs(cluster.url), "Ray takes a job", START_SECONDS)
        yield cluster
    finally:
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(30)
        if head.poll() is None:
            head.kill()
            head.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _takes_jobs(url: str) -> bool:
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(
            f"{url}/api/jobs/", json={"entrypoint": "true"}, headers=headers, timeout=20, trust_env=False
        )
    except httpx.HTTPError:
        return False
    return answer.is_success
