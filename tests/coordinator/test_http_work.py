"""The worker API over real sockets: from a submission to its transcript, and every way a claim can be lost."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import httpx
import pytest
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in
from support.submitting import AUDIO, submit

from whisper_farm.coordinator import long_poll
from whisper_farm.leases.lapse import reap
from whisper_farm.protocol.jobs import ChunkResult, TranscribeResult
from whisper_farm.store.statements import Change
from whisper_farm.times import DAY_SECONDS

SILENCE = Change("UPDATE workers SET last_seen_at = last_seen_at - :longer_than_a_lease")


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting claims are woken by what happens, not by looking again now and then."""
    monkeypatch.setattr(long_poll, "TICK_SECONDS", 1000)


def state_of(farm: ServedFarm, made: dict[str, object]) -> str:
    return str(farm.admin.get(f"/api/transcriptions/{made['id']}").json()["state"])


def test_a_recording_goes_in_and_its_transcript_comes_out(either_farm: ServedFarm, make_worker: MakeWorker) -> None:
    farm = either_farm
    worker = make_worker(farm)
    made = submit(farm.admin)
    worker.work_off(chunks=12)
    eventually(lambda: state_of(farm, made) == "done", "the transcript")
    text = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript", params={"format": "txt"})
    assert text.text.split() == [f"word{position}" for position in range(12)]
    document = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript").json()
    assert [segment["start"] for segment in document["segments"]] == [10.0 * n + 1 for n in range(12)]
    assert document["coverage"] == {
        "complete": True,
        "duration": 120.0,
        "covered": 120.0,
        "chunks": 12,
        "missing": [],
        "damaged_packets": 0,
    }
    assert document["workers"] == ["w-1"]
    assert document["revision"] == "1"


def test_a_chunk_job_reads_its_source_by_ranges(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    (claim,) = worker.claim(0, chunk=1)
    source = claim["task"]["source"]
    assert source["size"] == len(AUDIO)
    transfer = source["transfer"]
    assert worker.transfer(transfer).content == AUDIO
    part = worker.transfer(transfer, Range="bytes=4-99")
    assert (part.status_code, part.content) == (206, AUDIO[4:100])
    assert part.headers["Content-Range"] == f"bytes 4-99/{len(AUDIO)}"
    assert worker.transfer(transfer, Range="bytes=-10").content == AUDIO[-10:]
    assert worker.transfer(transfer, Range=f"bytes={len(AUDIO) - 5}-").content == AUDIO[-5:]
    assert worker.transfer(transfer, Range="bytes=0-999999999").content == AUDIO
    beyond = worker.transfer(transfer, Range=f"bytes={len(AUDIO)}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(AUDIO)}")
    head = worker.transfer({**transfer, "method": "HEAD"})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(AUDIO)))
    assert head.headers["Accept-Ranges"] == "bytes"


