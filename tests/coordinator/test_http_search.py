"""What was said is found over HTTP, as soon as its transcript is there, by those who may read it."""

from __future__ import annotations

import httpx
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm, eventually, refused
from support.submitting import submit


def hits(client: httpx.Client, words: str) -> list[tuple[str, float, str]]:
    answer = client.get("/api/search", params={"words": words})
    assert answer.status_code == 200, answer.text
    return [(hit["name"], hit["seconds"], hit["text"]) for hit in answer.json()["hits"]]


def test_words_are_found_when_the_transcript_is_there_by_their_owner_and_admins(
    either_farm: ServedFarm, make_worker: MakeWorker
) -> None:
    farm = either_farm
    worker, ann, bob = make_worker(farm), farm.user("ann"), farm.user("bob")
    made = submit(ann, "Gespräch.mp3")
    worker.cut_whole(2)
    first, second = worker.claim(transcribe=2)
    worker.finish(first, text=" Straßen in Kyjiw")
    worker.finish(second, text=" дороги у Києві")
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: ann.get(place).json()["state"] == "done")
    assert hits(ann, "strassen") == [("Gespräch.mp3", 1.0, "Straßen in Kyjiw")]
    assert hits(farm.admin, "києв") == [("Gespräch.mp3", 11.0, "дороги у Києві")]
    assert hits(bob, "strassen") == []
    assert hits(ann, "strassen дороги") == []
    assert ann.delete(place).status_code == 204
    assert hits(ann, "strassen") == []


def test_a_part_that_was_missing_is_found_once_it_is_there(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    worker.cut_whole(2)
    first, second = worker.claim(transcribe=2)
    worker.finish(second, text=" the second part")
    failure = {"token": first["token"], "code": "audio_unreadable", "message": "no", "permanent": True}
    worker.told("fail", failures=[failure])
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "incomplete")
    assert [seconds for _, seconds, _ in hits(farm.admin, "part")] == [11.0]
    farm.admin.post(f"{place}/retry")
    worker.finish(*worker.claim(), text=" the first part")
    eventually(lambda: farm.admin.get(place).json()["state"] == "done")
    assert [seconds for _, seconds, _ in hits(farm.admin, "part")] == [1.0, 11.0]


def test_a_search_without_words_or_beyond_its_bounds_is_refused(farm: ServedFarm) -> None:
    for wanted in ({}, {"words": "x" * 201}, {"words": "x", "limit": "201"}):
        assert refused(farm.admin.get("/api/search", params=wanted)) == (422, "invalid_request")
    assert hits(farm.admin, "") == []
