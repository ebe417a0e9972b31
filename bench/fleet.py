"""Machines on demand: what they cost beside the least possible, and how soon work begins.

The first part is simulated, with the real decision, books and round on a virtual clock (`support/fleet_world.py`): an
hour of audio on at most 20 machines that need 20 s to start, at real time. The least possible is the work alone. The
threshold autoscaler beside it is computed: it starts all it may while anything waits, and ends a machine after five
idle minutes, as common ones do by default. The second part is real: seconds from a submission to the first claim on an
empty farm.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from support.farm_processes import Recording, until
from support.fleet_world import World
from support.placed_farm import all_gone, placing_farm

from whisper_farm.fleet.pools import parse_pools

AUDIO_SECONDS = 3600.0
MACHINES = 20
START_SECONDS = 20.0
STEP_SECONDS = 2.0
THRESHOLD_IDLE_SECONDS = 300.0
AIM = 1.15
POOLS = f"""
[pools.p]
provider = "played"
engine = "tones"
maximum = {MACHINES}
idle_seconds = 15

[fleet]
target_drain_seconds = 180
coming_most = {MACHINES}
hysteresis_seconds = 10
"""
LOCAL = """
[pools.here]
provider = "local"
engine = "tones"
maximum = 2
idle_seconds = 2
"""


def main() -> None:
    """Print both parts."""
    paid, seconds = simulated()
    least = AUDIO_SECONDS
    threshold = least + MACHINES * (START_SECONDS * 0.3 + THRESHOLD_IDLE_SECONDS)
    print(f"fleet: an hour of audio, {MACHINES} machines, {START_SECONDS:g} s to start (simulated)")
    print(f"  machine-seconds paid         {paid:8.0f}  {paid / least:5.2f} of the least possible (aim {AIM})")
    print(f"  a threshold autoscaler       {threshold:8.0f}  {threshold / least:5.2f}")
    print(f"  done after                   {seconds:8.0f} s")
    print("fleet: an empty farm with a pool on this machine")
    print(f"  from submit to first claim   {first_claim():8.1f} s")


def simulated() -> tuple[float, float]:
    """Machine-seconds paid for the hour, and how long it took; the speed is known from work before."""
    world = World(parse_pools(POOLS), speed=1.0, boot_seconds=START_SECONDS)
    try:
        _work_off(world, 30)
        before, began = world.billed(), world.now
        done = _work_off(world, AUDIO_SECONDS)
        return world.billed() - before, done - began
    finally:
        world.close()


def _work_off(world: World, audio_seconds: float) -> float:
    """Let the farm do so much, and go to rest; the time at which the work was done."""
    world.submit(audio_seconds)
    done: float | None = None
    while world.backlog > 0 or world.live:
        world.step(STEP_SECONDS)
        if done is None and world.backlog <= 0:
            done = world.now
    assert done is not None
    return done


def first_claim() -> float:
    """Seconds from a submission to the first claim, with processes of this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = Recording.long(folder / "talk.wav", 6)
        with placing_farm(folder / "farm", LOCAL) as farm:
            began = time.monotonic()
            made = farm.submit(recording)
            until(lambda: any(job.attempts for job in farm.jobs(made)), "a job is claimed")
            seconds = time.monotonic() - began
            farm.finished(made)
            all_gone(farm)
    return seconds