def test_the_audio_of_a_chunk_may_be_sent_again_until_it_is_appended(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    worker.upload(cutting, 0, b"a first try")
    target = worker.told("uploads", token=cutting["token"], positions=[0])["uploads"][0]["transfer"]
    worker.cut(cutting, 2)
    late = worker.transfer(target, b"something else")
    assert late.status_code == 409
    assert late.json()["error"]["code"] == "position_conflict"
    heard = [worker.transfer(one["task"]["transfer"]).content for one in worker.claim(2)]
    assert heard == [b"sound of chunk 0", b"sound of chunk 1"]


def test_the_token_of_an_overtaken_attempt_opens_nothing(farm: ServedFarm, make_worker: MakeWorker) -> None:
    zombie, heir = make_worker(farm, "zombie"), make_worker(farm, "heir")
    submit(farm.admin)
    (old,) = zombie.claim(0, chunk=1)
    target = zombie.told("uploads", token=old["token"], positions=[0])["uploads"][0]
    farm.lapse()
    (new,) = heir.claim(0, chunk=1)
    assert new["job_id"] == old["job_id"]
    assert new["attempt"] == 2
    heir.upload(new, 0)

    def code(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["code"]

    lost = (409, "lease_lost")
    assert code(zombie.ask("uploads", token=old["token"], positions=[0])) == lost
    assert code(zombie.transfer(target["transfer"], b"a late upload")) == lost
    assert code(zombie.transfer(old["task"]["source"]["transfer"])) == lost
    chunk = {"position": 0, "start_seconds": 0, "end_seconds": 10, "speech_seconds": 1, "size": 1, "sha256": "0" * 64}
    assert code(zombie.ask("append", token=old["token"], chunks=[{**chunk, "key": target["key"]}])) == lost
    assert zombie.complete([zombie.cut_done(old, 0)])[0]["error_code"] == "lease_lost"
    failure = {"token": old["token"], "code": "not_audio", "message": "it is not"}
    assert zombie.told("fail", failures=[failure])["outcomes"][0]["error_code"] == "lease_lost"
    assert zombie.told("release", tokens=[old["token"]])["outcomes"][0]["error_code"] == "lease_lost"
    assert zombie.told("heartbeat", tokens=[old["token"]])["lost"] == [old["token"]]
    heir.cut(new, 1)
    assert heir.complete([heir.cut_done(new, 1)])[0]["error_code"] is None


def test_a_worker_that_was_given_up_is_told_its_outcomes_and_claims_nothing(
    farm: ServedFarm, worker: HandWorker
) -> None:
    submit(farm.admin)
    cutting = worker.begin(2)
    farm.coordinator.database.write(lambda tx: reap(tx, farm.policy), now=time.time() + DAY_SECONDS)
    assert [one["state"] for one in farm.admin.get("/api/workers").json()["workers"]] == ["gone"]
    done = worker.ask("complete", completions=[worker.cut_done(cutting, 2)], claim=worker.claim_body(2))
    assert (done.status_code, done.json()["claims"]) == (200, [])
    assert [outcome["error_code"] for outcome in done.json()["outcomes"]] == [None]
    assert worker.ask("claim", **worker.claim_body(2)).json()["error"]["code"] == "worker_unknown"
    worker.register()
    assert len(worker.claim(2)) == 2


def test_a_worker_that_says_nothing_for_a_lease_is_shown_as_silent_until_it_is_heard(
    start_farm: StartFarm, make_worker: MakeWorker
) -> None:
    farm = start_farm()
    worker = make_worker(farm)
    worker.register()
    farm.coordinator.database.write(lambda tx: tx.change(SILENCE, {"longer_than_a_lease": 25.0}))

    def state() -> list[str]:
        return [one["state"] for one in farm.admin.get("/api/workers").json()["workers"]]

    assert (state(), farm.admin.get("/api/server").json()["workers_live"]) == (["silent"], 0)
    for told, shown in (("pause", "live"), ("resume", "silent")):
        farm.admin.post(f"/api/workers/{worker.worker_id}/{told}")
        assert state() == [shown], "what it was told counts more"
    worker.register()
    assert (state(), farm.admin.get("/api/server").json()["workers_live"]) == (["live"], 1)


def test_a_wait_ends_empty_when_its_time_is_over(farm: ServedFarm, worker: HandWorker) -> None:
    assert worker.claim(1, wait=0.1) == []
    assert len(farm.coordinator.long_polls) == 0


def test_a_claim_whose_client_has_gone_makes_no_attempt(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm, "first")
    impatient = make_worker(farm, "second")
    with closing(HTTPConnection(farm.url.removeprefix("http://"))) as caller:
        body, headers = json.dumps(impatient.claim_body(0, 1, wait=60)), dict(impatient.http.headers)
        caller.request("POST", "/api/work/claim", body, headers | {"Content-Type": "application/json"})
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
    eventually(lambda: len(farm.coordinator.long_polls) == 0, "the end of the wait")
    submit(farm.admin)
    assert len(worker.claim(0, chunk=1)) == 1


def test_the_same_claim_asked_twice_while_waiting_gets_one_attempt(farm: ServedFarm, worker: HandWorker) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(worker.claim, 0, 1, 30, "same") for _ in range(2)]
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
        submit(farm.admin)
        one, other = (waiting.result(60) for waiting in both)
    assert one == other
    assert len(one) == 1


def test_a_paused_worker_waits_keeps_nobody_waiting_and_works_when_it_is_resumed(
    farm: ServedFarm, worker: HandWorker
) -> None:
    assert farm.admin.post("/api/workers/w-1/pause").json()["paused"] is True
    submit(farm.admin)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.told, "claim", **worker.claim_body(1, 1, wait=20))
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
        assert farm.admin.post("/api/workers/w-1/resume").json()["paused"] is False
        assert len(waiting.result(60)["claims"]) == 1
    assert farm.admin.post("/api/workers/w-1/pause-now").json()["jobs"] == 0
    assert farm.admin.post("/api/workers/w-1/tickle").status_code == 422


