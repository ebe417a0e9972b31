"""What an operator is alarmed by is counted: lapses, retries, hedges, how long work waits, and who holds what."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm, StartFarm
from support.submitting import submit

from whisper_farm.settings import Policy
from whisper_farm.store.tables import jobs


def measured(farm: ServedFarm, name: str, **labels: str) -> float:
    """The value of one series; what was never counted is 0."""
    families = text_string_to_metric_families(farm.admin.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    mine = [one for one in samples if one.name == f"whisper_farm_{name}" and one.labels == labels]
    return mine[0].value if mine else 0.0


def test_a_lease_that_lapses_is_seen_and_counted_once_somebody_takes_the_job(
    start_farm: StartFarm, database_url: str, make_worker: MakeWorker
) -> None:
    farm = start_farm(database=database_url)
    submit(farm.admin)
    (lost,) = make_worker(farm, "gone").claim(0, chunk=1)
    farm.lapse()
    assert (measured(farm, "leases_lapsed"), measured(farm, "lease_lapses_total")) == (1, 0)
    (claim,) = make_worker(farm, "heir").claim(0, chunk=1)
    assert claim["job_id"] == lost["job_id"]
    assert measured(farm, "lease_lapses_total") == 1
    assert measured(farm, "job_retries_total", code="lease_lost") == 1
    assert measured(farm, "claims_total", kind="chunk", hedge="no") == 2
    assert measured(farm, "leases_live", hedge="no") == measured(farm, "jobs_running", kind="chunk") == 1


def test_a_lapse_that_sets_the_job_aside_is_counted_and_is_no_retry(
    start_farm: StartFarm, make_worker: MakeWorker
) -> None:
    farm = start_farm(policy=Policy(max_attempts=1))
    submit(farm.admin)
    for name in ("gone", "heir"):
        assert len(make_worker(farm, name).claim(0, chunk=1)) == 1
        farm.lapse()
        assert measured(farm, "leases_lapsed") == 1
    assert make_worker(farm, "third").claim(0, chunk=1) == []
    assert measured(farm, "events_total", kind="job_set_aside") == 1
    assert measured(farm, "job_retries_total", code="lease_lost") == 1
    assert measured(farm, "lease_lapses_total") == 2


def test_retries_are_counted_by_their_cause_and_are_no_lapses(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    worker.begin(3)
    one, two, three = worker.claim(3)
    crash = {"code": "recogniser_crashed", "message": "it died"}
    failures = [{"token": claim["token"], **crash} for claim in (one, two)]
    hopeless = {"token": three["token"], "code": "not_audio", "message": "it is not", "permanent": True}
    worker.told("fail", failures=[*failures, hopeless])
    worker.told("fail", failures=failures)
    assert measured(farm, "job_retries_total", code="recogniser_crashed") == 2
    assert measured(farm, "job_retries_total", code="not_audio") == 0
    assert measured(farm, "lease_lapses_total") == 0
    assert measured(farm, "outcomes_total", call="fail", code="accepted") == 3
    assert measured(farm, "outcomes_total", call="fail", code="lease_lost") == 2
    assert measured(farm, "events_total", kind="job_set_aside") == 1
    assert measured(farm, "jobs_queued", kind="transcribe") == 2


def test_causes_that_workers_invent_are_counted_as_one(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    worker.begin(3)
    known, *strange = worker.claim(3)
    invented = [
        {"token": claim["token"], "code": f"odd_{n}", "message": "odd"} for n, claim in zip("ab", strange, strict=True)
    ]
    failures = [{"token": known["token"], "code": "not_audio", "message": "it is not"}, *invented]
    worker.told("fail", failures=failures)
    assert measured(farm, "job_retries_total", code="not_audio") == 1
    assert measured(farm, "job_retries_total", code="other") == 2
    assert "odd_" not in farm.admin.get("/metrics").text


def test_hedges_are_counted_apart_from_first_tries(
    start_farm: StartFarm, database_url: str, make_worker: MakeWorker
) -> None:
    farm = start_farm(database=database_url, policy=Policy(hedge_factor=1, hedge_min_seconds=0))
    slow, idle = make_worker(farm, "slow"), make_worker(farm, "idle")
    submit(farm.admin)
    slow.begin(3)
    first, *_ = slow.claim(3)
    assert slow.finish(first)[0]["error_code"] is None  # from now on it is known how long a chunk takes
    hedged = idle.claim(1, wait=30)
    assert [claim["attempt"] for claim in hedged] == [2]
    assert measured(farm, "claims_total", kind="transcribe", hedge="no") == 3
    assert measured(farm, "claims_total", kind="transcribe", hedge="yes") == 1
    assert measured(farm, "leases_live", hedge="no") == 3
    assert measured(farm, "leases_live", hedge="yes") == 1
    assert measured(farm, "jobs_running", kind="transcribe") == 2
    assert idle.finish(*hedged)[0]["error_code"] is None
    assert measured(farm, "leases_live", hedge="no") == 2
    assert measured(farm, "leases_live", hedge="yes") == 0
    assert measured(farm, "audio_seconds_done_total") == 20


def test_the_age_of_the_queue_is_that_of_its_oldest_job_and_ends_with_it(
    either_farm: ServedFarm, make_worker: MakeWorker
) -> None:
    farm = either_farm
    worker = make_worker(farm)
    assert measured(farm, "job_age_seconds", kind="chunk") == 0
    old, _ = submit(farm.admin)["id"], submit(farm.admin)["id"]
    waited = update(jobs).where(jobs.c.transcription_id == old).values(created_at=jobs.c.created_at - 1000)
    farm.coordinator.database.write(lambda tx: tx.connection.execute(waited))
    assert 1000 <= measured(farm, "job_age_seconds", kind="chunk") < 1100
    assert measured(farm, "job_age_seconds", kind="transcribe") == 0
    (claim,) = worker.claim(0, chunk=1)
    assert claim["transcription_id"] == old
    assert measured(farm, "job_age_seconds", kind="chunk") < 100
    assert measured(farm, "leases_live", hedge="no") == 1
    worker.cut(claim, 2)
    assert measured(farm, "audio_seconds_queued") == 20
    worker.told("release", tokens=[claim["token"]])
    assert measured(farm, "leases_live", hedge="no") == measured(farm, "jobs_running", kind="chunk") == 0
    assert 1000 <= measured(farm, "job_age_seconds", kind="chunk") < 1100
