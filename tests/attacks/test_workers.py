"""Workers are believed as far as they can be checked, and a bad model or worker costs nobody else the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from support.hand_worker import HandWorker, Json
from support.served_farm import ServedFarm, StartFarm, refused
from support.submitting import submit

MakeWorker = Callable[..., HandWorker]


def events_of(farm: ServedFarm, transcription_id: str) -> list[str]:
    """The kinds of all events of a transcription."""
    answer = farm.admin.get("/api/events", params={"once": True, "after": 0, "transcription": transcription_id})
    return [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]


def cut_one(worker: HandWorker, chunks: int = 1) -> None:
    """Cut the recording that waits."""
    (job,) = worker.claim(transcribe=0, chunk=1)
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
    (other,) = worker.claim(wait=3)
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
