"""The list of transcriptions: sorted, filtered and paged by the server; and renamed."""

from __future__ import annotations

from typing import Any

import httpx
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, eventually, refused
from support.submitting import submit


def names(client: httpx.Client, **wanted: Any) -> list[str]:
    """The names of all pages, three at a time."""
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        answer = client.get("/api/transcriptions", params={"limit": 3, **wanted, **after})
        assert answer.status_code == 200, answer.text
        found += [one["name"] for one in answer.json()["transcriptions"]]
        if answer.json()["next"] is None:
            return found
        after = {"after": answer.json()["next"]}


def test_a_list_is_sorted_and_filtered_by_the_server(either_farm: ServedFarm, make_worker: MakeWorker) -> None:
    farm = either_farm
    worker = make_worker(farm)
    for name, chunks in (("zwei: Übung.mp3", 1), ("Émile_1.mp3", 3), ("apfel.wav", 2), ("会议录音.m4a", 0)):
        submit(farm.admin, name)
        if chunks:
            worker.work_off(chunks)
    made = submit(farm.admin, "bird.wav")
    farm.admin.post(f"/api/transcriptions/{made['id']}/cancel")
    newest = ["bird.wav", "会议录音.m4a", "apfel.wav", "Émile_1.mp3", "zwei: Übung.mp3"]
    eventually(lambda: len(names(farm.admin, state="done")) == 3, "three are done")
    assert names(farm.admin) == newest
    assert names(farm.admin, order="oldest") == newest[::-1]
    assert names(farm.admin, order="name") == [newest[2], newest[0], newest[3], newest[4], newest[1]]
    assert names(farm.admin, order="longest")[:3] == [newest[3], newest[2], newest[4]]
    assert names(farm.admin, state=["queued", "cancelled"]) == newest[:2]
    assert names(farm.admin, title="UBUNG zw") == []
    assert names(farm.admin, title="zw ubu") == [newest[4]]
    assert names(farm.admin, title="emile") == [newest[3]]
    assert names(farm.admin, title="录音") == [newest[1]]
    assert names(farm.admin, title="%_") == newest
    assert names(farm.user("ann")) == []
    assert refused(farm.admin.get("/api/transcriptions", params={"order": "name", "after": "x"}))[0] == 422


def test_names_that_are_long_when_they_are_compared_end_no_list(either_farm: ServedFarm) -> None:
    """One letter may stand for eighteen."""
    farm = either_farm
    odd = [f"{n}{letter * 250}" for n in range(2) for letter in ("\ufdfa", "ß", "\U0001f600", "\U0002f800")]
    for name in odd[1:]:
        submit(farm.admin, name)
    made = submit(farm.admin, "x")
    assert farm.admin.patch(f"/api/transcriptions/{made['id']}", json={"name": odd[0]}).is_success
    assert sorted(names(farm.admin, order="name", limit=1)) == sorted(odd)


def test_a_transcription_is_renamed_by_its_owner_and_found_by_its_new_name(either_farm: ServedFarm) -> None:
    farm = either_farm
    ann, bob = farm.user("ann"), farm.user("bob")
    place = f"/api/transcriptions/{submit(ann)['id']}"
    assert ann.patch(place, json={"name": "Über Äpfel"}).json()["name"] == "Über Äpfel"
    assert names(ann, title="uber") == names(farm.admin, title="apfel") == ["Über Äpfel"]
    assert names(ann, title="talk") == []
    assert refused(bob.patch(place, json={"name": "mine"})) == (404, "not_found")
    for name in ("", "x" * 256):
        assert refused(ann.patch(place, json={"name": name}))[0] == 422
