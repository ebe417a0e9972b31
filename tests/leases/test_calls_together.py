"""Several results, or several claims, in one transaction: as if one had come after the other."""

from __future__ import annotations

import pytest
from support.hand_farm import Farm

from whisper_farm.leases import waiting
from whisper_farm.leases.claim import Claimed, claim_all
from whisper_farm.leases.workers import drain
from whisper_farm.protocol.worker import ClaimRequest


def hedged(farm: Farm, failed_before: int = 0) -> tuple[Claimed, Claimed]:
    """Two attempts at one job, of `eve` or `fay`, and as a hedge of `gus`; it was failed before, uncharged."""
    farm.recording(2)
    for name in ("eve", "fay"):
        farm.worker(name)
    (first,) = farm.claim("eve")
    farm.now += 2
    farm.done(first)
    for name in ("eve", "fay")[:failed_before]:
        farm.fail(farm.claim(name)[0], charged=False)
        farm.now += 10
    (slow,) = farm.claim("eve")
    farm.worker("gus")
    farm.now += 15
    (hedge,) = farm.claim("gus")
    assert (hedge.job_id, hedge.hedge) == (slow.job_id, True)
    return slow, hedge


def test_two_results_of_another_model_in_one_call_queue_their_job_once(farm: Farm) -> None:
    outcomes = farm.finish(*[farm.finished(one, revision="r2") for one in hedged(farm)])
    assert {one.error_code for one in outcomes} == {"model_mismatch"}
    assert [event["code"] for event in farm.events("job_retried")] == ["model_mismatch"]


def test_two_results_of_another_model_in_one_call_set_their_job_aside_once(farm: Farm) -> None:
    """The count is refused by the database, so the whole call fails, with the results of others that came with it."""
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    pair = hedged(farm, failed_before=2)
    farm.finish(*[farm.finished(one, revision="r2") for one in pair])
    assert farm.job(pair[0].job_id).state == "failed"
    assert farm.find(pair[0].transcription_id).chunks_failed == 1


def together(farm: Farm, *requests: ClaimRequest) -> list[list[int] | None]:
    """The positions that each request gets; None for a worker that is not known."""
    answers = farm.write(lambda tx: claim_all(tx, requests, farm.policy, farm.mint))
    return [None if answer is None else [one.position for one in answer[1]] for answer in answers]


def test_claims_that_come_together_share_the_queue_in_its_order(farm: Farm) -> None:
    farm.recording(7)
    for name in ("ann", "bob", "eve"):
        farm.worker(name)
    asked = [farm.request(name, count) for name, count in (("ann", 2), ("bob", 3), ("nobody", 1), ("eve", 4))]
    assert together(farm, *asked) == [[0, 1], [2, 3, 4], None, [5, 6]]


def test_a_claim_that_comes_twice_at_once_gets_the_same_and_another_of_the_worker_its_own(farm: Farm) -> None:
    farm.recording(4)
    farm.worker("ann")
    twice, other = farm.request("ann", request="twice"), farm.request("ann", request="other")
    assert together(farm, twice, other, twice) == [[0], [1], [0]]
    assert together(farm, farm.request("ann", request="new"), twice) == [[2], [0]]


def test_who_leaves_a_job_to_others_leaves_it_to_one_who_asks_at_the_same_time(farm: Farm) -> None:
    farm.recording(2)
    for name in ("ann", "bob"):
        farm.worker(name)
    farm.fail(farm.claim("ann")[0], charged=False)
    assert together(farm, farm.request("ann", 2), farm.request("bob", 2)) == [[1], [0]]


def test_a_worker_that_drains_gets_nothing_while_others_in_the_same_call_do(farm: Farm) -> None:
    farm.recording(2)
    for name in ("ann", "bob"):
        farm.worker(name)
    farm.write(lambda tx: drain(tx, "ann"))
    assert together(farm, farm.request("ann"), farm.request("bob")) == [[], [0]]


def test_claims_that_ask_for_more_than_is_read_at_once_get_all_there_is(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_AT_ONCE", 2)
    farm.recording(9)
    for name in ("ann", "bob", "eve"):
        farm.worker(name)
    asked = [farm.request(name, count) for name, count in (("ann", 3), ("bob", 1), ("eve", 6))]
    assert together(farm, *asked) == [[0, 1, 2], [3], [4, 5, 6, 7, 8]]
