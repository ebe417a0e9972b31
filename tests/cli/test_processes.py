"""The program as a user meets it: a process that is interrupted, piped, and started twice."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from support.served_farm import eventually
from support.talks import Recorder

from whisper_farm.client.farm import FarmClient

SLOW = ("--engine", "tones", "--model", "x20", "--slots", "2", "-f", "txt")
STOP_SECONDS = 15.0
"""Two are promised on a machine that has time; this one may be busy with other tests."""
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def start(*words: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return start_command("transcribe", *words, stdout=stdout)


def start_command(*words: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "whisper_farm", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run_line(line: str) -> subprocess.Popen[str]:
    """What a user starts who copies a printed line into a shell that knows nothing of this farm."""
    program, _, flags = line.partition(" ")
    assert program == "whisper-farm"
    shell = f"exec {shlex.quote(sys.executable)} -m whisper_farm {flags}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_FARM_")}
    return subprocess.Popen(
        ["/bin/sh", "-c", shell], env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def done_attempts(data: Path) -> set[tuple[str, str]]:
    database = sqlite3.connect(data / "transcribe" / "farm.db")
    try:
        return set(database.execute("SELECT job_id, token FROM attempts WHERE state = 'done'"))
    finally:
        database.close()


@posix_only
@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_told_to_stop_does_so_at_once_and_the_same_command_does_only_what_is_missing(
    record: Recorder, own_data_folder: Path, told: signal.Signals, code: int
) -> None:
    talk = record("talk.wav", 300)
    run = start("talk.wav", *SLOW)
    assert run.stdout is not None
    assert run.stdout.readline().startswith("[00:00.")
    children = children_of(run)
    assert children
    run.send_signal(told)
    told_at = time.monotonic()
    _, err = run.communicate(timeout=100)
    assert time.monotonic() - told_at < STOP_SECONDS
    assert run.returncode == code
    assert "whisper-farm: stopped with talk.wav up to 0:" in err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert not Path("talk.txt").exists()
    before = done_attempts(own_data_folder)
    assert before
    again = start("talk.wav", *SLOW)
    _, err = again.communicate(timeout=200)
    assert again.returncode == 0
    assert " of it before, " in err
    assert " ".join(Path("talk.txt").read_text().split()) == talk.text
    after = done_attempts(own_data_folder)
    assert before < after
    assert len({job for job, _ in after}) == len(after)


@posix_only
def test_a_reader_that_has_seen_enough_ends_the_run_quietly(record: Recorder) -> None:
    record("talk.wav", 300)
    reading, writing = os.pipe()
    run = start("talk.wav", *SLOW, stdout=writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as out:
        assert out.readline().startswith("[00:00.")
    _, err = run.communicate(timeout=100)
    assert run.returncode == 141
    assert "whisper-farm:" not in err
    assert "Traceback" not in err
    assert "Exception" not in err


@posix_only
def test_a_server_and_a_worker_say_where_they_are_and_leave_when_told(
    record: Recorder, own_data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = record("talk.wav", 60)
    serve = start_command("serve", "--port", "0")
    assert serve.stdout is not None
    greeting = [serve.stdout.readline().rstrip() for _ in range(6)]
    address = greeting[0].split()[-1]
    assert greeting[0].startswith("Whisper Farm ")
    assert str(own_data_folder / "admin-token") in greeting[1]
    assert re.fullmatch(
        r"  a worker elsewhere   WHISPER_FARM_WORKER_TOKEN=TOKEN whisper-farm worker --server http://\S+", greeting[3]
    )
    assert greeting[4].endswith(f"TOKEN is in {own_data_folder / 'worker-token'}")
    assert "--host 0.0.0.0" in greeting[5]
    worker = run_line(greeting[2].removeprefix("  a worker here        ") + " --engine tones --slots 1")
    monkeypatch.setenv("WHISPER_FARM_TOKEN", (own_data_folder / "admin-token").read_text().strip())
    run = start("talk.wav", "--server", address, "--engine", "tones", "--model", "instant", "-f", "txt", "--quiet")
    _, err = run.communicate(timeout=200)
    assert (run.returncode, err) == (0, "")
    assert " ".join(Path("talk.txt").read_text().split()) == talk.text
    assert not [one for one in own_data_folder.iterdir() if one.stat().st_mode & 0o077], "its user's alone"
    for process, words in ((worker, "draining"), (serve, "coordinator stopped")):
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0
        assert words in err
        assert "Traceback" not in err


@posix_only
@pytest.mark.parametrize("order", ["drain", "dismiss"])
def test_a_server_whose_own_worker_is_sent_away_goes_on(own_data_folder: Path, order: str) -> None:
    serve = start_command("serve", "--port", "0", "--worker", "--engine", "tones")
    try:
        assert serve.stdout is not None
        address = serve.stdout.readline().split()[-1]
        token = (own_data_folder / "admin-token").read_text().strip()
        with FarmClient(address, token) as farm:
            (worker,) = eventually(farm.workers, "the worker is there", 60)
            headers = {"Authorization": f"Bearer {token}"}
            httpx.post(f"{address}/api/workers/{worker.id}/{order}", headers=headers).raise_for_status()
            eventually(lambda: farm.workers()[0].state == "gone", "the worker has left", 60)
            assert serve.stderr is not None
            said = "The worker of this server has left: it was sent away. The server goes on."
            assert any(said in line for line in serve.stderr)
            assert farm.server().workers_live == 0
        serve.send_signal(signal.SIGTERM)
        _, err = serve.communicate(timeout=60)
    finally:
        serve.kill()
        serve.communicate()
    assert serve.returncode == 0
    assert "Traceback" not in err


def test_two_commands_at_once_on_the_same_file_share_the_work(record: Recorder, own_data_folder: Path) -> None:
    talk = record("talk.wav", 300)
    runs = [start("talk.wav", "-o", folder, *SLOW) for folder in ("a", "b")]
    for run in runs:
        _, err = run.communicate(timeout=200)
        assert run.returncode == 0, err
    for folder in ("a", "b"):
        assert " ".join((Path(folder) / "talk.txt").read_text().split()) == talk.text
    done = done_attempts(own_data_folder)
    assert len({job for job, _ in done}) == len(done)
    database = sqlite3.connect(own_data_folder / "transcribe" / "farm.db")
    assert database.execute("SELECT count(*) FROM transcriptions").fetchone() == (1,)
    database.close()
