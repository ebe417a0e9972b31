"""Who gets what, when, and how often: fairness, priority, back-off, poison, hedges."""

from __future__ import annotations

import pytest
from support.hand_farm import TONES, Farm, claim

from whisper_farm.leases.rules import RANDOM, TRIES_PER_ATTEMPT, backoff_seconds, moved_pace, profile_id, stretched
from whisper_farm.leases.workers import drain
from whisper_farm.settings import Policy
from whisper_farm.transcript.options import RecognitionOptions


def test_a_short_recording_behind_a_long_one_starts_with_the_next_claim(farm: Farm) -> None:
    long = farm.recording(10_000, "long.mp3")
    farm.worker("ann")
    for job in farm.claim("ann", transcribe=8):
        farm.done(job)
    short = farm.recording(3, "short.mp3")
    claims = farm.claim("ann", transcribe=6)
    assert [one.transcription_id for one in claims].count(short.id) == 3
    assert [one.position for one in claims if one.transcription_id == short.id] == [0, 1, 2]
    assert {one.transcription_id for one in farm.claim("ann", transcribe=4)} == {long.id}


def _chunks_before(farm: Farm, worker: str, recording: str) -> int:
    """How many chunks the worker is given before the first of that recording."""
    for number in range(1000):
        (job,) = farm.claim(worker)
        farm.done(job)
        if job.transcription_id == recording:
            return number
    raise AssertionError("its turn never came")


def test_a_busy_model_does_not_push_back_newcomers_of_a_slow_one(farm: Farm) -> None:
    farm.recording(500, "long.mp3", options=_of("large"))
    farm.recording(500, "busy.mp3", options=_of("tiny"))
    farm.worker("slow", models=["large"])
    farm.worker("quick", models=["tiny"])
    farm.done(farm.claim("slow")[0])
    while claims := farm.claim("quick", transcribe=256):
        farm.finish(*[farm.finished(job) for job in claims])
    assert _chunks_before(farm, "slow", farm.recording(3, "short.mp3", options=_of("large")).id) <= 2


def test_urgent_recordings_do_not_push_back_newcomers_of_a_lower_priority(farm: Farm) -> None:
    farm.recording(300, "long.mp3")
    farm.worker("ann")
    farm.done(farm.claim("ann")[0])
    farm.recording(200, "urgent.mp3", priority=5)
    while claims := [job for job in farm.claim("ann", transcribe=100) if job.source_name == "urgent.mp3"]:
        farm.finish(*[farm.finished(job) for job in claims])
    farm.release("ann", leaving=True)
    farm.worker("bob")
    assert _chunks_before(farm, "bob", farm.recording(3, "short.mp3").id) <= 2


def test_a_recording_that_is_tried_again_does_not_jump_the_queue(farm: Farm) -> None:
    big = farm.recording(200, "big.mp3")
    farm.worker("ann")
    farm.done(farm.claim("ann")[0])
    farm.cancel(big.id)
    other = farm.recording(200, "other.mp3")
    farm.finish(*[farm.finished(job) for job in farm.claim("ann", transcribe=190)])
    farm.retry(big.id)
    assert {job.transcription_id for job in farm.claim("ann", transcribe=4)} == {big.id, other.id}
    assert _chunks_before(farm, "ann", farm.recording(3, "short.mp3").id) <= 3


def _of(model: str) -> RecognitionOptions:
    return TONES.model_copy(update={"model": model})


def test_a_worker_with_a_label_waits_for_nobody_without_it_to_mend_its_failure(farm: Farm) -> None:
    farm.recording(1, "mine.mp3", label="mine")
    farm.recording(1, "theirs.mp3")
    farm.worker("ann", label="mine")
    farm.worker("bob")
    (failed,) = farm.claim("ann")
    farm.fail(failed)
    farm.now += 10
    assert [job.source_name for job in farm.claim("bob")] == ["theirs.mp3"]
    assert [job.job_id for job in farm.claim("ann")] == [failed.job_id]


