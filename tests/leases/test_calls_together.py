"""Results of several attempts at one job in one call: as if one had come after the other."""

from __future__ import annotations

from support.hand_farm import Farm

from whisper_farm.leases.claim import Claimed


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
