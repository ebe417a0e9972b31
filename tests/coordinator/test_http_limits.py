"""Limits that administrators change count at once, outlast the server, and are given up by their server's own value."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from support.hand_worker import HandWorker
from support.served_farm import ServedFarm, StartFarm, eventually, refused
from support.submitting import submit

from whisper_farm.settings import ServerSettings
from whisper_farm.store import limits

PLACE = "/api/limits"


def admin_of(farm: ServedFarm) -> httpx.Client:
    return farm.client(farm.token_for("admin", "root"))


def test_limits_count_as_soon_as_they_are_changed_and_for_as_long_as_they_differ(start_farm: StartFarm) -> None:
    farm = start_farm(max_unfinished=2)
    admin, bob = admin_of(farm), farm.user("bob")
    found = admin.get(PLACE).json()
    assert found["limits"] == found["server"]
    assert found["server"]["max_unfinished"] == 2
    submit(bob)
    assert (
        admin.patch(PLACE, json={"max_unfinished": 1, "max_waiting_bytes": 10}).json()["limits"]["max_unfinished"] == 1
    )
    assert refused(bob.post("/api/uploads", json={"name": "a", "size": 11})) == (429, "quota_reached")
    upload = bob.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    assert bob.put(f"/api/uploads/{upload}", content=b"abc").is_success
    body = {"name": "a", "upload_id": upload, "options": {"engine": "tones", "model": "instant"}}
    assert refused(bob.post("/api/transcriptions", json=body)) == (429, "quota_reached")
    assert admin.patch(PLACE, json={"max_unfinished": 2}).json()["limits"]["max_waiting_bytes"] == 10
    assert bob.post("/api/transcriptions", json=body).status_code == 201
    assert refused(bob.get(PLACE)) == (403, "forbidden")


def test_limits_outlast_the_server_and_what_was_not_changed_follows_its_settings(start_farm: StartFarm) -> None:
    first = start_farm(max_unfinished=2, retention_days=5)
    admin_of(first).patch(PLACE, json={"max_workers": 1, "retention_days": None, "max_unfinished": 2})
    first.stop()
    again = ServedFarm(first.data, max_unfinished=7, retention_days=5)
    with again:
        limits = admin_of(again).get(PLACE).json()["limits"]
        assert (limits["max_workers"], limits["retention_days"], limits["max_unfinished"]) == (1, None, 7)


def test_a_worker_too_many_is_refused_by_the_new_limit(start_farm: StartFarm) -> None:
    farm = start_farm()
    token = farm.token_for("worker", "friends")
    with closing(HandWorker(farm.url, token, "w-1")) as one, closing(HandWorker(farm.url, token, "w-2")) as other:
        one.register()
        admin_of(farm).patch(PLACE, json={"max_workers": 1})
        assert refused(other.ask("register", **other.registration())) == (429, "quota_reached")
        one.register()


def test_a_shorter_retention_deletes_what_is_older_at_once(start_farm: StartFarm) -> None:
    farm = start_farm()
    ann = farm.user("ann")
    made = submit(ann)
    ann.post(f"/api/transcriptions/{made['id']}/cancel")
    admin_of(farm).patch(PLACE, json={"retention_days": 0})
    eventually(lambda: ann.get(f"/api/transcriptions/{made['id']}").status_code == 404, "it is deleted")


@pytest.mark.parametrize(
    "wrong", [{"max_unfinished": None}, {"max_workers": 0}, {"max_upload_bytes": 5}, {"retention_days": -1}]
)
def test_what_is_no_limit_changes_nothing(start_farm: StartFarm, wrong: dict[str, object]) -> None:
    admin = admin_of(start_farm())
    assert refused(admin.patch(PLACE, json=wrong | {"max_stored_bytes": 1})) == (422, "invalid_request")
    assert admin.get(PLACE).json()["limits"]["max_stored_bytes"] == ServerSettings().max_stored_bytes


def sent(client: httpx.Client, size: int) -> str:
    upload: str = client.post("/api/uploads", json={"name": "a", "size": size}).json()["upload_id"]
    assert client.put(f"/api/uploads/{upload}", content=bytes(size)).is_success
    return upload


@pytest.mark.parametrize(
    ("given", "labelled"),
    [({"max_unfinished": 3}, False), ({"max_stored_bytes": 25}, False), ({"max_unfinished": 9_000}, True)],
    ids=["unfinished", "bytes", "labels"],
)
def test_submissions_that_come_at_once_keep_to_the_limits(
    start_farm: StartFarm,
    database_url: str,
    given: dict[str, int],
    labelled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST_FLOWS", 2)
    farm = start_farm(database=database_url, **given)
    ann = farm.user("ann")
    body = {"name": "a", "upload_id": sent(ann, 10), "options": {"engine": "tones", "model": "instant"}}

    def ask(number: int) -> int:
        return ann.post("/api/transcriptions", json=body | {"label": str(number) if labelled else ""}).status_code

    with ThreadPoolExecutor(12) as at_once:
        answers = Counter(at_once.map(ask, range(12)))
    assert answers == {201: 3, 429: 9}


def test_retries_keep_to_the_limits_too(start_farm: StartFarm, database_url: str) -> None:
    farm = start_farm(database=database_url, max_unfinished=4)
    ann = farm.user("ann")
    asked = {"name": "a", "upload_id": sent(ann, 10), "options": {"engine": "tones", "model": "instant"}}
    before = [ann.post("/api/transcriptions", json=asked).json()["id"] for _ in range(4)]
    assert all(ann.post(f"/api/transcriptions/{one}/cancel").is_success for one in before)
    for _ in range(3):
        assert ann.post("/api/transcriptions", json=asked).status_code == 201
    with ThreadPoolExecutor(4) as at_once:
        answers = list(at_once.map(lambda one: ann.post(f"/api/transcriptions/{one}/retry").status_code, before))
    assert Counter(answers) == {200: 1, 429: 3}
    assert farm.admin.patch(PLACE, json={"max_stored_bytes": 0}).is_success
    assert ann.post(f"/api/transcriptions/{before[answers.index(200)]}/cancel").is_success
    again = [ann.post(f"/api/transcriptions/{one}/retry").status_code for one in before]
    assert sorted(again) == [200, 429, 429, 429], "it stores nothing more"
