"""Signing in by link and password, what a session may do, and what other sites may not."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest
from starlette.responses import Response
from support.hand_worker import HandWorker
from support.people import APP, People
from support.served_farm import ServedFarm, StartFarm, eventually, refused
from support.submitting import submit

from whisper_farm.coordinator.layers import quotas, sessions
from whisper_farm.settings import ServerSettings
from whisper_farm.store import accounts
from whisper_farm.store.database import Database

PASSWORD = "correct horse battery"


def signed_in_as(client: httpx.Client) -> str | None:
    owner: str | None = client.get("/app/session").json()["owner"]
    return owner


def with_password(people: People, name: str = "ann") -> httpx.Client:
    """Somebody signed in who has set a password."""
    client = people.user(name)
    assert client.put("/app/password", json={"password": PASSWORD}).status_code == 204
    return client


def rewind(farm: ServedFarm, statement: accounts.Change) -> None:
    """Change times in the database."""
    database = Database.open(farm.data / "farm.db")
    database.write(lambda tx: tx.change(statement, {}))
    database.close()


def test_a_link_signs_in_once(people: People) -> None:
    secret = people.link()
    first, second = people.stranger(), people.stranger()
    assert first.post("/app/session", json={"link": secret}).status_code == 204
    assert signed_in_as(first) == "admin"
    assert refused(second.post("/app/session", json={"link": secret})) == (401, "unauthorized")
    assert signed_in_as(second) is None


def test_a_link_ends_with_its_time_and_with_the_next_link(farm: ServedFarm, people: People) -> None:
    earlier, later = people.link(), people.link()
    assert refused(people.stranger().post("/app/session", json={"link": earlier})) == (401, "unauthorized")
    rewind(farm, accounts.Change("UPDATE sign_in_links SET expires_at = expires_at - 901"))
    assert refused(people.stranger().post("/app/session", json={"link": later})) == (401, "unauthorized")


def test_the_session_is_in_a_cookie_that_scripts_and_other_sites_do_not_get(people: People) -> None:
    answer = people.stranger().post("/app/session", json={"link": people.link()})
    cookie = answer.headers["Set-Cookie"].lower()
    assert cookie.startswith("farm_session=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))


def test_over_https_the_cookie_is_bound_to_its_host() -> None:
    behind_proxy = ServerSettings(public_url="https://farm.example.org/x")
    for settings, scheme, host, secure in [
        (behind_proxy, "http", b"farm.example.org", True),
        (behind_proxy, "http", b"192.168.1.7:8765", False),
        (ServerSettings(), "https", b"nas.home", True),
    ]:
        answer = Response()
        scope = {"type": "http", "scheme": scheme, "headers": [(b"host", host)]}
        sessions.give_cookie(answer, scope, sessions.COOKIE, "secret", settings)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-farm_session=" if secure else "farm_session=")
        assert ("Secure" in cookie) is secure


def test_the_secrets_of_sessions_and_links_are_not_in_the_database(farm: ServedFarm, people: People) -> None:
    secret = people.link("admin")
    client = people.stranger()
    unused = people.admin().post("/app/people", json={"name": "bob"}).json()["link"]
    client.post("/app/session", json={"link": secret})
    kept = b"".join(path.read_bytes() for path in farm.data.glob("farm.db*"))
    for spoken in (unused, *client.cookies.values()):
        assert spoken.encode() not in kept


def test_a_password_signs_in_and_a_wrong_one_does_not(people: People) -> None:
    with_password(people)
    client = people.stranger()
    wrong = client.post("/app/session", json={"name": "ann", "password": "something else"})
    nobody = client.post("/app/session", json={"name": "nobody", "password": PASSWORD})
    assert refused(wrong) == refused(nobody) == (401, "unauthorized")
    assert wrong.text == nobody.text
    assert client.post("/app/session", json={"name": "ann", "password": PASSWORD}).status_code == 204
    assert signed_in_as(client) == "ann"


def test_an_account_without_a_password_cannot_be_signed_in_to_by_one(people: People) -> None:
    people.user("ann")
    for password in ("", "nobody's password", "None"):
        answer = people.stranger().post("/app/session", json={"name": "ann", "password": password})
        assert refused(answer) == (401, "unauthorized")


def test_too_many_failures_are_refused_even_with_the_right_password(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_password(people)
    client = people.stranger()
    for _ in range(quotas.TRIES):
        assert refused(client.post("/app/session", json={"link": "x" * 43})) == (401, "unauthorized")
    right = {"name": "ann", "password": PASSWORD}
    assert refused(client.post("/app/session", json=right)) == (429, "too_many_tries")
    monkeypatch.setattr(quotas, "TRIES_SECONDS", 0.0)
    assert client.post("/app/session", json=right).status_code == 204


def test_signing_in_makes_a_new_session_and_ends_the_one_before(people: People) -> None:
    client = people.admin()
    before = dict(client.cookies)
    client.post("/app/session", json={"link": people.link()})
    assert dict(client.cookies) != before
    fixed = people.stranger()
    fixed.cookies.update(before)
    assert signed_in_as(fixed) is None


def test_signing_out_ends_one_session_or_all(people: People) -> None:
    with_password(people)
    right = {"name": "ann", "password": PASSWORD}
    first, second, third = (people.stranger() for _ in range(3))
    for client in (first, second, third):
        assert client.post("/app/session", json=right).status_code == 204
    kept = dict(first.cookies)
    assert first.delete("/app/session").status_code == 204
    first.cookies.update(kept)
    assert [signed_in_as(client) for client in (first, second, third)] == [None, "ann", "ann"]
    assert second.delete("/app/session", params={"everywhere": True}).status_code == 204
    assert signed_in_as(third) is None


def test_a_new_password_needs_the_old_one_and_ends_the_other_sessions(people: People) -> None:
    client, other = with_password(people), people.stranger()
    other.post("/app/session", json={"name": "ann", "password": PASSWORD})
    change = {"password": "another long password"}
    assert refused(client.put("/app/password", json=change)) == (422, "invalid_request")
    assert client.put("/app/password", json=change | {"current": PASSWORD}).status_code == 204
    assert (signed_in_as(client), signed_in_as(other)) == ("ann", None)
    assert refused(client.put("/app/password", json={"password": "short"})) == (422, "invalid_request")


def test_a_session_that_is_not_used_ends(farm: ServedFarm, people: People) -> None:
    client = people.admin()
    rewind(farm, accounts.Change("UPDATE sessions SET last_used_at = last_used_at - 2592001"))
    farm.stop()
    with ServedFarm(farm.data) as again:
        client.base_url = again.url
        assert signed_in_as(client) is None


def test_a_change_without_the_header_of_the_app_is_refused(people: People) -> None:
    client = people.admin()
    del client.headers["Whisper-Farm-App"]
    calls = [("POST", "/api/uploads"), ("POST", "/api/transcriptions"), ("DELETE", "/api/tokens/x")]
    calls += [("POST", "/app/people"), ("DELETE", "/app/session"), ("POST", "/app/session"), ("PUT", "/app/password")]
    for method, path in calls:
        assert refused(client.request(method, path, json={})) == (403, "forbidden"), path
        foreign = APP | {"Sec-Fetch-Site": "cross-site"}
        assert refused(client.request(method, path, json={}, headers=foreign)) == (403, "forbidden"), path
    assert signed_in_as(client) == "admin"


def test_a_name_that_was_made_to_lead_here_is_refused(people: People) -> None:
    client = people.admin()
    evil = {"Host": "evil.example.com"}
    assert refused(client.get("/", headers=evil)) == (403, "forbidden")
    assert refused(client.get("/api/transcriptions", headers=evil)) == (403, "forbidden")
    assert refused(client.post("/app/session", json={"link": people.link()}, headers=evil)) == (403, "forbidden")
    for ours in ("localhost:1", "192.168.1.7", "[::1]:8765"):
        assert client.get("/api/transcriptions", headers={"Host": ours}).status_code == 200


def test_names_of_the_settings_lead_here(farm: ServedFarm) -> None:
    with ServedFarm(farm.data.parent / "other", allowed_hosts=("nas.home",)) as named:
        assert named.client("").get("/", headers={"Host": "nas.home:8765"}).status_code in (200, 503)


def test_tokens_work_under_any_name_as_workers_need_it(farm: ServedFarm) -> None:
    assert farm.admin.get("/api/transcriptions", headers={"Host": "evil.example.com"}).status_code == 200


def test_users_see_their_own_and_admins_all(people: People) -> None:
    ann, bob, admin = people.user("ann"), people.user("bob"), people.admin()
    made = submit(ann)
    place = f"/api/transcriptions/{made['id']}"
    assert [len(client.get("/api/transcriptions").json()["transcriptions"]) for client in (ann, bob, admin)] == [
        1,
        0,
        1,
    ]
    for path in ("", "/audio", "/peaks", "/jobs", "/segments", "/transcript"):
        assert refused(bob.get(place + path)) == (404, "not_found")
    assert refused(bob.delete(place)) == (404, "not_found")
    for person in (ann, admin):
        assert person.get(f"{place}/audio").json()["error"]["code"] == "not_made"


def test_only_admins_look_after_people(people: People) -> None:
    ann = people.user("ann")
    for method, path in [("GET", ""), ("POST", ""), ("POST", "/admin/link"), ("DELETE", "/admin")]:
        answer = ann.request(method, f"/app/people{path}", json={"name": "eve", "scope": "admin"})
        assert refused(answer) == (403, "forbidden")


def test_who_is_removed_is_out_at_once_with_tokens_and_open_streams(people: People) -> None:
    ann, admin = people.user("ann"), people.admin()
    token = ann.post("/api/tokens", json={"name": "mine", "scope": "user"}).json()["token"]
    program = people.farm.client(token)
    assert program.get("/api/transcriptions").status_code == 200
    with ann.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry")
        assert admin.delete("/app/people/ann").status_code == 204
        people.farm.admin.post("/api/tokens", json={"name": "x", "scope": "user", "owner": "ann"})
        submit(people.farm.user("ann"))  # an event wakes the stream
        assert not any(line.startswith("data") for line in lines)
    assert signed_in_as(ann) is None
    assert refused(program.get("/api/transcriptions")) == (401, "unauthorized")


def test_nothing_goes_on_for_who_is_removed(people: People) -> None:
    """Somebody of the same name later on has neither their feeds nor an address that is told of everything."""
    ann, admin = people.user("ann"), people.admin()
    kept = [("/api/webhooks", "webhooks"), ("/api/feeds", "feeds")]
    for path, _ in kept:
        assert ann.post(path, json={"url": "https://93.184.216.34/x"}).status_code == 201
    assert admin.delete("/app/people/ann").status_code == 204
    for path, what in kept:
        assert people.farm.user("ann").get(path).json() == {what: []}


def test_the_last_admin_stays(people: People) -> None:
    admin = people.admin()
    assert refused(admin.delete("/app/people/admin")) == (409, "wrong_state")
    assert refused(admin.post("/app/people", json={"name": "admin"})) == (409, "wrong_state")
    assert refused(admin.delete("/app/people/nobody")) == (404, "not_found")


def test_a_session_opens_nothing_of_workers_and_metrics(people: People) -> None:
    admin = people.admin()
    spoken = {"Whisper-Farm-Protocol": "1"}
    assert refused(admin.post("/api/work/register", json={}, headers=spoken)) == (401, "unauthorized")
    assert refused(admin.get("/metrics")) == (401, "unauthorized")


def test_looking_for_files_of_the_server_finds_none(people: People) -> None:
    client = people.admin()
    up = ("../farm.db", "..%2f..%2ffarm.db", "%2e%2e/%2e%2e/settings.py", "assets/../../settings.py", "//etc/passwd")
    for path in up:
        assert client.get(f"/app/{path}").status_code in (401, 404)


def test_a_page_and_its_files_are_careful(farm: ServedFarm) -> None:
    client = farm.client("")
    first, second = (client.get("/").headers["Content-Security-Policy"] for _ in range(2))
    assert first != second
    assert "'unsafe" not in first
    assert "default-src 'self'" in first
    for path in ("/", "/app/session", "/api/transcriptions", "/healthz"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_signing_out_ends_the_streams_of_the_session(people: People) -> None:
    client = people.admin()
    secret = dict(client.cookies)
    with client.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry")
        other = people.stranger()
        other.cookies.update(secret)
        assert other.delete("/app/session").status_code == 204
        submit(people.farm.admin)
        eventually(lambda: not any(line.startswith("data") for line in lines), "the end of the stream")


def test_the_app_asks_for_the_farms_model_unless_the_workers_have_none_but_others(start_farm: StartFarm) -> None:
    farm = start_farm(default_model="large-v3")
    admin = People(farm).admin()

    def model() -> str:
        return str(admin.get("/app/session").json()["model"])

    assert model() == "large-v3"
    with closing(HandWorker(farm.url, farm.token)) as worker:
        for engine, models, loaded, asked in (
            ("faster-whisper", None, ["tiny"], "large-v3"),
            ("faster-whisper", ["tiny"], [], "tiny"),
            ("tones", None, ["instant"], "tones: instant"),
            ("tones", None, [], "large-v3"),
        ):
            offer = worker.registration()["engines"][0] | {"engine": engine, "models": models, "loaded": loaded}
            worker.told("register", **worker.registration() | {"engines": [offer]})
            assert model() == asked, engine
