"""Workers are believed as far as they can be checked, and a bad model or worker costs nobody else the service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from support.hand_worker import HandWorker, Json, MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, refused
from support.submitting import submit

from whisper_farm.cli.main import outcome
from whisper_farm.coordinator import readiness
from whisper_farm.coordinator.readiness import READY_KEY, WRITTEN_SECONDS
from whisper_farm.leases.rules import MAX_LEASE_SECONDS, stretched
from whisper_farm.protocol.jobs import ChunkResult
from whisper_farm.settings import Policy
from whisper_farm.transcript.transcript import Segment, Word


def events_of(farm: ServedFarm, transcription_id: str) -> list[str]:
    """The kinds of all events of a transcription."""
    answer = farm.admin.get("/api/events", params={"once": True, "after": 0, "transcription": transcription_id})
    return [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]


def cut_one(worker: HandWorker, chunks: int = 1, wait: float = 0) -> None:
    """Cut the recording that waits."""
    (job,) = worker.claim(transcribe=0, chunk=1, wait=wait)
    worker.cut(job, chunks)
    assert worker.complete([worker.cut_done(job, chunks)])[0]["error_code"] is None


def resting(worker: HandWorker, models: Sequence[str]) -> Json:
    """Say that these models cannot be had there."""
    told = worker.registration()
    told["engines"][0]["resting"] = list(models)
    return worker.told("register", **told)


def test_a_model_that_rests_is_claimed_by_nobody_and_its_owner_hears_of_it_at_once(
    farm: ServedFarm, make_worker: MakeWorker
) -> None:
    worker = make_worker(farm)
    bad = submit(farm.admin, "bad.mp3", options={"model": "typo"})
    cut_one(worker)
    (claim,) = worker.claim()
    place = f"/api/transcriptions/{bad['id']}"
    assert farm.admin.get(place).json()["warning"] is None
    resting(worker, ["typo"])
    assert "typo" in farm.admin.get(place).json()["warning"]
    assert events_of(farm, bad["id"]).count("transcription_unserved") == 1
    resting(worker, ["typo"])
    assert events_of(farm, bad["id"]).count("transcription_unserved") == 1, "it is said once"
    failure = {"token": claim["token"], "code": "model_unavailable", "message": "no such model", "charged": False}
    worker.told("fail", failures=[failure])
    good = submit(farm.admin, "good.mp3")
    cut_one(worker)
    (other,) = worker.claim(wait=30)
    assert other["transcription_id"] == good["id"], "the good model is served, the bad one is not handed out"


def test_models_that_may_be_asked_for_can_be_a_list(start_farm: StartFarm) -> None:
    farm = start_farm(models=("tones:instant", "small"))
    submit(farm.user("ann"))
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    farm.admin.put(f"/api/uploads/{upload}", content=b"abc")
    for options in ({"model": "large"}, {"engine": "tones", "model": "small"}, {"model": "instant"}):
        body = {"name": "a", "upload_id": upload, "options": options}
        assert refused(farm.admin.post("/api/transcriptions", json=body)) == (403, "forbidden")
    body = {"name": "a", "upload_id": upload, "options": {"model": "small"}}
    assert farm.admin.post("/api/transcriptions", json=body).status_code == 201


@pytest.mark.parametrize("model", ["/etc", "../models", "C:\\models", "./a", "a/b/c", "~/model", "a/..", "a/.hidden"])
def test_a_users_model_is_never_a_path(farm: ServedFarm, model: str) -> None:
    ann = farm.user("ann")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    ann.put(f"/api/uploads/{upload}", content=b"abc")
    body = {"name": "a", "upload_id": upload, "options": {"model": model}}
    assert refused(ann.post("/api/transcriptions", json=body)) == (403, "forbidden")


def test_a_worker_is_bound_to_the_token_that_registered_it(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker, *others = (
        make_worker(farm, name, token=farm.token_for("worker", owner))
        for name, owner in (("mine", "friends"), ("same", "friends"), ("theirs", "strangers"))
    )
    submit(farm.admin)
    (job,) = worker.claim(transcribe=0, chunk=1)
    audio = worker.upload(job, 0)
    worker.told("append", token=job["token"], chunks=[audio])
    (heard,) = worker.claim()
    for other in others:
        other.worker_id = worker.worker_id
        assert refused(other.ask("register", **other.registration())) == (403, "forbidden")
        for call, body in {
            "claim": other.claim_body(),
            "heartbeat": {"tokens": [job["token"]]},
            "release": {"tokens": [], "leaving": True},
            "fail": {"failures": [{"token": job["token"], "code": "x", "message": "x"}]},
            "uploads": {"token": job["token"], "positions": [1]},
            "append": {"token": job["token"], "chunks": [audio]},
            "complete": {"completions": [worker.cut_done(job, 1)]},
        }.items():
            assert refused(other.ask(call, **body)) == (403, "forbidden"), call
        transfers = (
            ("GET", f"source/{job['token']}"),
            ("GET", f"audio/{heard['token']}"),
            ("PUT", f"uploads/{job['token']}/1"),
        )
        for method, path in transfers:
            assert refused(other.http.request(method, f"/api/work/{path}")) == (403, "forbidden"), path
    assert worker.complete([worker.cut_done(job, 1)])[0]["error_code"] is None


def test_workers_of_one_token_and_what_they_offer_are_bounded(tmp_path: Path) -> None:
    with ServedFarm(tmp_path / "data", max_workers=2) as farm, ExitStack() as stack:
        token, other = farm.token_for("worker", "friends"), farm.token_for("worker", "friends")
        hands = [
            stack.enter_context(closing(HandWorker(farm.url, each, f"w-{number}")))
            for number, each in enumerate((token, token, token, other))
        ]
        for hand in hands[:2]:
            hand.register()
            hand.register()
        assert refused(hands[2].ask("register", **hands[2].registration())) == (429, "quota_reached")
        hands[3].register()
        told = hands[0].registration()
        told["engines"] *= 10
        for number, offer in enumerate(told["engines"]):
            told["engines"][number] = offer | {"models": [f"{number}-{one}" + "m" * 240 for one in range(15)]}
        assert refused(hands[0].ask("register", **told)) == (413, "too_large")
        hands[0].told("release", leaving=True)
        hands[2].register()


def test_no_fleet_stretches_leases_beyond_the_bound() -> None:
    policy = Policy()
    assert stretched(policy, 100_000).lease_seconds == MAX_LEASE_SECONDS
    assert stretched(Policy(lease_seconds=1000), 100_000).lease_seconds == 1000, "what was asked for is no stretch"


def test_one_worker_does_not_end_a_recording_that_another_could_do(farm: ServedFarm, make_worker: MakeWorker) -> None:
    liar, honest = make_worker(farm, "liar"), make_worker(farm, "honest")
    made = submit(farm.admin)
    place = f"/api/transcriptions/{made['id']}"
    (job,) = liar.claim(transcribe=0, chunk=1)
    failure = {"code": "not_audio", "message": "this is no audio", "permanent": True}
    liar.told("fail", failures=[failure | {"token": job["token"]}])
    assert farm.admin.get(place).json()["state"] == "running"
    (again,) = honest.claim(transcribe=0, chunk=1, wait=30)
    honest.told("fail", failures=[failure | {"token": again["token"]}])
    assert farm.admin.get(place).json()["state"] == "failed", "two have said so"


def test_two_workers_of_one_token_do_not_end_what_another_token_could_do(
    farm: ServedFarm, make_worker: MakeWorker
) -> None:
    theirs = farm.token_for("worker", "strangers")
    liars = [make_worker(farm, f"liar-{number}", token=theirs) for number in range(2)]
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    honest = make_worker(farm, "honest")
    failure = {"code": "not_audio", "message": "this is no audio", "permanent": True}
    for liar in liars:
        (job,) = liar.claim(transcribe=0, chunk=1, wait=30)
        liar.told("fail", failures=[failure | {"token": job["token"]}])
    assert farm.admin.get(place).json()["state"] == "running"
    cut_one(honest, wait=30)


def view_of(farm: ServedFarm, worker: HandWorker) -> Json:
    """A worker as administrators see it."""
    found: list[Json] = farm.admin.get("/api/workers").json()["workers"]
    return next(one for one in found if one["id"] == worker.worker_id)


def test_silence_where_the_cutter_found_speech_needs_a_second_worker(farm: ServedFarm, make_worker: MakeWorker) -> None:
    liar, honest = make_worker(farm, "liar"), make_worker(farm, "honest")
    made = submit(farm.admin)
    cut_one(liar)
    (claim,) = liar.claim()
    assert liar.finish(claim, segments=())[0]["error_code"] is None
    place = f"/api/transcriptions/{made['id']}"
    assert farm.admin.get(place).json()["progress"]["chunks_done"] == 0
    assert liar.claim() == [], "it is left to others"
    (again,) = honest.claim()
    assert honest.finish(again)[0]["error_code"] is None
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    assert "word0" in farm.admin.get(f"{place}/transcript").text
    assert [view_of(farm, one)["differed"] for one in (liar, honest)] == [1, 1]


def test_silence_is_believed_of_two_and_of_the_only_one(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    cut_one(worker)
    assert worker.finish(*worker.claim(), segments=())[0]["error_code"] is None
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    other = make_worker(farm, "w-2")
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    cut_one(worker)
    for each in (worker, other):
        assert each.finish(*each.claim(), segments=())[0]["error_code"] is None
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    assert view_of(farm, other) | {"compared": 1, "differed": 0} == view_of(farm, other)


def test_a_recording_without_any_sound_needs_a_second_worker(farm: ServedFarm, make_worker: MakeWorker) -> None:
    liar, honest = make_worker(farm, "liar"), make_worker(farm, "honest")
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    cut_one(liar, chunks=0)
    assert farm.admin.get(place).json()["state"] == "running"
    cut_one(honest, chunks=2)
    assert farm.admin.get(place).json()["progress"]["chunks"] == 2


def test_a_share_of_chunks_is_recognised_twice_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ServedFarm(tmp_path / "data", Policy(verify=1)) as farm, ExitStack() as stack:
        token = farm.token_for("worker", "friends")
        one, other = (stack.enter_context(closing(HandWorker(farm.url, token, name))) for name in ("one", "other"))
        for each in (one, other):
            each.register()
        submit(farm.admin)
        cut_one(one, chunks=2)
        first = one.claim(transcribe=2)
        assert len(first) == 2
        one.finish(first[0], text=" the very same words")
        one.finish(first[1], text=" what nobody has said")
        assert one.claim() == []
        for claim in other.claim(transcribe=2):
            other.finish(claim, text=" The very same, words!")
        assert [(v["compared"], v["differed"]) for v in (view_of(farm, one), view_of(farm, other))] == [(2, 1)] * 2
        for command in ("workers", "status"):
            assert outcome([command, "--server", farm.url, "--token", farm.token]) == 0
            assert "1 of 2" in capsys.readouterr().out


def test_an_invented_revision_does_not_hold_a_recording_for_ever(tmp_path: Path) -> None:
    soon = Policy(max_attempts=1, retry_base_seconds=0, retry_max_seconds=0)
    with ServedFarm(tmp_path / "data", soon) as farm, ExitStack() as stack:
        token = farm.token_for("worker", "friends")
        liar, honest = (stack.enter_context(closing(HandWorker(farm.url, token, name))) for name in ("liar", "honest"))
        liar.register()
        place = f"/api/transcriptions/{submit(farm.admin)['id']}"
        cut_one(liar, chunks=2)
        assert liar.finish(*liar.claim(), revision="invented")[0]["error_code"] is None
        liar.told("release", leaving=True)
        honest.register()
        while farm.admin.get(place).json()["state"] == "running":
            for claim in honest.claim(wait=5):
                assert honest.finish(claim)[0]["error_code"] == "model_mismatch"
        eventually(lambda: farm.admin.get(place).json()["state"] == "incomplete", "the end")
        assert farm.admin.post(f"{place}/retry").is_success
        for claim in honest.claim(transcribe=2):
            assert honest.finish(claim)[0]["error_code"] is None
        eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")


def test_an_odd_revision_needs_a_second_worker(farm: ServedFarm, make_worker: MakeWorker) -> None:
    honest, liar = make_worker(farm, "honest"), make_worker(farm, "liar")

    def begun(first: HandWorker, revision: str, second: HandWorker, other: str) -> str:
        """A recording of which one says this and the other that; what it is pinned to."""
        place = f"/api/transcriptions/{submit(farm.admin)['id']}"
        cut_one(honest)
        assert first.finish(*first.claim(), revision=revision)[0]["error_code"] is None
        if farm.admin.get(place).json()["progress"]["chunks_done"] == 0:
            assert second.finish(*second.claim(), revision=other)[0]["error_code"] is None
        eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
        return str(farm.admin.get(f"{place}/transcript").json()["revision"])

    assert begun(honest, "r1", liar, "unused") == "r1"
    assert begun(liar, "invented", honest, "r1") == "r1"
    assert [view_of(farm, one)["differed"] for one in (liar, honest)] == [1, 1]
    assert begun(honest, "r1", liar, "unused") == "r1", "nothing is asked of two while all have the same"
    assert begun(honest, "r2", liar, "r2") == "r2", "two have another one"
    assert begun(liar, "r2", honest, "unused") == "r2", "which is the known one from then on"


def test_a_share_of_what_a_cutter_calls_silence_is_heard_by_another(tmp_path: Path) -> None:
    with ServedFarm(tmp_path / "data", Policy(verify=1)) as farm, ExitStack() as stack:
        token = farm.token_for("worker", "friends")
        liar, honest = (stack.enter_context(closing(HandWorker(farm.url, token, name))) for name in ("liar", "honest"))
        for each in (liar, honest):
            each.register()
        place = f"/api/transcriptions/{submit(farm.admin)['id']}"
        (job,) = liar.claim(transcribe=0, chunk=1)
        silent = {**liar.upload(job, 0), "speech_seconds": 0}
        liar.told("append", token=job["token"], chunks=[silent])
        liar.complete([liar.cut_done(job, 1)])
        assert liar.claim() == [], "it is left to others"
        honest.finish(*honest.claim())
        liar.finish(*liar.claim(), text=" word0")
        eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
        assert "word0" in farm.admin.get(f"{place}/transcript").text
        assert view_of(farm, liar)["differed"] == 1


def test_whoever_is_alone_is_believed_what_silence_is(tmp_path: Path) -> None:
    with ServedFarm(tmp_path / "data", Policy(verify=1)) as farm:
        place = f"/api/transcriptions/{submit(farm.admin)['id']}"
        with closing(HandWorker(farm.url, farm.token_for("worker", "friends"), "alone")) as worker:
            worker.register()
            (job,) = worker.claim(transcribe=0, chunk=1)
            worker.told("append", token=job["token"], chunks=[{**worker.upload(job, 0), "speech_seconds": 0}])
            worker.complete([worker.cut_done(job, 1)])
        eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")


def test_tokens_end_with_the_token_that_made_them(farm: ServedFarm) -> None:
    def made(by: httpx.Client, **more: object) -> Json:
        answer = by.post("/api/tokens", json={"name": "t", "scope": "user", **more})
        assert answer.status_code == 201, answer.text
        told: Json = answer.json()
        return told

    first = made(farm.admin, owner="ann", days=1)
    ann = farm.client(first["token"])
    second = made(ann)
    third = made(farm.client(second["token"]), days=30)
    assert third["expires_at"] == second["expires_at"] == first["expires_at"], "no token outlives its parent"
    kept = made(farm.client(third["token"]))
    assert farm.admin.delete(f"/api/tokens/{third['id']}", params={"only": True}).status_code == 204
    assert farm.client(kept["token"]).get("/api/tokens").status_code == 200
    assert farm.admin.delete(f"/api/tokens/{first['id']}").status_code == 204
    for token in (first, second, third, kept):
        assert refused(farm.client(token["token"]).get("/api/tokens")) == (401, "unauthorized")
    assert farm.admin.get("/api/tokens").status_code == 200


def test_an_expired_token_opens_nothing(farm: ServedFarm) -> None:
    body = {"name": "t", "scope": "user", "owner": "ann", "days": 0.5 / 86_400}
    ann = farm.client(farm.admin.post("/api/tokens", json=body).json()["token"])
    eventually(lambda: ann.get("/api/tokens").status_code == 401, "its end")


def test_results_that_were_not_asked_for_or_say_too_much_are_refused(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    submit(farm.admin)
    cut_one(worker)
    (claim,) = worker.claim()
    lies = [{"engine": "faster-whisper"}, {"model": "x40"}, {"text": "word " * 5000}, {"language": "xx"}]
    crowds = [{"words": (Word(1, 2, ""),) * 5000}, {"speaker": "a" * 5000}, {"language": "a" * 5000}]
    lies += [{"segments": (Segment(1, 2, "x", **one),)} for one in crowds] + [{"segments": (Segment(1, 2, ""),) * 2000}]
    for lie in (*lies, {"unheard": ((0, 9_999_999),)}):
        assert worker.finish(claim, **lie)[0]["error_code"] == "invalid_request", lie
    assert worker.finish(claim)[0]["error_code"] is None


def test_a_chunk_spans_no_more_than_it_may(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    submit(farm.admin, chunk_seconds=2)
    (job,) = worker.claim(transcribe=0, chunk=1)
    answer = worker.ask("append", token=job["token"], chunks=[worker.upload(job, 0)])
    assert refused(answer) == (422, "invalid_request")


def test_a_recording_ends_where_its_chunks_do(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    submit(farm.admin)
    job = worker.begin(2)
    for duration, chunks in ((9_999_999.0, 2), (20.0, 3), (20.0, 0), (0.0, 0)):
        lie = worker.completion(job, ChunkResult(duration_seconds=duration, chunks=chunks))
        assert worker.complete([lie])[0]["error_code"] == "invalid_request", (duration, chunks)
    assert worker.complete([worker.cut_done(job, 2)])[0]["error_code"] is None


@pytest.mark.parametrize(
    "dear",
    [
        {"beam_size": 17},
        {"temperature": [0.1] * 9},
        {"initial_prompt": "a" * 4097},
        {"hotwords": "a" * 4097},
        {"max_new_tokens": 449},
    ],
)
def test_what_recognition_costs_is_bounded(farm: ServedFarm, dear: Json) -> None:
    ann = farm.user("ann")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    ann.put(f"/api/uploads/{upload}", content=b"abc")
    body = {"name": "a", "upload_id": upload, "options": {"engine": "tones", "model": "instant", **dear}}
    assert refused(ann.post("/api/transcriptions", json=body)) == (422, "invalid_request")


def test_whoever_asks_for_readiness_again_and_again_makes_the_farm_write_once_a_second(farm: ServedFarm) -> None:
    nobody, begun = farm.client(""), time.monotonic()
    written = set()
    for _ in range(50):
        assert nobody.get("/readyz").status_code == 200
        written.add((farm.data / "blobs" / READY_KEY).stat().st_mtime_ns)
    assert len(written) <= 1 + (time.monotonic() - begun) / WRITTEN_SECONDS


def test_readiness_writes_and_tells_strangers_no_paths(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "WRITTEN_SECONDS", 0)  # or the second look would do without
    nobody = farm.client("")
    assert nobody.get("/readyz").status_code == 200
    blobs = farm.data / "blobs"
    blobs.rename(farm.data / "away")
    blobs.write_text("no folder")
    try:
        answer = nobody.get("/readyz")
        assert answer.status_code == 503
        assert str(farm.data) not in answer.text
    finally:
        blobs.unlink()
        (farm.data / "away").rename(blobs)
