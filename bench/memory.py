"""Peak memory of the coordinator and of the chunk job, for one hour and for ten.

A server, one worker with the recogniser that sleeps not at all, one recording; peaks as the operating system counted
them (`VmHWM`), so this part runs on Linux only.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from pathlib import Path

import psutil

from bench.processes import server, worker
from bench.scaling import finish, recording, wait_for_workers
from whisper_farm.client.farm import FarmClient
from whisper_farm.transcript.options import RecognitionOptions

HOURS = (1, 10)
MODEL = "instant"


def main() -> None:
    """One line a length."""
    print(
        "\nPeak memory, submission to transcript over HTTP (aim: under 250 MB each, no more for ten hours than for one)"
    )
    for hours in HOURS:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            audio = recording(folder / "recording.flac", hours * 3600)
            coordinator, cutter, chunks, took = measure(folder, audio)
        print(
            f"  {hours:2} h, {chunks} chunks: coordinator {coordinator:4.0f} MB, chunk job {cutter:4.0f} MB, "
            f"done in {took:.0f} s"
        )


def measure(folder: Path, audio: Path) -> tuple[float, float, int, float]:
    """Peaks of the two processes in megabytes, the number of chunks, the seconds."""
    with (
        server(folder / "farm") as farm,
        FarmClient(farm.url, farm.token) as client,
        worker(farm, "--engine", "tones", "--model", MODEL, "--slots", "1") as agent,
    ):
        wait_for_workers(client, 1)
        peaks = Peaks(agent.pid)
        started = time.perf_counter()
        made = client.submit_file(audio, options=RecognitionOptions(engine="tones", model=MODEL, language="en"))
        finish(client, made.id)
        took = time.perf_counter() - started
        peaks.stop()
        view = client.get(made.id)
        if view.state != "done":
            raise RuntimeError(f"the recording ended {view.state}: {view.error or view.gaps}")
        return peak_mb(farm.process.pid), peaks.cutter, view.progress.chunks, took


class Peaks:
    """Watches the cutter child of a worker, which lives only as long as the chunk job."""

    def __init__(self, agent: int) -> None:
        self.cutter = 0.0
        self._agent = psutil.Process(agent)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for child in self._agent.children(recursive=True):
                try:
                    if "cutter" in child.cmdline():
                        self.cutter = max(self.cutter, peak_mb(child.pid))
                except (psutil.Error, OSError, AttributeError):
                    continue


def peak_mb(pid: int) -> float:
    """The largest resident size a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


if __name__ == "__main__":
    main()
