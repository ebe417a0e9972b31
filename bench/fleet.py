"""Machines on demand: what they cost beside the least possible, and how soon work begins.

The first part is simulated, with the real decision, books and round on a virtual clock (`support/fleet_world.py`): an
hour of audio on at most 20 machines that need 20 s to start, at real time. The least possible is the work alone. The
threshold autoscaler beside it is computed: it starts all it may while anything waits, and ends a machine after five
idle minutes, as common ones do by default. A burst is simulated, too: twenty hours of audio at once on a farm at rest.
The second part is real, with processes of this machine: seconds from a submission to the first claim on an empty farm,
and how much of the time of 1, 4 and 16 placed workers is recognition, which sleeps: `tones` at twice real time.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from support.farm_processes import Farm, Recording, until
from support.fleet_world import World
from support.placed_farm import all_gone, machines, placing_farm

from whisper_farm.fleet.pools import parse_pools
from whisper_farm.protocol.machines import PoolChange
from whisper_farm.store.workers import list_workers

AUDIO_SECONDS = 3600.0
MACHINES = 20
START_SECONDS = 20.0
STEP_SECONDS = 2.0
THRESHOLD_IDLE_SECONDS = 300.0
START_PATIENCE_SECONDS = 300.0
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
maximum = 16
slots = 1
idle_seconds = 2
"""
BURST_SECONDS = 20 * 3600.0
PLACED = (1, 4, 16)
WORKER_SPEED = 2.0
WORDS_EACH = 60
"""So many words, of 1.3 s each with the pause after it, for each worker."""


def main() -> None:
    """Print both parts."""
    paid, seconds = simulated()
    least = AUDIO_SECONDS
    threshold = least + MACHINES * (START_SECONDS * 0.3 + THRESHOLD_IDLE_SECONDS)
    print(f"fleet: an hour of audio, {MACHINES} machines, {START_SECONDS:g} s to start (simulated)")
    print(f"  machine-seconds paid         {paid:8.0f}  {paid / least:5.2f} of the least possible (aim {AIM})")
    print(f"  a threshold autoscaler       {threshold:8.0f}  {threshold / least:5.2f}")
    print(f"  done after                   {seconds:8.0f} s")
    working, drained, least_seconds = burst()
    print(f"fleet: a burst of {BURST_SECONDS / 3600:g} h of audio on a farm at rest, {MACHINES} machines (simulated)")
    print(f"  all machines work after      {working:8.0f} s")
    print(f"  done after                   {drained:8.0f} s  {drained / least_seconds:5.2f} of the least possible")
    print("fleet: an empty farm with a pool on this machine")
    print(f"  from submit to first claim   {first_claim():8.1f} s")
    for count in PLACED:
        print(f"  {count:2} placed workers recognise {efficiency(count):6.0%} of their time")


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


def burst() -> tuple[float, float, float]:
    """Seconds until every machine works, until all is done, and the least that this could take."""
    world = World(parse_pools(POOLS), speed=1.0, boot_seconds=START_SECONDS)
    try:
        _work_off(world, 30)
        began, working = world.now, None
        world.submit(BURST_SECONDS)
        while world.backlog > 0:
            world.step(STEP_SECONDS)
            if working is None and sum(one.state == "live" for one in world.present.values()) == MACHINES:
                working = world.now - began
        assert working is not None
        return working, world.now - began, BURST_SECONDS / MACHINES + START_SECONDS
    finally:
        world.close()


def efficiency(count: int) -> float:
    """How much of so many placed workers' time is recognition, from the submission to the transcript."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = Recording.long(folder / "talk.wav", WORDS_EACH * count)
        with placing_farm(folder / "farm", LOCAL) as farm:
            farm.client.change_pool("here", PoolChange(fixed=count))
            until(lambda: _working(farm) == count, "all are there", START_PATIENCE_SECONDS)
            began = time.monotonic()
            made = farm.submit(recording, model=f"x{WORKER_SPEED:g}")
            farm.finished(made, START_PATIENCE_SECONDS)
            seconds = time.monotonic() - began
            worked = sum(one.work_seconds for one in farm.look_inside(list_workers))
            farm.client.change_pool("here", PoolChange(automatic=True, switch="stopped"))
            all_gone(farm, START_PATIENCE_SECONDS)
    return worked / count / seconds


def _working(farm: Farm) -> int:
    return sum(row.state == "working" for row in machines(farm))
