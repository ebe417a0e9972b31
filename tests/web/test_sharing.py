"""A link lets anybody read one transcription, and nothing else, until it is revoked. A proxy may say who is there."""

from __future__ import annotations

import httpx
import pytest
from support.hand_worker import HandWorker
from support.people import APP, People
from support.served_farm import ServedFarm, StartFarm, eventually, refused
from support.submitting import submit

READ = ("", "/transcript", "/transcript?format=srt")


@pytest.fixture
def mine(farm: ServedFarm, people: People) -> tuple[httpx.Client, str]:
    """Ann, and the path of a transcription of hers that is done."""
    ann = people.user("ann")
    made = submit(ann)
    worker = HandWorker(farm.url, farm.token)
    worker.register()
    worker.work_off()
    worker.close()
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: ann.get(place).json()["state"] == "done")
    return ann, place


def opened(people: People, place: str, secret: str) -> httpx.Client:
    visitor = people.stranger()
    body = {"transcription_id": place.rpartition("/")[2], "secret": secret}
    answer = visitor.post("/app/shared", json=body)
    assert answer.status_code == 204, answer.text
    assert {"httponly", "samesite=strict"} <= set(answer.headers["Set-Cookie"].lower().split("; "))
    return visitor


def test_a_link_opens_one_transcription_to_be_read(mine: tuple[httpx.Client, str], people: People) -> None:
    ann, place = mine
    other = f"/api/transcriptions/{submit(ann)['id']}"
    made = ann.post(f"{place}/shares").json()
    visitor = opened(people, place, made["secret"])
    assert [visitor.get(place + path).status_code for path in READ] == [200] * 3
    for path in (
        other,
        "/api/transcriptions",
        "/api/search?words=word1",
        "/api/server",
        f"{place}/jobs",
        f"{place}/segments",
    ):
        assert refused(visitor.get(path)) == (401, "unauthorized"), path
    for method, path in (("PATCH", place), ("DELETE", place), ("POST", f"{place}/shares"), ("POST", f"{place}/retry")):
        assert refused(visitor.request(method, path, json={"name": "x"})) == (401, "unauthorized"), path
    assert refused(visitor.get(f"{place}/shares")) == (401, "unauthorized")
    assert visitor.get("/app/session").json()["owner"] is None


def test_a_reader_sees_neither_what_was_struck_out_nor_earlier_versions(
    mine: tuple[httpx.Client, str], people: People
) -> None:
    ann, place = mine
    segments = ann.get(f"{place}/transcript").json()["segments"]
    first = segments[0]
    gone = {"start": first["start"], "end": first["end"], "text": first["text"], "struck": True}
    patch = {"start": first["start"], "end": first["end"], "segments": [gone]}
    assert ann.post(f"{place}/edits", json={"based_on": 0, "patches": [patch]}).status_code == 201
    visitor = opened(people, place, ann.post(f"{place}/shares").json()["secret"])
    for query in ("", "?struck=true", "?at=0", "?format=txt"):
        assert first["text"].strip() not in visitor.get(f"{place}/transcript{query}").text.split(), query
    assert first["text"] in ann.get(f"{place}/transcript?struck=true").text


def test_a_link_is_listed_without_its_secret_and_revoked_for_those_who_have_it_open(
    mine: tuple[httpx.Client, str], people: People
) -> None:
    ann, place = mine
    first, second = (ann.post(f"{place}/shares").json() for _ in range(2))
    visitor = opened(people, place, first["secret"])
    listed = ann.get(f"{place}/shares").json()["shares"]
    assert [(one["id"], one["made_by"], one["secret"]) for one in listed] == [
        (first["id"], "ann", None),
        (second["id"], "ann", None),
    ]
    assert ann.delete(f"{place}/shares/{first['id']}").status_code == 204
    assert refused(ann.delete(f"{place}/shares/{first['id']}")) == (404, "not_found")
    assert refused(visitor.get(place)) == (401, "unauthorized")
    assert opened(people, place, second["secret"]).get(place).status_code == 200


def test_only_the_owner_shares_and_guessing_secrets_is_stopped(
    mine: tuple[httpx.Client, str], people: People, farm: ServedFarm
) -> None:
    ann, place = mine
    bob = people.user("bob")
    made = ann.post(f"{place}/shares").json()
    assert refused(bob.post(f"{place}/shares")) == (404, "not_found")
    assert refused(bob.get(f"{place}/shares")) == (404, "not_found")
    assert refused(bob.delete(f"{place}/shares/{made['id']}")) == (404, "not_found")
    theirs = submit(bob)["id"]
    for _ in range(10):
        answer = people.stranger().post("/app/shared", json={"transcription_id": theirs, "secret": made["secret"]})
        assert refused(answer) == (401, "unauthorized")
    assert refused(people.stranger().post("/app/shared", json={"transcription_id": theirs, "secret": "x"}))[0] == 429


