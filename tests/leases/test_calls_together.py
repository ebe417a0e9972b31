"""Calls of several workers in one transaction: as if one had come after the other."""

from __future__ import annotations

from collections.abc import Sequence

from support.hand_farm import TONES, Farm

from whisper_farm.leases.claim import Claimed, Claiming
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.store.database import Transaction


def together(farm: Farm, tx: Transaction, requests: Sequence[ClaimRequest]) -> list[list[Claimed]]:
    claiming = Claiming(tx, requests, farm.policy, farm.mint)
    answers = [claiming.claim(request) for request in requests]
    claiming.write()
    return answers


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


def test_what_a_worker_with_failures_has_taken_does_not_hide_the_rest_from_the_next(farm: Farm) -> None:
    small, large = (TONES.model_copy(update={"model": name}) for name in ("small", "large"))
    for name in ("ann", "cid"):
        farm.worker(name)
    failed = farm.recording(1, "failed.mp3", options=small)
    (job,) = farm.claim("cid")
    farm.fail(job, charged=False)
    other = farm.recording(1, "other.mp3", options=large, priority=1)
    requests = [farm.request("cid"), farm.request("ann")]
    cid, ann = farm.write(lambda tx: together(farm, tx, requests))
    assert [job.transcription_id for job in (*cid, *ann)] == [other.id, failed.id]


def test_a_job_is_left_to_a_worker_that_has_just_been_heard_of_in_the_same_group(farm: Farm) -> None:
    """`Claiming` promises that each claim is as if those before it were written."""
    farm.recording(1)
    for name in ("ann", "dot"):
        farm.worker(name)
    farm.fail(farm.claim("ann")[0])
    farm.now += 30  # longer than a lease: dot is not counted on, until it is heard of again
    requests = [farm.request("dot", transcribe=0, chunk=1), farm.request("ann")]
    assert farm.write(lambda tx: together(farm, tx, requests)) == [[], []]
