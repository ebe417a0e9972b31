"""What is played and drawn of a recording, from the job that makes it to the browser that asks for a range of it."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import pytest
from support.hand_worker import HandWorker, Json, MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in, refused
from support.submitting import AUDIO, submit

from whisper_farm.coordinator import one_call
from whisper_farm.coordinator.services.cleaner import Sweeper
from whisper_farm.protocol.jobs import ListeningCopy, PeaksResult
from whisper_farm.protocol.worker import digest_of
from whisper_farm.settings import ServerSettings

COPY = bytes(range(256)) * 64


def begun(farm: ServedFarm, worker: HandWorker) -> tuple[str, Json]:
    """A recording that is cut, and the claim of the job that makes what is listened to."""
    made = submit(farm.admin)
    worker.cut_whole(1)
    (claim,) = asked(worker)
    return made["id"], claim


def asked(worker: HandWorker, wait: float = 0) -> list[Json]:
    body = worker.claim_body(0, 0, wait) | {"jobs": {"peaks": 1}}
    claims: list[Json] = worker.told("claim", **body)["claims"]
    return claims


def uploaded(worker: HandWorker, claim: Json, data: bytes = COPY) -> str:
    (target,) = worker.told("uploads", token=claim["token"], positions=[0])["uploads"]
    assert worker.transfer(target["transfer"], data).is_success
    return str(target["key"])


def completion(worker: HandWorker, claim: Json, key: str, size: int = len(COPY)) -> Json:
    audio = ListeningCopy(key=key, size=size)
    return worker.completion(claim, PeaksResult(duration_seconds=10, peaks=(-0.25, 0.5), audio=audio))


def test_it_can_be_played_and_drawn_once_it_is_made(either_farm: ServedFarm, make_worker: MakeWorker) -> None:
    farm, worker = either_farm, make_worker(either_farm)
    made, claim = begun(farm, worker)
    place = f"/api/transcriptions/{made}"
    assert claim["task"]["kind"] == "peaks"
    assert worker.transfer(claim["task"]["source"]["transfer"], Range="bytes=4-9").content == AUDIO[4:10]
    for what in ("audio", "peaks"):
        assert refused(farm.admin.get(f"{place}/{what}")) == (404, "not_made")
    assert farm.admin.head(f"{place}/audio").status_code == 404
    sent = completion(worker, claim, uploaded(worker, claim))
    assert worker.complete([sent])[0]["error_code"] is None
    assert worker.complete([sent])[0]["error_code"] is None, "a lost answer"
    part = farm.admin.get(f"{place}/audio", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, COPY[1000:2000])
    assert part.headers["Content-Type"] == "audio/mp4"
    assert farm.admin.head(f"{place}/audio").headers["Content-Length"] == str(len(COPY))
    peaks = farm.admin.get(f"{place}/peaks")
    assert peaks.text == sent["result"], "as it was sent"
    assert (peaks.json()["duration_seconds"], peaks.json()["peaks"]) == (10.0, [-0.25, 0.5])
    told = farm.admin.get("/api/events", params={"after": 0, "once": True}).text
    assert told.count('"peaks_done"') == 1
    stranger = farm.client(farm.token_for("user", "bob"))
    for what in ("audio", "peaks"):
        assert refused(stranger.get(f"{place}/{what}")) == (404, "not_found")


@pytest.mark.parametrize(
    "peaks", ["[0.5, -0.5]", "[0.1]", "[-2, 2]", "[NaN, NaN]", "[null, 1]", '["a", "b"]', "{}", "7"]
)
def test_what_cannot_be_drawn_is_no_waveform(farm: ServedFarm, worker: HandWorker, peaks: str) -> None:
    """Browsers get the text of the result as the worker sent it."""
    made, claim = begun(farm, worker)
    sent = completion(worker, claim, uploaded(worker, claim))
    told = sent["result"].replace("[-0.25,0.5]", peaks)
    answer = worker.complete([sent | {"result": told, "digest": digest_of(told.encode())}])
    assert told != sent["result"]
    assert answer[0]["error_code"] == "invalid_request"
    assert refused(farm.admin.get(f"/api/transcriptions/{made}/peaks")) == (404, "not_made")


def test_a_submission_may_do_without_it(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin, peaks=False)
    worker.work_off(1)
    assert asked(worker) == []


def test_nobody_listens_to_what_is_asked_for_its_language_alone(start_farm: StartFarm, make_worker: MakeWorker) -> None:
    farm = start_farm(default_model="tones:instant")
    worker, files = make_worker(farm), {"audio_file": ("talk.wav", AUDIO)}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(farm.admin.post, "/webservice/detect-language", files=files)
        (cutting,) = worker.claim(0, chunk=1, wait=30)
        worker.cut(cutting, 1)
        worker.complete([worker.cut_done(cutting, 1)])
        assert asked(worker) == []
        worker.finish(*worker.claim(1))
        assert asking.result().json()["language_code"] == "en"


def test_who_asks_for_a_language_and_goes_away_leaves_nothing_behind(
    start_farm: StartFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_call, "LOOK_SECONDS", 0.05)
    farm = start_farm(default_model="tones:instant")
    body = b'--x\r\nContent-Disposition: form-data; name="audio_file"; filename="a"\r\n\r\n' + AUDIO + b"\r\n--x--\r\n"
    headers = {"Authorization": f"Bearer {farm.token}", "Content-Type": "multipart/form-data; boundary=x"}
    with closing(HTTPConnection(farm.url.removeprefix("http://"))) as caller:
        caller.request("POST", "/webservice/detect-language", body, headers)
        eventually(lambda: farm.admin.get("/api/transcriptions").json()["transcriptions"], "it waits to be heard")
    eventually(lambda: not farm.admin.get("/api/transcriptions").json()["transcriptions"], "it is forgotten")
    sources = farm.data / "blobs" / "sources"
    eventually(lambda: not files_in(sources), "its sound is, too")


def test_a_copy_that_is_not_there_or_not_its_own_is_refused(farm: ServedFarm, worker: HandWorker) -> None:
    _, claim = begun(farm, worker)
    (target,) = worker.told("uploads", token=claim["token"], positions=[0])["uploads"]

    def code(key: str, size: int = len(COPY)) -> str:
        return str(worker.complete([completion(worker, claim, key, size)])[0]["error_code"])

    assert code(target["key"]) == "blob_missing"
    assert worker.transfer(target["transfer"], COPY).is_success
    assert code(target["key"], 3) == "digest_mismatch"
    assert code("listening/some/body.m4a") == "invalid_request"
    assert refused(worker.ask("uploads", token=claim["token"], positions=[1])) == (422, "invalid_request")
    chunk = {"position": 0, "start_seconds": 0, "end_seconds": 10, "speech_seconds": 1, "size": 1, "sha256": "0" * 64}
    answer = worker.ask("append", token=claim["token"], chunks=[{**chunk, "key": target["key"]}])
    assert refused(answer) == (422, "invalid_request")
    assert worker.complete([completion(worker, claim, target["key"])])[0]["error_code"] is None


def test_a_transcription_is_done_though_it_fails_and_it_is_made_after_all_when_it_is_tried_again(
    farm: ServedFarm, worker: HandWorker
) -> None:
    made, claim = begun(farm, worker)
    failure = {"token": claim["token"], "code": "not_audio", "message": "It is not.", "permanent": True}
    worker.told("fail", failures=[failure])
    worker.work_off(1)
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made}").json()["state"] == "done", "the transcript")
    assert farm.admin.get(f"/api/transcriptions/{made}").json()["gaps"] == []
    assert refused(farm.admin.get(f"/api/transcriptions/{made}/audio")) == (404, "not_made")
    jobs = farm.admin.get(f"/api/transcriptions/{made}/jobs").json()["jobs"]
    assert [(job["kind"], job["state"]) for job in jobs[:2]] == [("chunk", "done"), ("peaks", "failed")]
    assert jobs[1]["attempts"][0]["error_code"] == "not_audio"
    place = f"/api/transcriptions/{made}"
    assert farm.admin.post(f"{place}/jobs/{jobs[1]['id']}/retry").json()["state"] == "done"
    (again,) = asked(worker)
    assert worker.complete([completion(worker, again, uploaded(worker, again))])[0]["error_code"] is None
    assert farm.admin.get(f"{place}/audio").content == COPY
    assert refused(farm.admin.post(f"{place}/retry")) == (409, "wrong_state")


def test_its_blobs_go_with_the_transcription(farm: ServedFarm, worker: HandWorker) -> None:
    made, claim = begun(farm, worker)
    worker.complete([completion(worker, claim, uploaded(worker, claim))])
    worker.work_off(1)
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made}").json()["state"] == "done", "the transcript")
    assert len(files_in(farm.data / "blobs" / "listening")) == 1
    assert farm.admin.delete(f"/api/transcriptions/{made}").status_code == 204
    assert [path.name for path in files_in(farm.data / "blobs")] == ["farm-id"]


@pytest.mark.parametrize("kept", [True, False])
def test_the_sweeper_knows_it(start_farm: StartFarm, make_worker: MakeWorker, kept: bool) -> None:
    """A copy that nobody handed in is removed once it is old; one that was stays."""
    farm = start_farm()
    worker = make_worker(farm)
    made, claim = begun(farm, worker)
    key = uploaded(worker, claim)
    if kept:
        worker.complete([completion(worker, claim, key)])
    for path in files_in(farm.data / "blobs"):
        os.utime(path, (time.time() - 10 * 86_400,) * 2)
    settings = ServerSettings(data=farm.data, trash_hours=0)
    store, blobs = farm.coordinator.store, farm.coordinator.blobs
    for _ in range(2):  # what is unknown is noted first
        farm.on_loop(Sweeper(store, blobs, settings).run_once)
    assert (farm.data / "blobs" / key).exists() == kept
    status = farm.admin.get(f"/api/transcriptions/{made}/peaks").status_code
    assert status == (200 if kept else 404)
    assert json.loads(farm.admin.get(f"/api/transcriptions/{made}/jobs").text)["jobs"][1]["kind"] == "peaks"
