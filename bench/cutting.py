"""Cutting against plain decoding: speed, seconds until the first chunk, peak memory for one hour and for ten.

    python -m bench.cutting [--hours 10]

The recordings are made here, from the bundled podcast repeated as 44.1 kHz stereo mp3. "Plain" is what
PyAV's own documentation does: decode every frame, resample it to 16 kHz mono. Each figure comes from a
fresh process, one after the other, on this machine; other work on it makes them worse.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PODCAST = Path(__file__).parents[1] / "examples" / "podcast.mp3"
TIMEOUT_SECONDS = 3600


def make(path: Path, hours: float) -> dict[str, float]:
    """Write a recording: the podcast encoded once, its packets repeated with new timestamps."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("mp3", rate=44_100, layout="stereo")
        stream.bit_rate = 96_000
        resampler = av.AudioResampler(stream.format, "stereo", 44_100)
        packets = []
        with av.open(str(PODCAST)) as podcast:
            for frame in podcast.decode(audio=0):
                for part in resampler.resample(frame):
                    packets += stream.encode(part)
        copies = [(bytes(packet), packet.time_base) for packet in packets[:-10]]
        for number in range(round(hours * 3600 * 44_100 / 1152)):
            data, time_base = copies[number % len(copies)]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, time_base
            packet.pts = packet.dts = round(number * 1152 / 44_100 / time_base)
            output.mux(packet)
    return {}


def plain(path: Path, hours: float) -> dict[str, float]:
    """Decode and resample, nothing else."""
    started = time.perf_counter()
    import av

    samples = 0
    with av.open(str(path)) as recording:
        resampler = av.AudioResampler("flt", "mono", 16_000)
        for frame in recording.decode(audio=0):
            samples += sum(part.to_ndarray().size for part in resampler.resample(frame))
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time(),
        "audio": samples / 16_000,
    }


def chunked(path: Path, hours: float) -> dict[str, float]:
    """A whole chunk job but for the upload."""
    started = time.perf_counter()
    from whisper_farm.audio.chunking import Chunking
    from whisper_farm.audio.source import AudioSource

    first = 0.0
    with Chunking(AudioSource(path, path.name)) as cutting:
        for _ in cutting:
            first = first or time.perf_counter() - started
        assert cutting.end
        return {
            "seconds": time.perf_counter() - started,
            "processor": time.process_time(),
            "first": first,
            "chunks": cutting.end.chunks,
            "audio": cutting.end.duration_seconds,
            "peak_mb": peak_mb(),
        }


def peak_mb() -> float:
    """The most memory this process ever held, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import psutil

    memory = psutil.Process().memory_info()
    return float(getattr(memory, "peak_wset", memory.rss)) / 1e6


STEPS: dict[str, Callable[[Path, float], dict[str, float]]] = {"make": make, "plain": plain, "chunked": chunked}


def fresh(step: str, path: Path, hours: float) -> dict[str, float]:
    """Run one step in a process of its own."""
    command = [sys.executable, "-m", "bench.cutting", "--step", step, "--file", str(path), "--hours", str(hours)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(hours: float) -> None:
    """Measure and say so."""
    with tempfile.TemporaryDirectory(prefix="whisper-farm-bench-") as folder:
        short, long = Path(folder, "short.mp3"), Path(folder, "long.mp3")
        fresh("make", short, 1)
        base = fresh("plain", short, 1)
        one = fresh("chunked", short, 1)
        plain_rate, rate = base["audio"] / base["seconds"], one["audio"] / one["seconds"]
        print(f"Cutting one hour of 44.1 kHz stereo mp3 into {one['chunks']:.0f} chunks")
        print(f"  plain decode and resample  {plain_rate:6.0f} x real time")
        print(f"  cutting                    {rate:6.0f} x real time, {rate / plain_rate:.2f} of plain (aim: 0.75)")
        print(f"  processor time             {one['processor']:6.1f} s against {base['processor']:.1f} s for plain")
        print(f"  first chunk                {one['first']:6.2f} s after the start (aim: under 2)")
        print(f"  peak memory                {one['peak_mb']:6.0f} MB (aim: under 250)", flush=True)
        fresh("make", long, hours)
        many = fresh("chunked", long, hours)
        print(f"The same for {hours:g} hours: {many['chunks']:.0f} chunks at {many['audio'] / many['seconds']:.0f} x")
        print(f"  first chunk                {many['first']:6.2f} s after the start")
        print(f"  peak memory                {many['peak_mb']:6.0f} MB, {many['peak_mb'] - one['peak_mb']:+.0f} MB")


def main(arguments: Sequence[str] = ()) -> None:
    """Run it, with the arguments of a command line."""
    parser = argparse.ArgumentParser(description="Cutting against plain decoding.")
    parser.add_argument("--hours", type=float, default=10, help="length of the long recording")
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(list(arguments))
    if chosen.step:
        print(json.dumps(STEPS[chosen.step](chosen.file, chosen.hours)))
    else:
        report(chosen.hours)


if __name__ == "__main__":
    main(sys.argv[1:])