def test_somebody_signed_in_reads_what_is_shared_beside_what_is_theirs(
    mine: tuple[httpx.Client, str], people: People
) -> None:
    ann, place = mine
    secret = ann.post(f"{place}/shares").json()["secret"]
    bob = people.user("bob")
    own = f"/api/transcriptions/{submit(bob)['id']}"
    assert refused(bob.get(place)) == (404, "not_found")
    bob.post("/app/shared", json={"transcription_id": place.rpartition("/")[2], "secret": secret})
    assert [bob.get(place).status_code, bob.get(own).status_code] == [200, 200]
    assert refused(bob.patch(place, json={"name": "mine"})) == (404, "not_found")
    assert ann.delete(place).status_code == 204
    assert refused(bob.get(place)) == (404, "not_found")


def test_whom_a_trusted_proxy_names_is_signed_in_with_an_account(start_farm: StartFarm) -> None:
    farm = start_farm(proxy_user_header="Remote-User", proxy_networks=("127.0.0.0/8",))
    ann = farm.client("")
    ann.headers.update(APP | {"Remote-User": "ann"})
    assert ann.get("/app/session").json()["owner"] == "ann"
    assert submit(ann)["owner"] == "ann"
    people = farm.admin.get("/app/people").json()["people"]
    assert [(one["name"], one["scope"]) for one in people] == [("ann", "user")]
    assert refused(ann.get("/app/people")) == (403, "forbidden")
    farm.admin.post("/app/people", json={"name": "root", "scope": "admin"})
    root = farm.client("")
    root.headers.update(APP | {"Remote-User": "root"})
    assert root.get("/app/people").status_code == 200
    del ann.headers["Whisper-Farm-App"]
    assert refused(ann.post("/api/tokens", json={"name": "x", "scope": "user"})) == (403, "forbidden")
    assert refused(ann.get("/api/server", headers={"Host": "evil.example"})) == (403, "forbidden")
    for strange in ("", "a b", "x" * 65, "<script>", "../x"):
        assert refused(farm.client("").get("/api/server", headers={"Remote-User": strange}))[0] in (401, 403)
    twice = farm.client("").get("/api/server", headers=[("Remote-User", "root"), ("remote-user", "ann")])
    assert refused(twice) == (403, "forbidden")


@pytest.mark.parametrize("networks", [(), ("10.0.0.0/8",)])
def test_the_header_means_nothing_from_anywhere_else(start_farm: StartFarm, networks: tuple[str, ...]) -> None:
    farm = start_farm(proxy_user_header="Remote-User", proxy_networks=networks)
    client = farm.client("")
    client.headers.update(APP | {"Remote-User": "admin", "X-Forwarded-For": "10.0.0.1"})
    assert client.get("/app/session").json()["owner"] is None
    assert refused(client.get("/api/server")) == (401, "unauthorized")


def tries_of(farm: ServedFarm, *forwarded: str) -> list[int]:
    """What eleven wrong sign-ins that a proxy forwarded from an address are answered with, but for repetitions."""
    headers = [*APP.items(), *(("X-Forwarded-For", one) for one in forwarded)]
    body = {"link": "guess"}
    return list(
        dict.fromkeys(farm.client("").post("/app/session", json=body, headers=headers).status_code for _ in range(11))
    )


def test_behind_a_trusted_proxy_wrong_passwords_are_those_of_whoever_it_names(start_farm: StartFarm) -> None:
    farm = start_farm(proxy_networks=("127.0.0.0/8",))
    assert tries_of(farm, "192.0.2.1") == [401, 429]
    assert tries_of(farm, "192.0.2.9, 192.0.2.2") == [401, 429], "what a browser itself sent comes before"
    assert tries_of(farm, "192.0.2.1", "192.0.2.2") == [429], "the last header is the proxy's"
    assert tries_of(farm, "192.0.2.3") == [401, 429]
    assert tries_of(farm, "nonsense") == [401, 429], "as those of the proxy"
    assert tries_of(farm) == [429]


def test_from_anywhere_else_a_forwarded_address_gives_no_more_tries(start_farm: StartFarm) -> None:
    farm = start_farm(proxy_networks=("10.0.0.0/8",))
    assert tries_of(farm, "192.0.2.1") == [401, 429]
    assert tries_of(farm, "192.0.2.2") == [429]


def test_each_owner_has_a_glossary_and_options_of_their_own(people: People, farm: ServedFarm) -> None:
    ann, bob = people.user("ann"), people.user("bob")
    untouched = ann.get("/app/preferences").json()
    assert untouched["glossary"] == ""
    for words in ("Groningen", "Dr. Okonkwo, Groningen"):
        assert ann.patch("/app/preferences", json={"glossary": words}).status_code == 204
    defaults = {"model": "large-v3", "language": "de", "task": "translate", "prompt": "", "priority": -10}
    defaults |= {"diarize": True, "speakers": 3}
    assert ann.patch("/app/preferences", json={"defaults": defaults}).status_code == 204
    wanted = {"glossary": "Dr. Okonkwo, Groningen", "defaults": defaults}
    assert ann.get("/app/preferences").json() == farm.user("ann").get("/app/preferences").json() == wanted
    assert bob.get("/app/preferences").json() == untouched
    for wrong in ({"glossary": "x" * 1001}, {"defaults": {**defaults, "language": "German!"}}):
        assert refused(ann.patch("/app/preferences", json=wrong)) == (422, "invalid_request")
