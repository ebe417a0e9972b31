"""How many machines a pool has, and why: from the backlog, the measured speed, the limits and the money."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fleet_world import Faults, World

from whisper_farm.fleet.books import Books
from whisper_farm.fleet.decide import decide
from whisper_farm.fleet.pools import parse_pools
from whisper_farm.fleet.snapshot import Snapshot
from whisper_farm.store.machines import MachineRow, NeedRow, PoolRow
from whisper_farm.store.workers import PresentWorker

Make = Callable[..., World]


def run(world: World, steps: int, seconds: float = 10) -> None:
    for _ in range(steps):
        world.step(seconds)


def states(world: World) -> list[str]:
    return sorted(row.state for row in world.rows.values())


def test_an_empty_farm_starts_machines_for_work_and_ends_them_when_it_is_done(make_world: Make) -> None:
    world = make_world()
    run(world, 3)
    assert not world.machines
    world.submit(20_000)
    world.step(1)
    assert states(world) == ["accepted"] * 4
    run(world, 60)
    assert world.done == 20_000
    run(world, 40)
    assert set(states(world)) == {"gone"}
    assert world.booked() == pytest.approx(world.billed())


def test_no_more_machines_are_started_than_there_are_jobs_to_claim(make_world: Make) -> None:
    world = make_world()
    world.submit(45)
    world.step(1)
    assert len(world.machines) == 2


def test_the_measured_speed_decides_once_it_is_known(make_world: Make) -> None:
    world = make_world()
    world.submit(100)
    run(world, 20)
    assert world.pools["p"].inputs["speed"] == 10
    run(world, 30)
    world.submit(11_000)  # one machine takes 1100 s, two take less than the target of 600 s
    world.step(1)
    assert world.pools["p"].wanted == 2
    assert world.pools["p"].why.startswith("2 wanted: 11000 s of audio at 10.0 times real time in 600 s need 2; ")


def test_a_second_pool_gets_nothing_of_what_the_first_one_does_in_time(make_world: Make) -> None:
    world = make_world('[pools.q]\nprovider = "played"\nengine = "tones"\nmaximum = 9\n')
    world.submit(100)
    run(world, 50)  # the speed is known now
    started = len(world.machines)
    world.submit(20_000)
    world.step(1)
    assert world.pools["p"].wanted == 4
    assert world.pools["q"].wanted == 0
    assert len(world.machines) - started == 4


def test_two_coordinators_start_what_one_would(make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    run(world, 10)
    assert len(world.machines) == 4
    assert world.calls["create"] == 4


def test_another_coordinator_goes_on_where_one_has_died(make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    world.step(1)
    world.coordinators.pop(0 if world.holder == "c1" else 1)
    run(world, 30)
    assert world.holder is not None
    assert world.done > 0
    assert len(world.machines) == 4


def test_a_pool_that_is_too_large_drains_idle_machines_only_and_no_sooner_than_it_may(make_world: Make) -> None:
    world = make_world()
    world.submit(4 * 30 * 10 * 30)
    run(world, 20)
    working = [one for one in world.workers.values() if one.busy]
    assert working
    before = len(world.machines)
    run(world, 200)
    told = [one for one in world.decisions if one.action == "drain"]
    assert all("There is work for" in one.why for one in told)
    assert len(world.machines) == before
    assert set(states(world)) == {"gone"}


def test_a_switch_that_pauses_starts_nothing_and_ends_nothing(make_world: Make) -> None:
    world = make_world()
    world.pools["p"] = PoolRow("p", switch="paused")
    world.submit(20_000)
    run(world, 10)
    assert not world.machines
    assert "the pool is paused" in world.pools["p"].why


@pytest.mark.parametrize("switch", ["drained", "stopped"])
def test_a_switch_ends_all_machines_and_loses_no_work(switch: str, make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    run(world, 12)
    assert states(world) == ["working"] * 4
    world.pools["p"] = PoolRow("p", switch=switch)  # type: ignore[arg-type]
    run(world, 12)
    assert set(states(world)) == {"gone"}
    assert world.done + world.backlog == 20_000
    assert world.calls["destroy"] == 0, "each worker was told by its answers, and left by itself"


def test_a_pool_that_is_taken_out_of_the_file_ends_its_machines(make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    run(world, 12)
    for one in world.coordinators:
        one.fleet = parse_pools("")
    run(world, 12)
    assert set(states(world)) == {"gone"}


def test_a_budget_first_starts_nothing_more_and_then_drains(make_world: Make) -> None:
    world = make_world("budget_per_day = 2\n")
    world.submit(1_000_000)
    for _ in range(1500):
        world.step(10)
        assert world.spent_today(world.fleet.pools["p"]) <= 2
    assert any("The budget does not pay it" in one.why for one in world.decisions)
    assert set(states(world)) == {"gone"}
    assert world.spent_today(world.fleet.pools["p"]) > 1.5
    run(world, 86_400 // 60, 60)
    assert world.spent_today(world.fleet.pools["p"]) > 0, "another day, another budget"


def test_a_machine_older_than_its_life_is_drained(make_world: Make) -> None:
    world = make_world("maximum_life_seconds = 300\n")
    world.submit(100_000)
    run(world, 60)
    assert any("It has lived" in one.why and one.action == "drain" for one in world.decisions)
    assert all(one.billed(world.now) < 360 for one in world.machines.values())


def test_a_dry_run_says_what_it_would_do_and_does_nothing(make_world: Make) -> None:
    world = make_world()
    for one in world.coordinators:
        one.dry_run = True
    world.submit(20_000)
    run(world, 3)
    assert not world.machines
    assert not world.rows
    assert world.pools["p"].wanted == 4
    assert any(line.kind == "would create" for line in world.log)


def test_hours_of_the_day_keep_a_pool_shut(make_world: Make) -> None:
    world = make_world('hours = "00:00-00:01"\n')
    world.now += 7200 - world.now % 86_400 + 86_400
    world.submit(1000)
    run(world, 5)
    assert not world.machines
    assert "from 00:00-00:01 UTC only" in world.pools["p"].why


def test_old_knowledge_starts_and_ends_nothing(make_world: Make) -> None:
    world = make_world()
    world.submit(2_000)
    run(world, 12)
    world.faults = Faults(list_fails=1)
    run(world, 7)
    before = len(world.decisions)
    world.submit(20_000)
    run(world, 12)
    assert [one for one in world.decisions[before:] if one.action in ("create", "destroy")] == []
    assert "its provider has not answered lately" in world.pools["p"].why


MACHINE_STATES = st.sampled_from(["intended", "accepted", "started", "working", "draining", "stopping", "destroying"])


@settings(max_examples=200)
@given(
    found=st.lists(st.tuples(MACHINE_STATES, st.floats(0, 5000), st.booleans()), max_size=12),
    jobs=st.integers(0, 500),
    audio=st.floats(0, 100_000),
    speed=st.none() | st.floats(0.1, 100),
    spent=st.floats(0, 40),
)
def test_no_snapshot_leads_beyond_a_limit(
    found: list[tuple[str, float, bool]], jobs: int, audio: float, speed: float | None, spent: float
) -> None:
    fleet = parse_pools(
        '[pools.p]\nprovider = "x"\nengine = "tones"\nmaximum = 6\nprice_per_hour = 2\nbudget_total = 30\n'
    )
    now = 1_000_000.0
    machines, workers = {}, []
    for number, (state, age, alive) in enumerate(found):
        name = f"l{number}"
        began = now - age
        machines[name] = MachineRow(
            name, "p", "x", "", state, 2, began, began, "", f"m{number}", f"w{number}", drained_at=began,
            ending_at=began, accepted_at=began, started_at=began, unsure=True, running_since=began,
        )  # type: ignore[arg-type] # fmt: skip
        heard = 0.0 if speed is None else 100.0
        offers = [{"engine": "tones", "models": None}]
        who = {"launch_id": name}
        state_of = "live" if alive else "gone"
        spoken = (offers, who, now, heard, heard / (speed or 1), 1)
        workers.append(PresentWorker(f"w{number}", state_of, False, 1, *spoken))  # type: ignore[arg-type]
    needs = [NeedRow("tones", "m", jobs, audio)] if jobs else []
    snapshot = Snapshot(now, fleet, machines, {}, needs, workers, {"x": now}, {"p": spent})
    decisions = decide(Books(snapshot, lambda: 0.5))
    created = [one for one in decisions if one.action == "create"]
    assert not created or len(found) + len(created) <= 6
    assert not created or len(created) <= jobs
    assert not created or spent < 30
    ended = [one.launch_id for one in decisions]
    assert len(set(ended)) == len(ended), "one decision for one machine"
    assert all(one.why for one in decisions)
    busy = {f"l{n}" for n, (state, _, alive) in enumerate(found) if alive and state in ("working", "draining")}
    assert not [one for one in decisions if one.action in ("stop", "destroy") and one.launch_id in busy], "never shot"
