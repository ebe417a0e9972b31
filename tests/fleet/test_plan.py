"""A plan says what the loop would do: machines, cost, and when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_farm.cli.main import outcome
from whisper_farm.fleet.plan import Backlog, make_plan, plan_for_budget, plan_for_deadline
from whisper_farm.fleet.pools import Fleet, parse_pools

POOLS = """
[pools.cheap]
engine = "tones"
maximum = 4
price_per_hour = 1
idle_seconds = 30

[pools.dear]
provider = "fly"
engine = "tones"
maximum = 20
price_per_hour = 4
idle_seconds = 30

[fleet]
target_drain_seconds = 3600
coming_most = 20
"""


@pytest.fixture
def fleet() -> Fleet:
    return parse_pools(POOLS)


def backlog(hours: float) -> Backlog:
    return Backlog("tones", "x", hours * 3600, speed=10, boot_seconds=60, begins_at=1_000_000)


def test_a_small_backlog_takes_one_cheap_machine(fleet: Fleet) -> None:
    plan = make_plan(fleet, backlog(5))
    assert [(one.pool, one.most) for one in plan.pools] == [("cheap", 1), ("dear", 0)]
    assert plan.seconds == pytest.approx(1800 + 60, rel=0.05)
    assert plan.cost == pytest.approx(1860 / 3600, rel=0.1)


def test_what_the_first_pool_cannot_take_goes_to_the_next(fleet: Fleet) -> None:
    plan = make_plan(fleet, backlog(100))
    assert [(one.pool, one.most) for one in plan.pools] == [("cheap", 4), ("dear", 6)]
    assert plan.seconds == pytest.approx(3600, rel=0.1)


def test_a_deadline_takes_as_many_machines_as_it_needs(fleet: Fleet) -> None:
    slow, fast = (plan_for_deadline(fleet, backlog(100), hours * 3600) for hours in (4, 1))
    assert slow.seconds is not None
    assert slow.seconds <= 4 * 3600
    assert fast.seconds is not None
    assert fast.seconds <= 3600
    assert fast.cost > slow.cost


def test_a_deadline_that_cannot_be_kept_gives_the_best_there_is(fleet: Fleet) -> None:
    plan = plan_for_deadline(fleet, backlog(1000), 3600)
    assert plan.seconds is not None
    assert plan.seconds > 3600
    assert sum(one.most for one in plan.pools) == 24


def test_a_budget_is_never_passed(fleet: Fleet) -> None:
    plan = plan_for_budget(fleet, backlog(100), 12)
    assert plan.cost <= 12


def test_the_command_prints_the_plan(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "farm.toml"
    file.write_text(POOLS)
    assert outcome(["plan", "--pools", str(file), "--audio", "100h", "--deadline", "1h"]) == 0
    printed = capsys.readouterr().out
    assert "cheap" in printed
    assert "It is done in" in printed
    assert outcome(["plan", "--pools", str(file), "--audio", "10000h", "--deadline", "1h"]) == 0
    assert "The pools cannot do it in 1 h" in capsys.readouterr().out
    assert outcome(["plan", "--pools", str(file), "--audio", "soon"]) == 2
