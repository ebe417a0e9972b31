"""With an object store, audio goes around the coordinator: presigned addresses, verified before they count."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from support.fake_server import FakeServer
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually
from support.submitting import AUDIO, submit

from whisper_farm.coordinator import transfers
from whisper_farm.coordinator.readiness import ID_KEY
from whisper_farm.coordinator.routes import worker as worker_routes
from whisper_farm.coordinator.services.cleaner import Sweeper
from whisper_farm.store.tables import transcriptions

PLACE = "/api/transcriptions"


@pytest.fixture
def s3_farm(bucket: Any, start_farm: StartFarm) -> ServedFarm:
    """A farm whose blobs are in a bucket."""
    return start_farm(blobs="s3://audio/farm")


def keys(bucket: Any) -> list[str]:
    found = [each["Key"] for each in bucket.list_objects_v2(Bucket="audio").get("Contents", [])]
    return [key for key in found if not key.endswith(ID_KEY)]


def test_a_recording_goes_through_a_bucket(
    s3_farm: ServedFarm, make_worker: MakeWorker, moto_url: str, bucket: Any
) -> None:
    farm = s3_farm
    worker = make_worker(farm)
    made = submit(farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    source = cutting["task"]["source"]["transfer"]
    assert source["url"].startswith(moto_url)
    assert worker.transfer(source).content == AUDIO
    assert worker.transfer(source, Range="bytes=4-9").content == AUDIO[4:10]
    target = worker.told("uploads", token=cutting["token"], positions=[0])["uploads"][0]["transfer"]
    assert target["url"].startswith(moto_url)
    worker.cut(cutting, 2)
    worker.complete([worker.cut_done(cutting, 2)])
    claims = worker.claim(2)
    assert worker.transfer(claims[0]["task"]["transfer"]).content == b"sound of chunk 0"
    worker.finish(*claims)
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "done")
    assert farm.admin.get(f"{place}/transcript", params={"format": "txt"}).text == "word0\nword1\n"
    assert farm.admin.delete(place).status_code == 204
    assert keys(bucket) == []


def test_an_upload_to_the_bucket_counts_when_it_is_there_and_whole(s3_farm: ServedFarm, bucket: Any) -> None:
    farm = s3_farm
    target = farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()
    body = {"name": "a", "upload_id": target["upload_id"]}

    def refusal(**more: str) -> str:
        return str(farm.admin.post("/api/transcriptions", json={**body, **more}).json()["error"]["code"])

    def put(content: bytes) -> None:
        transfer = target["transfer"]
        assert httpx.put(transfer["url"], content=content, headers=transfer["headers"], timeout=60).is_success

    assert refusal() == "wrong_state"
    put(AUDIO[:-1])
    assert refusal() == "digest_mismatch"
    put(AUDIO + b"x")
    assert refusal() == "too_large"
    assert keys(bucket) == [], "what is larger than announced is not kept"
    assert refusal() == "wrong_state"
    put(AUDIO)
    assert refusal(sha256="0" * 64) == "digest_mismatch"
    sha256 = hashlib.sha256(AUDIO).hexdigest()
    assert farm.admin.post("/api/transcriptions", json={**body, "sha256": sha256}).status_code == 201


def test_a_recording_stays_what_it_was_when_its_sender_sends_another(
    s3_farm: ServedFarm, make_worker: MakeWorker, bucket: Any
) -> None:
    farm, worker = s3_farm, make_worker(s3_farm)
    target = farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()
    body, transfer = {"name": "a", "upload_id": target["upload_id"]}, target["transfer"]

    def put(content: bytes) -> None:
        assert httpx.put(transfer["url"], content=content, headers=transfer["headers"], timeout=60).is_success

    put(AUDIO)
    assert farm.admin.post("/api/transcriptions", json=body).status_code == 201
    assert len(keys(bucket)) == 1, "there is no second copy"
    put(AUDIO[::-1])
    assert farm.admin.post("/api/transcriptions", json={**body, "name": "again"}).status_code == 201
    for cutting in (*worker.claim(0, chunk=1), *worker.claim(0, chunk=1)):
        assert worker.transfer(cutting["task"]["source"]["transfer"]).content == AUDIO


@pytest.mark.parametrize("key", [None, "k"], ids=["twice", "once"])
@pytest.mark.parametrize("held", ["verify", "copy"])
def test_two_submissions_of_one_upload_at_once_leave_one_recording(
    s3_farm: ServedFarm, bucket: Any, monkeypatch: pytest.MonkeyPatch, held: str, key: str | None
) -> None:
    """One whose answer was lost, say, and the same again."""
    farm, answers, again = s3_farm, list[httpx.Response](), s3_farm.client(s3_farm.token)
    target = farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()
    body = {"name": "a", "upload_id": target["upload_id"], "key": key}
    transfer, real = target["transfer"], getattr(farm.coordinator.blobs, held)
    assert httpx.put(transfer["url"], content=AUDIO, headers=transfer["headers"], timeout=60).is_success

    async def late(*told: Any, **more: Any) -> None:
        monkeypatch.undo()
        if held == "copy":
            await real(*told, **more)
        answers.append(await asyncio.to_thread(again.post, "/api/transcriptions", json=body))
        if held == "verify":
            await real(*told, **more)

    monkeypatch.setattr(farm.coordinator.blobs, held, late)
    answers.append(farm.admin.post("/api/transcriptions", json=body))
    assert [one.status_code for one in answers] == ([201, 200] if key else [201, 201])
    assert len({one.json()["id"] for one in answers}) == (1 if key else 2)
    (left,) = keys(bucket)
    sources = farm.coordinator.database.read(lambda tx: tx.connection.execute(select(transcriptions.c.source)).all())
    assert {f"blob:{left.removeprefix('farm/')}"} == {source for (source,) in sources}


def test_one_submission_too_many_at_once_leaves_no_copy(
    bucket: Any, start_farm: StartFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = start_farm(blobs="s3://audio/farm", max_unfinished=1)
    ann, copy = farm.user("ann"), farm.coordinator.blobs.copy
    bodies = []
    for _ in range(2):
        target = ann.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()
        transfer = target["transfer"]
        assert httpx.put(transfer["url"], content=AUDIO, headers=transfer["headers"], timeout=60).is_success
        bodies.append({"name": "a", "upload_id": target["upload_id"]})

    async def late(*told: Any) -> None:
        monkeypatch.undo()
        await copy(*told)
        answer = await asyncio.to_thread(farm.client(ann.headers["Authorization"][7:]).post, PLACE, json=bodies[1])
        assert answer.status_code == 201

    monkeypatch.setattr(farm.coordinator.blobs, "copy", late)
    assert ann.post(PLACE, json=bodies[0]).status_code == 429
    assert len(keys(bucket)) == 2, "what is submitted, and what may be"


def test_chunks_in_the_bucket_are_read_and_verified(s3_farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(s3_farm)
    submit(s3_farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    chunk = worker.upload(cutting, 0)
    for wrong in ({"sha256": "0" * 64}, {"size": 5}):
        answer = worker.ask("append", token=cutting["token"], chunks=[{**chunk, **wrong}])
        assert answer.json()["error"]["code"] == "digest_mismatch"
    assert worker.told("append", token=cutting["token"], chunks=[chunk])["next_position"] == 1


def test_a_chunk_in_the_bucket_that_is_larger_than_any_is_removed(
    s3_farm: ServedFarm, make_worker: MakeWorker, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_routes, "MAX_CHUNK_BYTES", 10)
    worker = make_worker(s3_farm)
    submit(s3_farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    before = keys(bucket)
    chunk = worker.upload(cutting, 0)
    answer = worker.ask("append", token=cutting["token"], chunks=[{**chunk, "size": 10}])
    assert answer.json()["error"]["code"] == "too_large"
    assert keys(bucket) == before


def test_what_is_too_large_for_one_put_goes_through_the_coordinator(
    s3_farm: ServedFarm, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "MAX_SINGLE_PUT", 100)
    target = s3_farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()
    assert target["transfer"]["url"] == f"/api/uploads/{target['upload_id']}"
    assert s3_farm.admin.put(target["transfer"]["url"], content=AUDIO).status_code == 204
    (key,) = keys(bucket)
    assert bucket.get_object(Bucket="audio", Key=key)["Body"].read() == AUDIO


def test_workers_and_clients_get_the_public_address(bucket: Any, start_farm: StartFarm) -> None:
    farm = start_farm(blobs="s3://audio/farm", blobs_public_endpoint="https://blobs.example:9000")
    transfer = farm.admin.post("/api/uploads", json={"name": "a", "size": 5}).json()["transfer"]
    assert transfer["url"].startswith("https://blobs.example:9000/audio/farm/sources/")


def test_a_bucket_is_swept_too(bucket: Any, start_farm: StartFarm) -> None:
    farm = start_farm(blobs="s3://audio/farm")
    submit(farm.admin)
    kept = keys(bucket)
    bucket.put_object(Bucket="audio", Key="farm/results/gone/0.aa.bb.json", Body=b"x")
    bucket.put_object(Bucket="audio", Key="elsewhere/not-ours", Body=b"x")
    coordinator = farm.coordinator
    at_once = farm.settings.model_copy(
        update={"orphan_hours": 0, "trash_hours": 0}
    )  # less than is allowed; nothing is on its way here
    sweeper = Sweeper(coordinator.store, coordinator.blobs, at_once)
    eventually(lambda: farm.on_loop(sweeper.run_once)["blobs"] == 1, "the sweep")
    assert sorted(keys(bucket)) == sorted([*kept, "elsewhere/not-ours"])


def test_a_bucket_that_is_not_there_is_told_by_readyz(bucket: Any, start_farm: StartFarm) -> None:
    farm = start_farm(blobs="s3://nobody-made-this")
    answer = farm.client("").get("/readyz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")


def test_a_refusal_of_the_bucket_is_told_as_the_buckets(
    bucket: Any, start_farm: StartFarm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer = b"<Error><Code>AccessDenied</Code><Message>Not for you.</Message></Error>"
    with FakeServer() as server:
        server.always = (403, answer, "application/xml")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        farm = start_farm(blobs="s3://audio/farm")
        told = farm.client("").get("/readyz")
    assert (told.status_code, told.json()["error"]["code"]) == (503, "object_store_refused")
    assert "audio/farm" not in told.text, "strangers are told no places"
    assert "s3://audio/farm refused: AccessDenied: Not for you." in caplog.text
