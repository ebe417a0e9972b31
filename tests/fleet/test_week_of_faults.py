"""A week of random faults on a virtual clock, with the real decision, books and round, and two coordinators.

Nothing is lost: every second on the provider's bill is in the books, no limit is passed, all work is done.
"""

from __future__ import annotations

import pytest
from support.fleet_world import Faults, World

from whisper_farm.fleet.pools import parse_pools

POOLS = """
[pools.cheap]
provider = "played"
engine = "tones"
regions = ["a", "b"]
maximum = 6
price_per_hour = 0.5
budget_per_day = 30
idle_seconds = 120
maximum_life_seconds = 7200

[pools.dear]
provider = "played"
engine = "tones"
maximum = 10
price_per_hour = 2
budget_per_day = 20
idle_seconds = 60

[fleet]
target_drain_seconds = 600
started_seconds = 300
registered_seconds = 120
block_seconds = 600
"""
FAULTS = Faults(
    refuse=0.2, lose_answer=0.1, never_registers=0.05, stuck=0.03, crash=0.05, die_per_hour=0.1, list_fails=0.05,
    destroy_fails=0.2, killed=0.002, unlisted_seconds=20,
)  # fmt: skip
STEP_SECONDS = 30.0
WEEK_STEPS = round(7 * 86_400 / STEP_SECONDS)


def check_limits(world: World) -> None:
    for pool in world.fleet.pools.values():
        assert world.running(pool.name) <= pool.maximum, f"{pool.name}: {world.running(pool.name)} machines"
        assert pool.budget_per_day is not None
        assert world.spent_today(pool) <= pool.budget_per_day, f"{pool.name} spent {world.spent_today(pool):.2f}"


def come_to_rest(world: World) -> None:
    """The faults end; what is left is done and everything goes away."""
    world.faults, world.down_until = Faults(), 0.0
    for _ in range(4 * 2880):
        world.step(STEP_SECONDS)
        check_limits(world)
        if world.backlog <= 0 and not any(row.state != "gone" for row in world.rows.values()):
            return
    left = [row for row in world.rows.values() if row.state != "gone"]
    raise AssertionError(f"backlog {world.backlog:.0f}; left: {left[:3]}")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_week_of_faults_leaves_no_second_unbooked_no_limit_passed_and_no_work_undone(seed: int) -> None:
    world = World(parse_pools(POOLS), faults=FAULTS, seed=seed)
    for _ in range(WEEK_STEPS):
        if world.chance(1 / 240):
            world.submit(world.random.choice([600, 3600, 20_000]))
        if world.chance(1 / 2000):
            world.down_until = world.now + 600
        if world.chance(1 / 1000):
            for machine in list(world.machines.values()):
                if machine.ended_at is None and machine.started_at is not None and world.chance(0.3):
                    machine.exit = "lost"
                    world.end(machine, world.now)
        world.step(STEP_SECONDS)
        check_limits(world)
    come_to_rest(world)
    assert world.done == pytest.approx(world.submitted)
    assert world.booked() == pytest.approx(world.billed(), abs=1)
    assert not any(one.ended_at is None for one in world.machines.values())
    assert world.killed > 5, "coordinators have died on the way"
    world.close()