def test_a_draining_worker_is_told_so_while_it_waits(farm: ServedFarm, worker: HandWorker) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.told, "claim", **worker.claim_body(1, 1, wait=20))
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
        assert farm.admin.post("/api/workers/w-1/drain").json()["state"] == "draining"
        assert waiting.result(60) == {"claims": [], "drain": True}
    assert worker.told("heartbeat", tokens=[])["drain"] is True
    assert farm.admin.post("/api/workers/w-1/dismiss").json()["state"] == "dismissed"
    assert [one["state"] for one in farm.admin.get("/api/workers").json()["workers"]] == ["dismissed"]
    assert worker.told("heartbeat", tokens=[])["dismissed"] is True


def test_what_was_uploaded_must_be_what_is_appended(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    chunk = worker.upload(cutting, 0)

    def refusal(**wrong: object) -> str:
        answer = worker.ask("append", token=cutting["token"], chunks=[{**chunk, **wrong}])
        return str(answer.json()["error"]["code"])

    assert refusal(sha256="0" * 64) == "digest_mismatch"
    assert refusal(size=3) == "digest_mismatch"
    assert refusal(key="chunks/some/body/0.flac") == "invalid_request"
    assert refusal(position=1) == "invalid_request"
    assert worker.told("append", token=cutting["token"], chunks=[chunk])["next_position"] == 1


def test_a_chunk_that_never_arrived_cannot_be_appended(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    target = worker.told("uploads", token=cutting["token"], positions=[0])["uploads"][0]
    chunk = {"position": 0, "start_seconds": 0, "end_seconds": 10, "speech_seconds": 1, "size": 1, "sha256": "0" * 64}
    answer = worker.ask("append", token=cutting["token"], chunks=[{**chunk, "key": target["key"]}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "blob_missing")


def test_results_that_do_not_fit_are_refused_one_by_one(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    cutting = worker.begin(4)
    good, wrong_digest, wrong_time, wrong_kind = worker.claim(4)
    forged = worker.completion(wrong_digest, worker.heard(wrong_digest)) | {"digest": "0" * 64}
    shifted = worker.completion(wrong_time, worker.heard({**wrong_time, "task": good["task"]}))
    chunk_result = worker.completion(wrong_kind, ChunkResult(duration_seconds=1, chunks=1))
    neither = worker.completion(cutting, worker.heard(good)) | {"kind": "chunk"}
    unknown = worker.completion(good, worker.heard(good)) | {"token": "x" * 32}
    outcomes = worker.complete(
        [worker.completion(good, worker.heard(good)), forged, shifted, chunk_result, neither, unknown]
    )
    assert [outcome["error_code"] for outcome in outcomes] == [
        None,
        "digest_mismatch",
        "invalid_request",
        "invalid_request",
        "invalid_request",
        "lease_lost",
    ]
    assert worker.finish(wrong_digest, wrong_time, wrong_kind)[0]["error_code"] is None


def test_a_result_is_read_once_and_not_on_the_event_loop(
    farm: ServedFarm, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(farm.admin)
    worker.begin(1)
    (claim,) = worker.claim(1)
    completion = worker.completion(claim, worker.heard(claim))
    real, readers = TranscribeResult.model_validate_json, list[str]()

    def watched(text: bytes) -> TranscribeResult:
        readers.append(threading.current_thread().name)
        return real(text)

    monkeypatch.setattr(TranscribeResult, "model_validate_json", watched)
    assert worker.complete([completion])[0]["error_code"] is None
    assert len(readers) == 1
    assert "served-farm" not in readers


def test_a_result_is_hashed_and_kept_as_it_was_sent(farm: ServedFarm, worker: HandWorker) -> None:
    """However its JSON is written: another spelling of a float, another order, fields left out."""
    submit(farm.admin)
    worker.begin(1)
    (claim,) = worker.claim(1)
    ours = worker.completion(claim, worker.heard(claim))
    fields = json.loads(ours["result"])
    del fields["unheard"], fields["language_probability"]
    text = json.dumps(dict(reversed(fields.items())), indent=1).replace("0.5", "5.00e-1")
    assert text != ours["result"]
    assert worker.complete([ours | {"result": text}])[0]["error_code"] == "digest_mismatch"
    theirs = ours | {"result": text, "digest": hashlib.sha256(text.encode()).hexdigest()}
    assert worker.complete([theirs]) == worker.complete([theirs])
    assert worker.complete([ours])[0]["error_code"] == "result_conflict"
    kept = [path.read_text() for path in files_in(farm.data / "blobs" / "results")]
    assert kept == [text]


def test_times_may_miss_their_chunk_by_a_rounding_and_are_put_right(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    worker.cut_whole(1)
    (claim,) = worker.claim(1)
    segment = {"start": -0.0, "end": 10.4, "text": " hello"}
    assert worker.finish(claim, segments=(segment,))[0]["error_code"] is None
    eventually(lambda: state_of(farm, made) == "done")
    (written,) = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript").json()["segments"]
    assert (written["start"], written["end"]) == (0.0, 10.0)


def test_a_worker_speaks_for_itself_only(farm: ServedFarm, make_worker: MakeWorker) -> None:
    mine = make_worker(farm, "mine", farm.token_for("worker", "ann"))
    theirs = make_worker(farm, "theirs", farm.token_for("worker", "bob"))
    for call, more in (
        ("claim", {"request_id": "r"}),
        ("heartbeat", {"tokens": []}),
        ("release", {"tokens": ["x" * 20], "leaving": True}),
    ):
        answer = theirs.http.post(f"/api/work/{call}", json={"worker_id": "mine", **more})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), call
    assert theirs.http.post("/api/work/register", json={**_registration(), "worker_id": "mine"}).status_code == 403
    assert mine.told("heartbeat", tokens=[])["lost"] == []


def _registration() -> dict[str, object]:
    return {"name": "n", "version": "1", "platform": "p", "slots": 1, "engines": []}


def test_many_idle_workers_share_new_work_without_a_stampede(farm: ServedFarm, make_worker: MakeWorker) -> None:
    workers = [make_worker(farm, f"w-{number}") for number in range(12)]
    with ThreadPoolExecutor(len(workers)) as pool:
        waiting = [pool.submit(worker.claim, 0, 1, 20) for worker in workers]
        eventually(lambda: len(farm.coordinator.long_polls) == len(workers), "the waits")
        made = [submit(farm.admin, name=f"{number}.mp3") for number in range(3)]
        done = eventually(lambda: len(finished := [one for one in waiting if one.done()]) == 3 and finished)
        got = {claim["transcription_id"] for one in done for claim in one.result(1)}
        assert got == {one["id"] for one in made}
        assert len(farm.coordinator.long_polls) == len(workers) - 3
        assert farm.stop() < 3
        assert all(one.result(5) == [] for one in waiting if one not in done)


def test_work_appended_by_one_coordinator_wakes_a_claim_on_another(
    start_farm: StartFarm, postgres_url: str, make_worker: MakeWorker
) -> None:
    one = start_farm(database=postgres_url)
    other = start_farm(database=postgres_url)
    worker = make_worker(other)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.claim, 0, 1, 20)
        eventually(lambda: len(other.coordinator.long_polls) == 1, "the wait")
        submit(one.admin)
        assert len(waiting.result(60)) == 1
