"""The fault table: what goes wrong with machines, one test a row; see docs/FLEET.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.fleet_world import Faults, Machine, PlayedProvider, World

from whisper_farm.fleet.providers.provider import CallFailed, Fault, Seen
from whisper_farm.store.machines import PoolRow

Make = Callable[..., World]


def run(world: World, steps: int, seconds: float = 10) -> None:
    for _ in range(steps):
        world.step(seconds)


def settle(world: World) -> None:
    """The faults end; all work is done; everything goes away and is in the books."""
    world.faults, world.refusal = Faults(), None
    run(world, 400)
    assert world.backlog == 0
    assert {row.state for row in world.rows.values()} <= {"gone"}
    assert not world.live
    assert world.booked() == pytest.approx(world.billed(), abs=0.01)


def test_a_region_without_room_sends_the_launch_to_the_next_one(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    world.submit(20)
    world.refusal = CallFailed.of("capacity", "could not find a candidate host")
    world.step(1)
    world.refusal = None
    world.step(1)
    (machine,) = world.machines.values()
    assert machine.region == "b"
    assert world.calls["create"] == 2
    settle(world)


def test_regions_are_asked_in_turn_however_long_a_round_takes_and_the_first_one_again_in_the_end(
    make_world: Make,
) -> None:
    regions = 'regions = ["a", "b", "c"]\n'
    world = make_world(f'[pools.q]\nprovider = "played"\nengine = "tones"\n{regions}', "retry_seconds = 1\n")
    world.pools["p"] = PoolRow("p", switch="paused")
    world.full = {"a", "b"}
    world.submit(20)
    run(world, 3, seconds=30)
    assert [one.region for one in world.machines.values()] == ["c"]
    assert world.calls["create"] == 3, "each region was asked once"
    settle(world)
    world.full = set()
    run(world, 60)
    world.submit(20)
    world.step(1)
    assert [one.region for one in world.machines.values()] == ["c", "a"]
    settle(world)


def test_with_every_region_full_the_pauses_grow(make_world: Make) -> None:
    world = make_world()
    world.submit(20)
    world.refusal = CallFailed.of("capacity", "could not find a candidate host")
    run(world, 360)
    assert world.calls["create"] < 60, "an hour of refusals"
    settle(world)


def test_a_create_that_always_fails_is_bounded_in_each_round(make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    world.refusal = CallFailed.of("transient", "503")
    world.step(1)
    assert world.calls["create"] <= 5
    run(world, 360)
    assert world.calls["create"] < 100
    assert not world.machines
    settle(world)


@pytest.mark.parametrize("fault", ["quota", "auth", "configuration"])
def test_what_only_a_person_can_mend_stops_the_pool_and_is_said_in_words(fault: Fault, make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    world.refusal = CallFailed.of(fault, "Your organization has reached its machine limit.")
    world.step(1)
    first = world.calls["create"]
    run(world, 30)
    assert world.calls["create"] == first
    assert "Your organization has reached its machine limit." in world.pools["p"].why
    assert {row.state for row in world.rows.values()} == {"gone"}, "refused intents count no more"
    world.refusal = None
    run(world, 60)
    assert world.machines, "the breaker opens again"
    settle(world)


def test_a_lost_answer_makes_no_second_machine(make_world: Make) -> None:
    world = make_world(faults=Faults(lose_answer=1, unlisted_seconds=20))
    world.submit(20_000)
    run(world, 20)
    assert len(world.machines) == 4
    assert len({one.launch_id for one in world.machines.values()}) == 4
    settle(world)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_coordinators_that_die_at_any_step_of_a_launch_leave_one_machine_for_each_intent(
    share: float, make_world: Make
) -> None:
    world = make_world(faults=Faults(killed=share), seed=round(share * 100))
    world.submit(20_000)
    run(world, 120)
    assert world.killed
    launches = [one.launch_id for one in world.machines.values()]
    assert len(set(launches)) == len(launches)
    assert world.running("p") <= 4
    settle(world)


def test_a_machine_that_is_stuck_before_it_runs_is_destroyed_before_it_is_replaced(make_world: Make) -> None:
    world = make_world(faults=Faults(stuck=1))
    world.submit(20)
    run(world, 9)
    world.faults = Faults()
    assert len(world.machines) == 1
    for _ in range(10):
        world.step(10)
        assert world.running("p") <= 1
    assert any("did not run" in one.why for one in world.decisions)
    settle(world)


def test_a_machine_whose_worker_never_registers_is_destroyed_and_counts_as_a_crash(make_world: Make) -> None:
    world = make_world(faults=Faults(never_registers=1))
    world.submit(20_000)
    run(world, 60)
    assert any("had no worker" in one.why for one in world.decisions)
    assert "machines in a row ended before they worked" in world.pools["p"].why
    settle(world)


def test_a_bad_image_stops_the_pool_after_a_few_machines(make_world: Make) -> None:
    world = make_world(faults=Faults(crash=1))
    world.submit(20_000)
    run(world, 50)
    assert "is the image right?" in world.pools["p"].why
    assert len(world.machines) <= 8
    settle(world)


def test_machines_that_are_taken_away_are_no_crashes(make_world: Make) -> None:
    world = make_world(faults=Faults(die_per_hour=60))
    world.submit(20_000)
    run(world, 100)
    assert world.pools["p"].crashes == 0
    settle(world)


def test_a_third_of_the_machines_lost_at_once_are_replaced(make_world: Make) -> None:
    world = make_world()
    world.submit(50_000)
    run(world, 12)
    for machine in list(world.live.values())[:2]:
        machine.exit = "lost"
        world.end(machine, world.now)
    run(world, 20)
    assert world.running("p") == 4
    assert len(world.machines) == 6
    settle(world)


def test_a_provider_that_is_down_for_ten_minutes_is_waited_for(make_world: Make) -> None:
    world = make_world()
    world.submit(50_000)
    run(world, 12)
    world.down_until = world.now + 600
    run(world, 40)
    assert len(world.machines) == 4
    assert sum(row.state == "working" for row in world.rows.values()) == 4
    settle(world)


def test_a_destroy_that_is_refused_is_repeated_and_the_machine_goes_on_counting(make_world: Make) -> None:
    world = make_world(faults=Faults(stuck=1, destroy_fails=1))
    world.submit(20_000)
    run(world, 60)
    assert world.running("p") == 4
    assert len(world.machines) == 4
    assert world.calls["destroy"] < 60, "one call in flight for each machine, with pauses that grow"
    settle(world)


def test_a_machine_nobody_asked_for_is_destroyed_after_a_second_look(make_world: Make) -> None:
    world = make_world()
    pool = world.fleet.pools["p"]
    stray = Machine("stray", "p-unknown", pool, "a", world.now, world.now, float("inf"), started_at=world.now)
    world.machines["stray"] = world.live["stray"] = stray
    world.step(1)
    assert stray.ended_at is None
    world.step(1)
    assert stray.ended_at is not None
    settle(world)


def test_a_machine_nobody_asked_for_whose_worker_lives_is_taken_in(make_world: Make) -> None:
    world = make_world()
    world.submit(20_000)
    run(world, 12)
    world.rows.clear()  # the books were lost, an old copy is back
    run(world, 6)
    assert world.running("p") == 4
    assert not [one for one in world.decisions if one.action == "destroy"]
    settle(world)


def test_a_machine_that_wakes_after_it_was_given_up_counts_and_is_ended(make_world: Make) -> None:
    world = make_world()
    world.submit(20)
    run(world, 3)
    (row,) = world.rows.values()
    world.rows[row.launch_id] = replace(row, state="gone", ended_at=world.now, running_since=None, worker_id=None)
    run(world, 10)
    assert next(one for one in world.machines.values() if one.launch_id == row.launch_id).ended_at is not None
    settle(world)


def test_a_pool_is_paused_while_a_create_is_in_flight_and_nothing_is_left(make_world: Make) -> None:
    world = make_world(faults=Faults(lose_answer=1, unlisted_seconds=30))
    world.submit(20_000)
    world.step(1)
    world.pools["p"] = replace(world.pools["p"], switch="drained")
    run(world, 40)
    assert not world.live
    world.pools["p"] = replace(world.pools["p"], switch="on")
    settle(world)


def test_a_drain_that_never_ends_hands_the_work_back_and_holds_up_nobody(make_world: Make) -> None:
    world = make_world('[pools.q]\nprovider = "played"\nengine = "tones"\nmaximum = 1\n', "drain_seconds = 100\n")
    world.submit(50_000)
    run(world, 12)
    world.pools["p"] = replace(world.pools["p"], switch="drained")
    world.step(1)
    for worker in world.present.values():
        if worker.machine.pool.name == "p":
            worker.told_at = float("inf")  # it drains and drains
    run(world, 30)
    assert world.running("p") == 0
    assert world.running("q") == 1
    world.pools["p"] = replace(world.pools["p"], switch="on")
    settle(world)


def test_an_end_that_its_provider_is_not_sure_of_is_none_while_the_worker_lives(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    world.submit(50_000)
    run(world, 12)
    victim = next(iter(world.live.values()))
    honest = PlayedProvider._seen

    def lying(self: PlayedProvider, one: Machine) -> Seen:
        seen = honest(self, one)
        return replace(seen, state="gone", ended_at=None, exit="lost", sure=False) if one is victim else seen

    monkeypatch.setattr(PlayedProvider, "_seen", lying)
    world.step(10)
    row = next(row for row in world.rows.values() if row.machine_id == victim.id)
    assert row.state == "draining"
    assert world.running("p") == 4
    run(world, 6)
    assert victim.ended_at is not None, "its worker was told to leave"
    settle(world)


def test_a_machine_whose_host_is_away_counts_until_it_is_back_and_ended(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    world.submit(50_000)
    run(world, 12)
    victim = next(iter(world.live.values()))
    (worker,) = [one for one in world.present.values() if one.machine is victim]
    del world.present[worker.id]  # nothing is heard of it any more
    honest, ends = PlayedProvider._seen, PlayedProvider.destroy

    def away(self: PlayedProvider, one: Machine) -> Seen:
        return replace(honest(self, one), state="unreachable") if one is victim else honest(self, one)

    async def refused(self: PlayedProvider, machine_id: str) -> None:
        if machine_id == victim.id:
            raise CallFailed.of("transient", "deadline_exceeded: host is unreachable")
        await ends(self, machine_id)

    monkeypatch.setattr(PlayedProvider, "_seen", away)
    monkeypatch.setattr(PlayedProvider, "destroy", refused)
    worker.state = "gone"  # its leases have lapsed
    run(world, 60)
    row = next(row for row in world.rows.values() if row.machine_id == victim.id)
    assert row.state == "destroying"
    assert world.running("p") == 4, "nothing is started in its place while it may come back"
    assert [one.action for one in world.decisions if one.launch_id == row.launch_id].count("destroy") < 20
    monkeypatch.undo()
    world.present[worker.id], worker.state = worker, "live"  # the host is back, and its worker with it
    run(world, 40)
    assert victim.ended_at is not None
    settle(world)


def test_a_budget_that_is_spent_in_the_middle_of_a_job_drains_and_loses_nothing(make_world: Make) -> None:
    world = make_world("budget_total = 1.5\n", "budget_reserve_seconds = 600\n")
    world.submit(200_000)
    run(world, 600)
    pool = world.fleet.pools["p"]
    assert not world.live, "all were drained"
    assert world.spent_today(pool) <= 1.5
    drained = [one for one in world.decisions if one.action == "drain" and "budget" in one.why]
    assert drained
    assert not [one for one in world.decisions if one.action in ("destroy", "stop")], "a busy worker is never shot"
    assert world.done + world.backlog == pytest.approx(world.submitted), "no second was lost"
    assert world.booked() == pytest.approx(world.billed(), abs=0.01)