def test_workers_without_the_model_cannot_end_a_job_that_a_busy_one_could_do(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("good")
    (busy,) = farm.claim("good")
    for number in range(20):
        farm.now += 200
        farm.worker("good")
        farm.beat("good", busy.token)
        name = farm.worker(f"broken {number}".replace(" ", "-"))
        for job in farm.claim(name):
            farm.fail(job, code="model_unavailable", charged=False)
    assert farm.states() == {"running": 1, "queued": 1} | {"done": 1}, "only the cutting is done"
    farm.done(busy)
    farm.now += 200
    farm.worker("good")
    farm.done(farm.claim("good")[0])
    assert farm.find(recording.id).state == "assembling"


def test_recordings_take_turns(farm: Farm) -> None:
    made = [farm.recording(4, f"{number}.mp3").id for number in range(3)]
    farm.worker("ann")
    order = [farm.claim("ann")[0].transcription_id for _ in range(12)]
    assert all(set(order[turn : turn + 3]) == set(made) for turn in range(0, 12, 3))


def test_a_newcomer_and_one_whose_cutting_was_slow_get_their_share_and_no_more(farm: Farm) -> None:
    slow = farm.submit("slow.mp3")
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    old = farm.recording(40, "old.mp3")
    farm.claim("ann", transcribe=20)
    new = farm.recording(10, "new.mp3")
    farm.append(cutting, 10)
    order = [farm.claim("ann")[0].transcription_id for _ in range(12)]
    assert all(3 <= order.count(one.id) <= 5 for one in (slow, old, new))


def test_recordings_are_cut_in_order_of_submission(farm: Farm) -> None:
    made = []
    for number in range(4):
        farm.now += 1
        made.append(farm.submit(f"{number}.mp3").id)
    farm.worker("ann")
    assert [farm.claim("ann", chunk=1, transcribe=0)[0].transcription_id for _ in made] == made


def test_priority_comes_before_fairness(farm: Farm) -> None:
    farm.recording(3, "usual.mp3")
    urgent = farm.recording(3, "urgent.mp3", priority=5)
    farm.worker("ann")
    assert {one.transcription_id for one in farm.claim("ann", transcribe=3)} == {urgent.id}


def test_a_batch_is_of_one_profile_and_mixes_recordings_that_share_it(farm: Farm) -> None:
    german = farm.recording(2, "de.mp3", options=TONES.model_copy(update={"language": "de"}))
    english = farm.recording(2, "en.mp3", options=TONES.model_copy(update={"language": "en"}))
    farm.recording(2, "beams.mp3", options=TONES.model_copy(update={"beam_size": 1}))
    farm.worker("ann")
    batches = sorted((farm.claim("ann", transcribe=6), farm.claim("ann", transcribe=6)), key=len)
    assert [len(batch) for batch in batches] == [2, 4]
    assert {one.transcription_id for one in batches[1]} == {german.id, english.id}
    assert {one.options.language for one in batches[1]} == {"de", "en"}


def test_a_model_in_memory_is_preferred_but_not_for_ever(farm: Farm) -> None:
    def of(model: str) -> str:
        return farm.recording(100, f"{model}.mp3", options=TONES.model_copy(update={"model": model})).id

    small, large = of("small"), of("large")
    farm.worker("ann", loaded=["large"])
    farm.worker("bob", loaded=["small"])
    assert {farm.claim("ann")[0].transcription_id for _ in range(20)} == {large}
    assert {farm.claim("bob")[0].transcription_id for _ in range(20)} == {small}
    farm.release("bob", leaving=True)
    order = [farm.claim("ann")[0].transcription_id for _ in range(70)]
    assert 40 < order.index(small) < 48, "what nobody has loaded waits, but not until the end"


def test_a_worker_gets_only_what_it_offers(farm: Farm) -> None:
    farm.recording(1, options=TONES.model_copy(update={"model": "large"}))
    farm.recording(1, options=TONES.model_copy(update={"engine": "another"}))
    farm.worker("ann", models=["small"])
    assert farm.claim("ann") == []
    farm.worker("bob", models=["small", "large"])
    assert farm.claim("bob")[0].options.model == "large"
    assert farm.claim("bob") == []


def test_a_failed_job_waits_longer_each_time_and_is_then_set_aside(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("ann")
    job, other = farm.claim("ann", transcribe=2)
    for seconds in (0.75, 1.5):
        assert farm.fail(job).error_code is None
        row = farm.job(job.job_id)
        assert (row.state, row.available_at) == ("queued", farm.now + seconds)
        farm.now += seconds - 0.01
        assert farm.claim("ann") == []
        farm.now += 0.02
        (job,) = farm.claim("ann")
    farm.fail(job)
    row = farm.job(job.job_id)
    assert (row.state, row.charged_attempts, row.error_code) == ("failed", 3, "engine_error")
    (said,) = farm.events("job_set_aside")
    assert (said["position"], said["start"], said["end"], said["code"]) == (0, 0.0, 30.0, "engine_error")
    farm.done(other)
    row = farm.find(recording.id)
    assert (row.state, row.chunks_done, row.chunks_failed) == ("assembling", 1, 1)


def test_the_worker_that_failed_a_job_last_leaves_it_to_others(farm: Farm) -> None:
    farm.recording(1)
    for name in ("ann", "bob"):
        farm.worker(name)
    (job,) = farm.claim("ann")
    farm.fail(job)
    farm.now += 2
    assert farm.claim("ann") == [], "bob has not tried it yet"
    (job,) = farm.claim("bob")
    farm.write(lambda tx: drain(tx, "ann"))
    farm.fail(job)
    farm.now += 2
    assert len(farm.claim("bob")) == 1, "nobody else is there to take it"


def test_a_worker_gets_what_others_failed_and_not_what_it_failed_itself(farm: Farm) -> None:
    farm.recording(4)
    farm.worker("ann")
    farm.worker("bob")
    mine, others = farm.claim("ann", transcribe=2), farm.claim("bob", transcribe=2)
    for job in (*mine, *others):
        farm.fail(job)
    farm.now += 2
    assert [job.position for job in farm.claim("ann", transcribe=4)] == [job.position for job in others]
    assert [job.position for job in farm.claim("bob", transcribe=4)] == [job.position for job in mine]


def test_it_goes_to_the_same_worker_when_no_other_is_there(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    farm.worker("bob")
    farm.now += 30
    farm.beat("ann")
    (job,) = farm.claim("ann")
    farm.fail(job)
    farm.now += 1
    assert len(farm.claim("ann")) == 1, "bob has not been heard of for more than a lease"


def test_a_job_is_set_aside_only_after_two_workers_where_there_are_two(farm: Farm) -> None:
    farm.policy = farm.policy.model_copy(update={"max_attempts": 1})
    farm.recording(2)
    farm.worker("ann")
    job, alone = farm.claim("ann", transcribe=2)
    farm.worker("bob")
    farm.fail(job)
    assert farm.job(job.job_id).state == "queued"
    farm.now += 1
    (again,) = farm.claim("bob")
    farm.fail(again)
    assert farm.job(job.job_id).state == "failed"
    farm.release("bob", leaving=True)
    farm.fail(alone)
    assert farm.job(alone.job_id).state == "failed", "with one worker, one is enough"


def test_poison_that_kills_workers_stops_and_keeps_its_evidence(farm: Farm) -> None:
    recording = farm.recording(2)
    victims = []
    for number in range(3):
        worker = farm.worker(f"victim{number}")
        (job,) = farm.claim(worker)
        assert job.position == 0
        assert job.alone == (number > 0)
        victims.append(job.token)
        farm.now += 21
    farm.worker("last")
    (job,) = farm.claim("last")
    assert job.position == 1, "the poison is set aside instead of handed out"
    assert [farm.attempt(token).state for token in victims] == ["lost"] * 3
    assert all(farm.attempt(token).charged for token in victims)
    assert farm.job(f"{recording.id}.0").state == "failed"
    farm.done(job)
    assert farm.find(recording.id).state == "assembling"


def test_a_permanent_failure_of_the_only_worker_is_not_tried_again(farm: Farm) -> None:
    recording = farm.submit("notes.txt")
    farm.worker("ann")
    (job,) = farm.claim("ann", chunk=1)
    farm.fail(job, code="not_audio", permanent=True)
    assert farm.find(recording.id).state == "failed"


def test_permanent_failures_are_tried_on_a_second_worker_and_no_further(farm: Farm) -> None:
    recording = farm.submit("notes.txt")
    for name in ("ann", "bob", "cid"):
        farm.worker(name)
    (job,) = farm.claim("ann", chunk=1)
    farm.fail(job, code="not_audio", permanent=True)
    assert farm.find(recording.id).state == "running"
    farm.now += 1
    (job,) = farm.claim("bob", chunk=1)
    farm.fail(job, code="not_audio", permanent=True)
    row = farm.find(recording.id)
    assert (row.state, row.error_code, row.error_message) == ("failed", "not_audio", "It broke.")


def test_an_uncharged_failure_costs_nothing_and_moves_on_at_once(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    farm.worker("bob")
    (job,) = farm.claim("ann")
    farm.fail(job, charged=False)
    row = farm.job(job.job_id)
    assert (row.charged_attempts, row.available_at) == (0, farm.now)
    assert farm.claim("ann") == []
    assert len(farm.claim("bob")) == 1


def test_a_worker_alone_with_what_it_cannot_do_is_slowed_down_and_then_stopped(farm: Farm) -> None:
    recording = farm.recording(1)
    farm.worker("ann")
    for failures in range(1, 13):
        (job,) = farm.claim("ann")
        farm.fail(job, code="model_unavailable", charged=False)
        if failures < 12:
            wait = farm.job(job.job_id).available_at - farm.now
            assert wait == pytest.approx(0.75 * 2 ** (failures - 1) if failures < 8 else 90)
            farm.now += wait + 0.1
            farm.beat("ann")
    assert farm.find(recording.id).error_code == "model_unavailable"


def test_what_ends_without_a_charge_is_set_aside_in_the_end_though_every_worker_is_a_new_one(farm: Farm) -> None:
    """A model's name that makes workers leave, say: each is replaced, and nobody is to blame."""
    recording = farm.recording(1)
    tries = 0
    while farm.find(recording.id).state == "running":
        farm.now += 200
        name = farm.worker(f"new-{tries}")
        farm.worker(f"other-{tries}")
        (job,) = farm.claim(name)
        if tries % 2:
            farm.fail(job, code="model_unavailable", charged=False)
        else:
            farm.release(name, leaving=True)
        tries += 1
    assert tries == TRIES_PER_ATTEMPT * farm.policy.max_attempts
    assert farm.find(recording.id).state == "failed"


def test_what_is_handed_back_again_and_again_is_set_aside_in_the_end(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("good")
    (other,) = farm.claim("good")
    farm.done(other)
    for tries in range(TRIES_PER_ATTEMPT * farm.policy.max_attempts):
        assert farm.find(recording.id).state == "running", tries
        farm.worker(name := f"leaving-{tries}")
        farm.claim(name)
        farm.release(name, leaving=True)
    row = farm.find(recording.id)
    assert (row.state, row.chunks_done, row.chunks_failed) == ("assembling", 1, 1)


def test_a_crash_makes_the_next_attempt_run_alone(farm: Farm) -> None:
    farm.recording(1)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.fail(job, code="recogniser_crashed")
    farm.now += 1
    assert farm.claim("ann")[0].alone


def test_a_slow_chunk_is_given_to_an_idle_worker_too_and_the_first_to_finish_wins(farm: Farm) -> None:
    recording = farm.recording(2)
    farm.worker("slow")
    farm.worker("fast")
    (quick,) = farm.claim("fast")
    farm.now += 3
    farm.done(quick)  # 0.1 s a second: 30 s of audio should take 3 s, so 9 s are too many, and 10 s the least
    (job,) = farm.claim("slow")
    farm.now += 10
    assert farm.claim("fast") == []
    farm.now += 0.1
    assert farm.claim("slow") == [], "nobody hedges against itself"
    (hedge,) = farm.claim("fast")
    assert (hedge.job_id, hedge.hedge, hedge.attempt) == (job.job_id, True, 2)
    farm.worker("third")
    assert farm.claim("third") == [], "two attempts are enough"
    assert farm.done(hedge).error_code is None
    assert farm.find(recording.id).state == "assembling"
    assert farm.beat("slow", job.token).cancelled == (job.token,)
    assert farm.done(job).error_code == "lease_lost"
    assert len(farm.events("job_done")) == 2


def test_a_hedged_job_survives_the_failure_of_one_attempt(farm: Farm) -> None:
    recording, job, hedge = farm.hedged()
    farm.fail(job)
    row = farm.job(job.job_id)
    assert (row.state, row.charged_attempts) == ("running", 1)
    farm.release("fast", hedge)
    assert farm.job(job.job_id).state == "queued"
    assert farm.find(recording).state == "running"


def test_the_hedge_goes_on_when_the_first_attempt_is_handed_back(farm: Farm) -> None:
    recording, job, hedge = farm.hedged()
    farm.release("slow", job)
    assert farm.job(job.job_id).state == "running"
    assert farm.events("job_released") == []
    assert farm.done(hedge).error_code is None
    assert farm.find(recording).state == "assembling"


def test_both_attempts_of_a_hedged_job_lapse_before_it_is_taken(farm: Farm) -> None:
    _, job, hedge = farm.hedged()
    farm.now += 10
    farm.worker("third")
    assert farm.claim("third") == [], "the hedge still holds it"
    farm.now += 11
    (again,) = farm.claim("third")
    assert [farm.attempt(one.token).state for one in (job, hedge, again)] == ["lost", "lost", "live"]
    assert farm.job(job.job_id).charged_attempts == 2


def test_nothing_is_hedged_while_there_is_work_or_no_pace_is_known(farm: Farm) -> None:
    farm.recording(2)
    farm.worker("slow")
    farm.worker("fast")
    farm.claim("slow")
    farm.now += 15
    (job,) = farm.claim("fast")
    assert not job.hedge
    assert farm.claim("fast") == [], "nothing was ever finished, so nobody knows what is slow"


def test_back_off_doubles_to_a_limit_and_jitter_only_shortens_it() -> None:
    policy = Policy(retry_base_seconds=2, retry_max_seconds=60)
    assert [backoff_seconds(policy, n, 1.0) for n in (1, 2, 5, 6, 10_000)] == [2, 4, 32, 60, 60]
    assert backoff_seconds(policy, 2, 0.5) == 2


def test_jitter_is_never_the_same_and_takes_up_to_half_of_a_wait_away() -> None:
    seen = {RANDOM.jitter() for _ in range(1000)}
    assert min(seen) >= 0.5
    assert max(seen) < 1
    assert len(seen) > 900
    assert max(seen) - min(seen) > 0.4, "all of the range is used"


def test_leases_stretch_in_proportion_to_heartbeats() -> None:
    policy = Policy(lease_seconds=20, heartbeat_seconds=5, beats_per_second=100)
    assert stretched(policy, 0).lease_seconds == 20
    assert stretched(policy, 500).heartbeat_seconds == 5
    assert stretched(policy, 5000).heartbeat_seconds == 50
    assert stretched(policy, 5000).lease_seconds == 200


def test_pace_is_a_running_average() -> None:
    assert moved_pace(None, 2.0) == 2.0
    assert moved_pace(2.0, 3.0) == pytest.approx(2.1)


def test_a_profile_is_the_options_without_language_and_revision() -> None:
    same = TONES.model_copy(update={"language": "de", "revision": "r9"})
    assert profile_id(same) == profile_id(TONES)
    assert profile_id(TONES.model_copy(update={"initial_prompt": "Hello"})) != profile_id(TONES)


def test_owners_have_equal_shares_however_much_each_submits_and_however_urgent(farm: Farm) -> None:
    for number in range(20):
        farm.recording(30, f"{number}.mp3", owner="many", priority=5)
    farm.worker("ann")
    farm.claim("ann", transcribe=50)  # while nobody else waited: it counts for nothing
    farm.recording(40, "one.mp3", owner="few")
    farm.recording(40, "other.mp3", owner="some", priority=-5)
    owners = [farm.find(farm.claim("ann")[0].transcription_id).owner for _ in range(60)]
    assert {owner: owners.count(owner) for owner in owners} == {"many": 20, "few": 20, "some": 20}
    batch = [farm.find(job.transcription_id).owner for job in farm.claim("ann", transcribe=9)]
    assert {owner: batch.count(owner) for owner in batch} == {"many": 3, "few": 3, "some": 3}


def test_whoever_was_away_has_no_claim_on_what_others_had_meanwhile(farm: Farm) -> None:
    farm.worker("ann")
    for name in ("old", "busy", "other"):
        farm.recording(300, f"{name}.mp3", owner=name)
    for _ in range(3):
        farm.claim("ann")
    farm.recording(1, "last.mp3", owner="late")
    farm.claim("ann", transcribe=90)
    farm.recording(60, "again.mp3", owner="late")
    owners = [farm.find(farm.claim("ann")[0].transcription_id).owner for _ in range(40)]
    assert 8 <= owners.count("late") <= 12


def test_a_batch_is_filled_from_other_owners_when_one_has_little(farm: Farm) -> None:
    for name, chunks in (("little", 1), ("much", 30)):
        farm.recording(chunks, f"{name}.mp3", owner=name)
    farm.worker("ann")
    assert len(farm.claim("ann", transcribe=8)) == 8


def test_whoever_sends_what_is_cut_for_ever_leaves_a_place_for_the_others(farm: Farm) -> None:
    for number in range(5):
        farm.submit(f"{number}.mp3", owner="hostile")
    farm.worker("ann")

    def cut(room: int) -> list[str]:
        asked = farm.request("ann", 0, room).model_copy(update={"most_of_one_owner": 2})
        claims = farm.write(lambda tx: claim(tx, asked, farm.policy, farm.mint))
        return [farm.find(one.transcription_id).owner for one in claims]

    assert cut(3) == ["hostile"] * 2
    assert cut(1) == []
    farm.submit("honest.mp3", owner="honest")
    assert cut(1) == ["honest"]


def test_a_small_recording_is_cut_before_a_large_one_that_came_first(farm: Farm) -> None:
    farm.worker("ann")
    large = farm.submit("large.wav")
    farm.now += 1
    small = farm.submit("small.mp3", source_size=1 << 20)
    assert [farm.claim("ann", 0, chunk=1)[0].transcription_id for _ in range(2)] == [small.id, large.id]
