"""How the wall time falls with more slots, and what a hundred fast workers make of an hour.

The recogniser sleeps in proportion to the audio (engine `tones`, model `xN`: N audio-seconds a second a slot), so what
is measured is the farm: queue, transfers, batching, the tail. The limit it is held against is arithmetic.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from support.tone_audio import tone_recording

from bench.processes import Server, server, worker
from bench.swarm import Swarm
from whisper_farm.client.farm import FarmClient
from whisper_farm.protocol.client import FINISHED
from whisper_farm.transcript.options import RecognitionOptions

SLOTS = (1, 4, 16, 64)
SPEED = 4
MINUTES_PER_SLOT = 4
CHUNK_SECONDS = 10
WORKERS, WORKER_SPEED = 100, 40
QUICK, QUICK_SPEED, SLOW_SPEED = 8, 20, 0.5
HEDGES = {"never": "100", "by default": "3"}
"""`hedge_factor`: how many times its expected time a chunk runs before an idle worker gets it too."""


def recording(path: Path, seconds: float, codec: str = "flac") -> Path:
    """Tone speech of that length; 16 kHz mono."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=16_000, layout="mono")
        pts = 0
        for block in tone_recording(seconds):
            frame = av.AudioFrame.from_ndarray((block * 32767).astype(np.int16)[None, :], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, pts
            pts += frame.samples
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def finish(client: FarmClient, transcription: str) -> None:
    """Wait until it is finished; the event stream says when."""
    stream = client.events(transcription=transcription)
    try:
        if client.get(transcription).state in FINISHED:
            return
        for event in stream:
            if event.kind in {f"transcription_{state}" for state in FINISHED}:
                return
    finally:
        stream.close()


def wall_time(audio: Path, slots: int, folder: Path) -> float:
    """From submission to transcript, with a server and one worker of that many slots that are up already."""
    with server(folder / f"farm{slots}") as farm, FarmClient(farm.url, farm.token) as client:
        flags = ("--engine", "tones", "--model", f"x{SPEED}", "--slots", str(slots), "--batch_size", "1")
        with worker(farm, *flags):
            wait_for_workers(client, 1)
            started = time.perf_counter()
            options = RecognitionOptions(engine="tones", model=f"x{SPEED}", language="en")
            made = client.submit_file(audio, options=options, chunk_seconds=CHUNK_SECONDS)
            finish(client, made.id)
            return time.perf_counter() - started


def wait_for_workers(client: FarmClient, count: int) -> None:
    """Until that many workers have registered."""
    while len(client.workers()) < count:
        time.sleep(0.1)


def slots_table() -> None:
    """Efficiency at 1, 4, 16 and 64 slots: ideal seconds over measured."""
    print(
        f"\nSlots: a recogniser of {SPEED} × real time a slot that only sleeps, {MINUTES_PER_SLOT} min of audio a slot,"
    )
    print(f"chunks of at most {CHUNK_SECONDS} s, one worker; ideal = audio / (speed × slots), submission to transcript")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for slots in SLOTS:
            seconds = MINUTES_PER_SLOT * 60 * slots
            audio = recording(folder / f"{slots}.flac", seconds)
            took = wall_time(audio, slots, folder)
            ideal = seconds / (SPEED * slots)
            print(
                f"  {slots:3} slots: {seconds / 60:5.0f} min in {took:6.1f} s, ideal {ideal:5.1f} s, "
                f"efficiency {ideal / took:.3f}"
            )


def hundred_workers() -> None:
    """An hour of speech on a hundred workers of 40 × real time each."""
    print(f"\nOne hour on {WORKERS} workers of {WORKER_SPEED} × real time (the real protocol, audio fetched, sleep")
    print("instead of recognition, all in one process; one real worker cuts; mp3, 44.1 kHz stereo, 128 kbit/s)")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wave = recording(folder / "hour.flac", 3600)
        audio = folder / "hour.mp3"
        to_mp3(wave, audio)
        with server(folder / "farm") as farm:
            took = _by_swarm(farm, "hundred", WORKERS, audio)
        print(f"  submission to transcript: {took:.1f} s (aim: 15), {3600 / took:.0f} × real time")


def hedging() -> None:
    """What the end of a recording costs when one worker of nine is forty times slower."""
    print(
        f"\nTen minutes on {QUICK} workers of {QUICK_SPEED} × real time and one of {SLOW_SPEED} ×, until the transcript"
    )
    took = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        audio = recording(folder / "ten.flac", 600)
        for name, factor in HEDGES.items():
            with server(folder / f"farm{factor}", settings={"WHISPER_FARM_HEDGE_FACTOR": factor}) as farm:
                took[name] = _by_swarm(farm, "uneven", QUICK + 1, audio)
            print(f"  slow chunks given to an idle worker too, {name:10} {took[name]:6.1f} s")
    print(f"  gain {took['never'] / took['by default']:.1f} ×")


def _by_swarm(farm: Server, kind: str, workers: int, audio: Path) -> float:
    """Seconds from submission to transcript, with a swarm in a process of its own and one real worker that cuts."""
    swarm = subprocess.Popen([sys.executable, "-m", "bench.scaling", kind, farm.url, farm.token])
    cutter = worker(farm, "--engine", "tones", "--model", "instant", "--slots", "1")
    try:
        with FarmClient(farm.url, farm.token) as client, cutter:
            wait_for_workers(client, workers + 1)
            started = time.perf_counter()
            options = RecognitionOptions(engine="tones", model="sleeping", language="en")
            finish(client, client.submit_file(audio, options=options).id)
            return time.perf_counter() - started
    finally:
        swarm.terminate()
        swarm.wait(timeout=10)


def to_mp3(wave: Path, path: Path) -> None:
    """As podcasts come."""
    with av.open(str(wave)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("mp3", rate=44_100, layout="stereo")
        stream.bit_rate = 128_000
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=44_100, frame_size=1152)
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        for piece in resampler.resample(None):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


SWARMS = {"hundred": ((WORKERS, WORKER_SPEED),), "uneven": ((QUICK, QUICK_SPEED), (1, SLOW_SPEED))}
"""Workers and their speed."""


async def _swarm(kind: str, url: str, token: str) -> None:
    swarms = [Swarm([url], token, count, "sleeping", speed) for count, speed in SWARMS[kind]]
    await asyncio.gather(*(swarm.run(asyncio.Event(), asyncio.Event()) for swarm in swarms))


def main() -> None:
    """All tables."""
    slots_table()
    hundred_workers()
    hedging()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SWARMS:
        asyncio.run(_swarm(*sys.argv[1:4]))
    else:
        main()
