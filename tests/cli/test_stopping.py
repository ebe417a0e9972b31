"""Whatever waits is stopped by Ctrl-C and by SIGTERM in the same way: one line, and the exit code of the signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_server import FakeServer, Talk, error, view

from whisper_farm.protocol.administration import ServerView

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
    pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]),
]
ID = "3k7qz2m9xw4a"
HERE = ServerView(
    version="1", protocol=1, database="x", blobs="x", scope="user", owner="ada", workers_live=0, jobs_queued=0,
    max_upload_bytes=1 << 30,
).model_dump_json().encode()  # fmt: skip
SECONDS = 60


class Held:
    """A call that is not answered before the test is over."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()

    def __call__(self, talk: Talk) -> None:
        self.asked.set()
        self.over.wait(SECONDS)
        talk.hang_up()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.over.set()


def start(server: FakeServer, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "whisper_farm", *words, "--server", server.address, "--token", "secret"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def ended(run: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = run.communicate(timeout=SECONDS)
    return run.returncode, out, err


def test_follow_says_that_the_farm_goes_on(server: FakeServer, held: Held, told: int, code: int) -> None:
    server.tell(f"GET /api/transcriptions/{ID}", (200, view()))
    server.tell("GET /api/events", held)
    run = start(server, "follow", ID)
    assert held.asked.wait(SECONDS)
    run.send_signal(told)
    assert ended(run) == (code, "", "whisper-farm: stopped watching; the farm goes on.\n")


def hold_uploads(server: FakeServer, held: Held) -> None:
    transfer = {"url": "/api/uploads/u1", "method": "PATCH"}
    server.tell("GET /api/server", (200, HERE))
    server.tell("POST /api/transcriptions", (422, error("invalid_request", "No upload.")))
    server.tell("POST /api/uploads", (201, json.dumps({"upload_id": "u1", "transfer": transfer}).encode()))
    server.tell("PATCH /api/uploads/u1", held)


def test_submit_says_what_was_being_sent(server: FakeServer, held: Held, told: int, code: int, tmp_path: Path) -> None:
    talk = tmp_path / "talk.mp3"
    talk.write_bytes(b"sound")
    hold_uploads(server, held)
    run = start(server, "submit", str(talk))
    assert held.asked.wait(SECONDS)
    run.send_signal(told)
    assert ended(run) == (code, "", f"whisper-farm: stopped while {talk} was being sent.\n")


def test_transcribe_elsewhere_does_not_wait_for_what_is_being_sent(
    server: FakeServer, held: Held, told: int, code: int, tmp_path: Path
) -> None:
    talk = tmp_path / "talk.mp3"
    talk.write_bytes(b"sound")
    hold_uploads(server, held)
    run = start(server, "transcribe", str(talk), "-o", str(tmp_path))
    assert held.asked.wait(SECONDS)
    run.send_signal(told)
    line = "whisper-farm: stopped: the farm goes on with what it has; the same command fetches it.\n"
    assert ended(run) == (code, "", line)
    assert not held.over.is_set()


def test_a_command_that_only_waits_for_an_answer_is_stopped(
    server: FakeServer, held: Held, told: int, code: int
) -> None:
    server.tell("GET /api/transcriptions", held)
    run = start(server, "list")
    assert held.asked.wait(SECONDS)
    run.send_signal(told)
    assert ended(run) == (code, "", "whisper-farm: stopped.\n")


def test_while_it_loads_it_just_ends(told: int, code: int, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('loading', flush=True)\nwhile True:\n    time.sleep(0.01)\n")
    command, where = [sys.executable, "-m", "whisper_farm", "--version"], {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=where) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "loading\n"
        run.send_signal(told)
        assert ended(run) in [(code, "", ""), (-told, "", "")]


def test_a_second_one_ends_on_the_spot_what_takes_its_time_to_close(told: int, code: int) -> None:
    program = (
        "import time, whisper_farm.cli.stopping as stopping\n"
        "def wait():\n"  # a long sleep would not see a signal that comes just before it
        "    while True: time.sleep(0.01)\n"
        "with stopping.told_to_stop():\n"
        "    try:\n"
        "        print('open', flush=True)\n"
        "        wait()\n"
        "    except stopping.Stopped:\n"
        "        print('closing', flush=True)\n"
        "        wait()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as run:
        assert run.stdout is not None
        for word in ("open\n", "closing\n"):
            assert run.stdout.readline() == word
            run.send_signal(told)
        assert run.wait(SECONDS) == code
