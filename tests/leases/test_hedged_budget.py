"""What a job may cost that two workers are at: its budget, and no more than one charge beyond it for each hedge."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from support.always import check_charges
from support.hand_farm import Farm

from whisper_farm.leases.claim import Claimed
from whisper_farm.store.tables import attempts, jobs

Row = dict[str, Any]
BUDGET = 3


@pytest.fixture
def pair(farm: Farm) -> tuple[Claimed, Claimed]:
    """Attempts of `eve` and, as a hedge, of `fay` at a job that two others have failed: one charge is left of three."""
    farm.recording(2)
    for name in ("ann", "bob", "eve", "fay", "gus"):
        farm.worker(name)
    (first,) = farm.claim("ann")
    farm.now += 2
    farm.done(first)
    for name in ("ann", "bob"):
        farm.fail(farm.claim(name)[0], charged=True)
        farm.now += 10
    (slow,) = farm.claim("eve")
    farm.now += 15
    (hedge,) = farm.claim("fay")
    assert (hedge.job_id, hedge.hedge, slow.hedge) == (slow.job_id, True, False)
    return slow, hedge


def checked(farm: Farm, job: Claimed) -> tuple[str, int]:
    """State and charges of the job, after its attempts have been found in order."""
    row, tries = rows(farm, job)
    check_charges(row, tries, BUDGET)
    return row["state"], row["charged_attempts"]


def rows(farm: Farm, job: Claimed) -> tuple[Row, list[Row]]:
    query = select(attempts).where(attempts.c.job_id == job.job_id).order_by(attempts.c.number)
    found = farm.database.read(lambda tx: [dict(row) for row in tx.connection.execute(query).mappings()])
    mine = select(jobs).where(jobs.c.id == job.job_id)
    return farm.database.read(lambda tx: dict(tx.connection.execute(mine).mappings().one())), found


def test_the_second_of_two_may_go_on_when_the_first_has_spent_the_budget(farm: Farm, pair: tuple[Claimed, ...]) -> None:
    slow, hedge = pair
    farm.fail(slow, charged=True)
    assert checked(farm, slow) == ("running", BUDGET)
    farm.now += 1
    assert farm.done(hedge).error_code is None
    assert checked(farm, slow) == ("done", BUDGET)


def test_two_that_fail_cost_one_charge_beyond_the_budget(farm: Farm, pair: tuple[Claimed, ...]) -> None:
    slow, hedge = pair
    farm.fail(slow, charged=True)
    farm.now += 1
    farm.fail(hedge, charged=True)
    assert checked(farm, slow) == ("failed", BUDGET + 1)


def test_two_that_lapse_cost_one_charge_beyond_the_budget(farm: Farm, pair: tuple[Claimed, ...]) -> None:
    farm.now += 100
    farm.worker("gus")
    assert farm.claim("gus") == []
    assert checked(farm, pair[0]) == ("failed", BUDGET + 1)


def test_one_handed_back_after_the_budget_was_spent_is_tried_once_more(farm: Farm, pair: tuple[Claimed, ...]) -> None:
    slow, hedge = pair
    farm.fail(slow, charged=True)
    farm.now += 1
    farm.release("fay", hedge)
    assert checked(farm, slow) == ("queued", BUDGET)
    (again,) = farm.claim("gus")
    assert checked(farm, slow) == ("running", BUDGET)
    farm.fail(again, charged=True)
    assert checked(farm, slow) == ("failed", BUDGET + 1)


def test_one_handed_back_before_the_budget_was_spent_saves_nothing(farm: Farm, pair: tuple[Claimed, ...]) -> None:
    slow, hedge = pair
    farm.release("fay", hedge)
    farm.now += 1
    farm.fail(slow, charged=True)
    assert checked(farm, slow) == ("failed", BUDGET)


def test_the_check_tells_a_job_that_was_tried_too_often(farm: Farm, pair: tuple[Claimed, ...]) -> None:
    """It is shown rows that no farm must have."""
    slow, hedge = pair
    farm.fail(slow, charged=True)
    farm.now += 1
    farm.fail(hedge, charged=True)
    job, tries = rows(farm, slow)
    with pytest.raises(AssertionError, match="should be set aside"):
        check_charges(job | {"state": "queued"}, tries, BUDGET)
    again = tries[-1] | {"number": 5, "hedge": False, "state": "released", "charged": False}
    with pytest.raises(AssertionError, match="tried too often"):
        check_charges(job, [*tries, again], BUDGET)
    with pytest.raises(AssertionError, match="should be set aside"):
        check_charges(job | {"state": "queued", "charged_attempts": BUDGET}, [*tries[:2], tries[2]], BUDGET)
    released = tries[2] | {"state": "released", "charged": False, "ended_at": tries[3]["ended_at"] - 1}
    with pytest.raises(AssertionError, match="should be set aside"):
        check_charges(job | {"state": "queued", "charged_attempts": BUDGET}, [*tries[:2], released, tries[3]], BUDGET)
