"""The programs on the pages do what the pages say, against a farm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from support.hand_worker import PATIENCE_SECONDS, HandWorker
from support.served_farm import ServedFarm
from support.talks import Recorder

from whisper_farm.client.farm import FarmClient
from whisper_farm.protocol.client import FINISHED
from whisper_farm.transcript.options import RecognitionOptions

DOCS = Path(__file__).resolve().parents[2] / "docs"


def program(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


@contextmanager
def running(code: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program of a page, which is ended with the test."""
    command, variables = [sys.executable, "-c", code], os.environ | environment
    with subprocess.Popen(command, env=variables, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_worker_of_the_protocols_page_recognises_what_another_has_cut(farm: ServedFarm, tmp_path: Path) -> None:
    Recorder(tmp_path)("talk.wav", 8)
    options = RecognitionOptions(engine="mine", model="small")
    with FarmClient(farm.url, farm.token) as client, closing(HandWorker(farm.url, farm.token)) as cutter:
        view = client.submit_file(tmp_path / "talk.wav", options=options)
        cutter.register()
        cutter.work_off(chunks=2)
        with running(program("PROTOCOL.md"), tmp_path, FARM=farm.url, TOKEN=farm.token) as worker:
            give_up_at = time.monotonic() + PATIENCE_SECONDS
            while client.get(view.id).state not in FINISHED:
                assert worker.poll() is None
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
        transcript = client.transcript(view.id)
    assert [(round(one.start, 3), one.text) for one in transcript.segments] == [(0.5, " Hello."), (10.5, " Hello.")]


def test_the_program_of_the_doors_page_prints_the_subtitles_of_a_recording(farm: ServedFarm, tmp_path: Path) -> None:
    Recorder(tmp_path)("talk.wav", 8)
    code = program("DOORS.md").replace("http://127.0.0.1:8765", farm.url).replace('"TOKEN"', f'"{farm.token}"')
    code = code.replace('model="small"', 'engine="tones", model="instant"')
    with closing(HandWorker(farm.url, farm.token)) as worker, running(code, tmp_path) as process:
        worker.register()
        done = threading.Event()

        def work() -> None:
            while not done.wait(0.05):
                worker.work_off(chunks=2)

        working = threading.Thread(target=work)
        working.start()
        try:
            printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            done.set()
            working.join()
    assert printed.startswith("done 1\n00:00:01,000 --> 00:00:02,000\nword0\n")
