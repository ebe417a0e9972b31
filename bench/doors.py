"""OpenAI's door against faster-whisper itself: when the first words of a recording come, and when all of it is there.

Ten minutes of speech, the same real weights (tiny.en). The library runs in one process that has its model loaded, with
all cores, one window after another as servers around it do, and in batches. The farm is a server and a worker, asked by
OpenAI's own client with `stream=true`; the upload and all of its work count. One after the other, several rounds. The
processor time of all processes is told, too: it says more where others use the machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from openai import OpenAI

from bench.processes import Server, server, worker
from bench.recognition import SECONDS, recordings
from bench.scaling import wait_for_workers
from examples.weights import tiny_en
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.client.farm import FarmClient

WARM_SECONDS = 60
ROUNDS = int(os.environ.get("ROUNDS", "3"))
LIBRARY = """
import json, os, sys, time
from faster_whisper import BatchedInferencePipeline, WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=len(os.sched_getaffinity(0)))
batched = BatchedInferencePipeline(model)
for line in sys.stdin:
    audio, batch = json.loads(line)
    started = time.perf_counter()
    options = dict(language="en", word_timestamps=True)
    if batch:
        segments, _ = batched.transcribe(audio, batch_size=batch, **options)
    else:
        segments, _ = model.transcribe(audio, vad_filter=True, **options)
    next(segments)
    first = time.perf_counter() - started
    for _ in segments:
        pass
    print(json.dumps([first, time.perf_counter() - started]), flush=True)
"""
Times = tuple[float, float, float]
"""Seconds until the first words, until all of them, and of processors."""


@contextmanager
def library() -> Iterator[subprocess.Popen[str]]:
    """A process that has the library's model loaded, and answers with the times of each recording."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIBRARY, str(tiny_en())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def processor_seconds(*pids: int) -> float:
    """What these processes and their children have used so far."""
    all_of_them = [
        each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    return sum(sum(each.cpu_times()[:2]) for each in all_of_them)


def by_library(process: subprocess.Popen[str], audio: Path, batch: int) -> tuple[float, float]:
    """Ask it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([str(audio), batch]) + "\n")
    process.stdin.flush()
    first, whole = json.loads(process.stdout.readline())
    return first, whole


def by_door(at: Server, audio: Path) -> tuple[float, float]:
    """Ask the farm, and have it forget the recording: the same upload again would join it."""
    with OpenAI(base_url=f"{at.url}/v1", api_key=at.token, max_retries=0, timeout=900) as client:
        started = time.perf_counter()
        stream = client.audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=audio, language="en", stream=True
        )
        first = whole = 0.0
        kinds = set()
        for event in stream.parse():
            kinds.add(event.type)
            first = first or time.perf_counter() - started
            whole = time.perf_counter() - started
        assert "transcript.text.done" in kinds
    with FarmClient(at.url, at.token) as farm:
        farm.delete(stream.headers["Whisper-Farm-Transcription"])
    return first, whole


def main() -> None:
    """Print the medians, and the farm's ratios to the library."""
    settings = {"WHISPER_FARM_DEFAULT_MODEL": str(tiny_en()), "WHISPER_FARM_LOCAL_MODELS": "true"}
    with (
        tempfile.TemporaryDirectory() as place,
        library() as process,
        server(Path(place) / "data", settings=settings) as at,
        worker(at, "--engine", "faster-whisper", "--device", "cpu") as working,
    ):
        with FarmClient(at.url, at.token) as farm:
            wait_for_workers(farm, 1)
        speech = next(recordings()).audio
        warm, audio = Path(place) / "warm.flac", Path(place) / "speech.flac"
        warm.write_bytes(encode(speech[: WARM_SECONDS * SAMPLE_RATE]))
        audio.write_bytes(encode(speech))
        ways = {
            "faster-whisper, in order": lambda path: by_library(process, path, 0),
            "faster-whisper, batches of 8": lambda path: by_library(process, path, 8),
            "the farm, through /v1": lambda path: by_door(at, path),
        }
        pids = (process.pid, at.process.pid, working.pid)
        found: dict[str, list[Times]] = {name: [] for name in ways}
        for ask in ways.values():
            ask(warm)
        for _ in range(ROUNDS):
            for name, ask in ways.items():
                before = processor_seconds(*pids)
                first_words, everything = ask(audio)
                found[name].append((first_words, everything, processor_seconds(*pids) - before))
                load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
                first, whole, used = found[name][-1]
                print(f"  {name:30} {first:6.2f} {whole:7.1f} s  processors {used:6.1f} s  load {load:.1f}", flush=True)
    print(f"\nDoors, tiny.en, int8, {SECONDS} s of speech: first words, all of them, processors; medians of {ROUNDS}")
    medians = {name: [statistics.median(each) for each in zip(*times, strict=True)] for name, times in found.items()}
    for name, (first, whole, used) in medians.items():
        print(f"  {name:30} {first:6.2f} s {whole:7.1f} s {used:7.1f} s ({SECONDS / whole:.1f} × real time)")
    *others, farm_name = medians
    for other in others:
        first, whole, used = (a / b for a, b in zip(medians[other], medians[farm_name], strict=True))
        print(f"  against {other}: first words {first:.2f}, all {whole:.2f}, processors {used:.2f} (more is better)")


if __name__ == "__main__":
    main()
