"""Bad input of every kind: each is a documented code in the one shape, nothing is changed and nothing leaks."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import TextClause, text
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in, refused
from support.submitting import AUDIO, submit

from whisper_farm.coordinator.layers import auth, limits
from whisper_farm.coordinator.layers.sessions import COOKIE
from whisper_farm.errors import every_error
from whisper_farm.protocol.wire import MAX_CHUNK_BYTES
from whisper_farm.store import schema
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import metadata
from whisper_farm.store.tokens import mint_token

CODES = every_error().keys()


def snapshot(farm: ServedFarm) -> object:
    """Everything a refused request could have changed."""
    events = farm.admin.get("/api/events", params={"after": 0, "once": True}).text
    return events, farm.admin.get("/api/transcriptions").json(), farm.admin.get("/api/workers").json()["workers"]


def test_nothing_but_health_and_the_page_of_the_app_answers_without_a_token(farm: ServedFarm) -> None:
    nobody = farm.client("")
    asked = ["GET /api/transcriptions", "GET /api/nothing/here", "GET /metrics", "GET /openapi.json", "GET /docs"]
    asked += ["GET /api/a%0Ab", "GET /%0A", "GET /api/work/%0A/x", "GET /x//", "OPTIONS *"]
    for line in (*asked, "POST /api/work/claim", "PUT /api/uploads/abc", "DELETE /healthz/"):
        for headers in ({}, {"Authorization": "Bearer wf_admin_forged"}, {"Authorization": "Basic abc"}):
            answer = nobody.request(*line.split(), headers=headers)
            assert refused(answer) == (401, "unauthorized"), line
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert nobody.get("/healthz").json() == {"status": "ok"}
    assert nobody.get("/readyz").json() == {"status": "ok"}


def test_what_belongs_to_others_is_as_little_there_as_nothing(either_farm: ServedFarm) -> None:
    farm = either_farm
    ann, bob = farm.user("ann"), farm.user("bob")
    made = submit(ann)
    place = f"/api/transcriptions/{made['id']}"
    calls = [
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
        ("GET", "/jobs"),
        ("GET", "/segments"),
    ]
    for method, rest in [*calls, ("GET", "/transcript")]:
        theirs, nobodys = bob.request(method, place + rest), bob.request(method, "/api/transcriptions/none" + rest)
        assert refused(theirs) == refused(nobodys) == (404, "not_found")
        assert theirs.text.replace(made["id"], "none") == nobodys.text
    assert refused(bob.get("/api/events", params={"transcription": made["id"]})) == (404, "not_found")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    assert refused(bob.put(f"/api/uploads/{upload}", content=b"abc")) == (404, "not_found")
    named = {"name": "a", "upload_id": upload}
    assert refused(bob.post("/api/transcriptions", json=named)) == (404, "not_found")
    assert bob.get("/api/transcriptions").json()["transcriptions"] == []
    assert ann.get(place).json()["state"] == "queued"
    assert farm.admin.get(place).json()["owner"] == "ann"


BODIES: list[tuple[str, bytes]] = [
    ("no JSON", b"{not json"),
    ("half a JSON", b'{"name": "a", "size": '),
    ("no UTF-8", b'{"name": "\xff\xfe", "size": 1}'),
    ("half a character", b'{"name": "\\ud800", "size": 1}'),
    ("a NUL", b'{"name": "a\\u0000b", "size": 1}'),
    ("a raw NUL", b'{"name": "a\x00b", "size": 1}'),
    ("a NUL behind a backslash", b'{"name": "a\\\\\\u0000b", "size": 1}'),
    ("a list", b"[1, 2]"),
    ("nothing", b""),
    ("wrong type", b'{"name": 5, "size": "many"}'),
    ("a huge number", b'{"name": "a", "size": ' + b"9" * 400 + b"}"),
    ("a number with too many digits to read", b'{"name": "a", "size": ' + b"9" * 10_000 + b"}"),
    ("infinity", b'{"name": "a", "size": Infinity}'),
    ("a negative size", b'{"name": "a", "size": -1}'),
    ("too long a name", b'{"name": "' + b"a" * 300 + b'", "size": 1}'),
    ("an unknown field", b'{"name": "a", "size": 1, "admin": true}'),
    ("brackets without end", b"[" * 60_000),
]


def test_a_malformed_body_is_refused_and_changes_nothing(either_farm: ServedFarm) -> None:
    farm = either_farm
    before = snapshot(farm)
    for name, body in BODIES:
        answer = farm.admin.post("/api/uploads", content=body, headers={"Content-Type": "application/json"})
        assert refused(answer) == (422, "invalid_request"), name
        assert len(answer.content) < 5000, name
    assert snapshot(farm) == before


def test_a_body_that_was_not_sent_as_json_is_answered_with_how_to_send_it(farm: ServedFarm) -> None:
    how = "body: a JSON object is wanted here, sent with the header `Content-Type: application/json`"
    for sent in (
        {"content": b'{"name": "a", "size": 1}', "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"json": ["a"]},
        {},
    ):
        answer = farm.admin.post("/api/uploads", **sent)  # type: ignore[arg-type]
        assert refused(answer) == (422, "invalid_request")
        assert answer.json()["error"]["message"] == how


NUL_ADDRESSES = [
    ("GET", "/api/transcriptions?title=%00"),
    ("GET", "/api/search?words=a%00b"),
    ("POST", "/api/join-codes?owner=a%00b"),
    ("GET", "/api/transcriptions/a%00b"),
    ("DELETE", "/api/uploads/a%00b"),
    ("POST", "/asr?initial_prompt=a%00b"),
]


@pytest.mark.parametrize(("method", "address"), NUL_ADDRESSES)
def test_an_address_with_nul_is_refused(either_farm: ServedFarm, method: str, address: str) -> None:
    answer = either_farm.admin.request(method, address)
    assert answer.status_code == 422, answer.text
    assert "NUL" in answer.text or address.startswith("/asr")  # a refusal there has no text


def test_a_text_that_only_speaks_of_nul_is_taken_as_it_is(either_farm: ServedFarm, make_worker: MakeWorker) -> None:
    farm, worker = either_farm, make_worker(either_farm)
    spoken = " in JSON a NUL is \\u0000, \\\\u0000 and \\\\\\u0000"
    made = submit(farm.admin, name=spoken, options={"initial_prompt": spoken})
    assert (made["name"], made["options"]["initial_prompt"]) == (spoken, spoken)
    worker.cut_whole(1)
    assert [outcome["error_code"] for outcome in worker.finish(*worker.claim(1), text=spoken)] == [None]
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    assert farm.admin.get(f"{place}/transcript", params={"format": "txt"}).text == f"{spoken.strip()}\n"


REQUESTS: list[tuple[str, str, int]] = [
    ("GET", "/api/transcriptions/unknown", 404),
    ("GET", "/api/transcriptions/%00", 422),
    ("GET", "/api/transcriptions/%2e%2e%2f%2e%2e%2fetc", 404),
    ("GET", "/api/transcriptions/ünïcode", 422),
    ("GET", "/api/transcriptions/" + "x" * 5000, 422),
    ("GET", "/api/transcriptions?limit=0", 422),
    ("GET", "/api/transcriptions?limit=99999999999999999999999", 422),
    ("GET", "/api/transcriptions?after=nonsense", 422),
    ("GET", "/api/transcriptions?after=nan:x", 422),
    ("GET", "/api/transcriptions?after=1:%00", 422),
    ("GET", "/api/transcriptions?after=1e999:x", 200),
    ("GET", "/api/transcriptions?state=asleep", 422),
    ("GET", "/api/events?after=-1", 422),
    ("GET", "/api/events?after=9223372036854775808", 422),
    ("GET", "/api/workers/unknown/drain", 405),
    ("POST", "/api/workers/unknown/drain", 404),
    ("DELETE", "/api/tokens/unknown", 404),
    ("PATCH", "/api/tokens", 405),
    ("GET", "/api/nothing", 404),
    ("PUT", "/api/uploads/unknown", 404),
]


def test_a_request_that_cannot_be_met_says_why(either_farm: ServedFarm) -> None:
    farm = either_farm
    for method, path, status in REQUESTS:
        answer = farm.admin.request(method, path)
        assert answer.status_code == status, path
        if status != 200:
            refused(answer)
        if status == 405:
            assert method not in answer.headers["Allow"], path
    assert farm.admin.options("/api/transcriptions/x").headers["Allow"] == "DELETE, GET, PATCH"


def test_a_worker_of_another_protocol_is_told_so(farm: ServedFarm) -> None:
    for spoken in ({}, {"Whisper-Farm-Protocol": "2"}, {"Whisper-Farm-Protocol": "x" * 500}):
        for method, path in (("POST", "/api/work/claim"), ("GET", "/api/work/source/" + "t" * 32)):
            answer = farm.admin.request(method, path, headers=spoken)
            assert refused(answer) == (426, "protocol_mismatch"), spoken


def test_a_claim_token_that_was_never_minted_opens_nothing(farm: ServedFarm, worker: HandWorker) -> None:
    forged = "f" * 32
    assert refused(worker.http.get(f"/api/work/source/{forged}")) == (409, "lease_lost")
    assert refused(worker.http.get(f"/api/work/audio/{forged}")) == (409, "lease_lost")
    assert refused(worker.http.put(f"/api/work/uploads/{forged}/0", content=b"x")) == (409, "lease_lost")
    assert refused(worker.http.get("/api/work/source/..%2f..%2fetc%2fpasswd")) == (404, "not_found")
    assert refused(worker.http.put(f"/api/work/uploads/{forged}/-1", content=b"x")) == (422, "invalid_request")


def test_a_claim_opens_only_what_its_job_needs(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    cutting = worker.begin(1)
    (hearing,) = worker.claim(1)
    assert refused(worker.http.get(f"/api/work/audio/{cutting['token']}")) == (422, "invalid_request")
    assert refused(worker.http.get(f"/api/work/source/{hearing['token']}")) == (422, "invalid_request")
    assert refused(worker.http.put(f"/api/work/uploads/{hearing['token']}/0", content=b"x"))[0] == 422
    assert refused(worker.ask("uploads", token=hearing["token"], positions=[0])) == (422, "invalid_request")


def test_a_body_over_the_limit_is_refused_before_it_is_read(start_farm: StartFarm) -> None:
    farm = start_farm(max_body_bytes=2000)
    big = json.dumps({"name": "a" * 5000, "size": 1}).encode()
    assert refused(farm.admin.post("/api/uploads", content=big)) == (413, "too_large")
    assert refused(farm.admin.post("/api/uploads", content=iter([big[:1500], big[1500:]]))) == (413, "too_large")
    huge = (bytes(1 << 16) for _ in range(100))
    answer = farm.admin.post("/api/uploads", content=huge)
    assert refused(answer) == (413, "too_large")
    assert answer.headers["Connection"] == "close"
    assert farm.admin.get("/api/transcriptions").status_code == 200


def looked_up_late(
    known: auth.KnownSecrets[Any],
    monkeypatch: pytest.MonkeyPatch,
    asked: int,
    go_on: Callable[[], object] = lambda: None,
) -> list[int]:
    """How many are looked up at a time, from now on; the first waits until so many have asked, and may go on."""
    find, reads = known._find, list[int]()

    def late(tx: Transaction, digests: Collection[str]) -> Sequence[Any]:
        reads.append(len(digests))
        if len(reads) == 1:
            eventually(lambda: len(digests) + len(known._look_ups) >= asked, "all have asked")
            go_on()
        return find(tx, digests)

    monkeypatch.setattr(known, "_find", late)
    monkeypatch.setattr(auth, "REFUSED_SECONDS", 60)
    return reads


def test_junk_sessions_are_looked_up_together_and_keep_no_token_waiting(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, junk, answered = farm.client(farm.token_for("user", "ann")), 60, threading.Event()
    reads = looked_up_late(farm.coordinator.sessions, monkeypatch, junk, lambda: answered.wait(60))
    with ThreadPoolExecutor(junk) as pool:
        cookies = [{"Cookie": f"{COOKIE}=junk-{number}"} for number in range(junk)]
        refusals = [pool.submit(farm.client("").get, "/api/transcriptions", headers=each) for each in cookies]
        eventually(lambda: reads, "the first look-up")
        assert good.get("/api/transcriptions").status_code == 200
        answered.set()
        assert {refused(one.result(60)) for one in refusals} == {(401, "unauthorized")}
    assert len(reads) <= 2


def test_junk_tokens_are_looked_up_together_and_keep_a_good_one_waiting_for_no_more_than_two_reads(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, junk = farm.client(farm.token_for("user", "ann")), 60
    reads = looked_up_late(farm.coordinator.tokens, monkeypatch, junk + 1)
    clients = [farm.client(f"wf_user_{number}") for number in range(junk)]
    with ThreadPoolExecutor(junk + 1) as pool:
        refusals = [pool.submit(client.get, "/api/transcriptions") for client in clients]
        eventually(lambda: reads, "the first look-up")
        answer = pool.submit(good.get, "/openapi.json")
        assert answer.result(60).status_code == 200
        answers = Counter(refused(one.result(60)) for one in refusals)
    assert answers == {(401, "unauthorized"): auth.WRONG_TOKENS, (429, "too_many_tries"): junk - auth.WRONG_TOKENS}
    assert len(reads) <= 2
    assert refused(clients[0].get("/api/transcriptions")) == (429, "too_many_tries")
    assert len(reads) <= 2, "a refusal is remembered for a moment"


def test_a_token_that_was_refused_a_moment_ago_opens_once_it_is_made(farm: ServedFarm) -> None:
    secret = "wf_user_" + "x" * 43
    assert refused(farm.client(secret).get("/api/transcriptions")) == (401, "unauthorized")

    def make(tx: Transaction) -> None:
        row, _ = mint_token(tx, "a", "ann", "user")
        tx.connection.exec_driver_sql(
            f"UPDATE tokens SET hash = '{hashlib.sha256(secret.encode()).hexdigest()}' WHERE id = '{row.id}'"
        )

    farm.coordinator.database.write(make)
    eventually(lambda: farm.client(secret).get("/api/transcriptions").status_code == 200, "the token")


def test_large_bodies_take_turns_and_small_ones_do_not_wait(
    start_farm: StartFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGE_BODIES_AT_ONCE", 1)
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.3)
    farm = start_farm(max_call_bytes=1 << 20)
    worker = make_worker(farm)
    url = httpx.URL(farm.url)
    length = limits.SMALL_BODY_BYTES + 2
    head = (
        f"POST /api/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {farm.token}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    large = b" " * length
    with socket.create_connection((url.host, url.port or 80)) as half:
        half.sendall(head.encode() + large[:-1])
        answer = eventually(lambda: busy(farm, large), "the first body to have its turn")
        assert answer.headers["Retry-After"] == "1"
        assert farm.admin.post("/api/uploads", json={"name": "a", "size": 1}).status_code == 201
        assert refused(worker.ask("heartbeat", tokens=[], padding="x" * length)) == (422, "invalid_request")
        half.sendall(large[-1:])
        assert b" 422 " in half.recv(1 << 16)
    assert refused(farm.admin.post("/api/uploads", content=large)) == (422, "invalid_request")


def busy(farm: ServedFarm, body: bytes) -> httpx.Response | None:
    """The answer to a large body, once it is that others have their turn."""
    answer = farm.admin.post("/api/uploads", content=body)
    return answer if refused(answer) == (503, "server_busy") else None


def test_an_error_nobody_foresaw_says_nothing_of_itself(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("the secret is 12345")

    monkeypatch.setattr(farm.coordinator.store, "read", broken)
    answer = farm.admin.get("/api/transcriptions")
    assert refused(answer) == (500, "internal")
    assert "12345" not in answer.text


def test_a_database_that_cannot_serve_is_a_reason_to_try_again(farm: ServedFarm) -> None:
    farm.coordinator.database.close()
    answer = farm.admin.get("/api/transcriptions")
    assert refused(answer) == (503, "store_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert refused(farm.client("").get("/readyz")) == (503, "store_unavailable")
    assert farm.client("").get("/healthz").status_code == 200


def upgraded_by(version: int, compatible_from: int) -> TextClause:
    """What the upgrade of a later release says of the tables."""
    return text(f"UPDATE schema_version SET version = {version}, compatible_from = {compatible_from}")


def test_a_server_whose_tables_were_changed_under_it_is_not_ready(either_farm: ServedFarm) -> None:
    nobody, database = either_farm.client(""), either_farm.coordinator.database
    assert nobody.get("/readyz").status_code == 200
    database.write(lambda tx: tx.connection.execute(upgraded_by(99, compatible_from=99)))
    assert refused(nobody.get("/readyz")) == (503, "schema_mismatch")
    assert nobody.get("/healthz").status_code == 200


def test_a_server_works_on_when_a_later_release_has_added_to_its_tables(
    either_farm: ServedFarm, make_worker: MakeWorker
) -> None:
    def upgrade(tx: Transaction) -> None:
        for table in metadata.tables:
            tx.connection.execute(text(f"ALTER TABLE {table} ADD COLUMN added TEXT DEFAULT 'later'"))
        tx.connection.execute(upgraded_by(99, compatible_from=schema.VERSION))

    either_farm.coordinator.database.write(upgrade)
    assert either_farm.client("").get("/readyz").status_code == 200
    worker = make_worker(either_farm)
    made = submit(either_farm.user("ann"))
    worker.cut_whole(2)
    worker.finish(*worker.claim(2))
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: either_farm.admin.get(place).json()["state"] == "done")
    for path in (
        f"{place}/jobs",
        f"{place}/segments",
        "/api/transcriptions",
        "/api/workers",
        "/api/tokens",
        "/metrics",
    ):
        assert either_farm.admin.get(path).status_code == 200, path
    assert either_farm.admin.delete(place).status_code == 204


def talk(farm: ServedFarm, sent: bytes, seconds: float = 10) -> bytes:
    """Send raw bytes, keep the connection open, and return what comes until the server closes it."""
    url = httpx.URL(farm.url)
    with socket.create_connection((url.host, url.port or 80), timeout=seconds) as connection:
        connection.sendall(sent)
        received = b""
        while block := connection.recv(65536):
            received += block
        return received


def test_a_client_that_sends_half_a_request_is_cut_off(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as impatience:
        impatience.setattr("whisper_farm.coordinator.connection.HEAD_SECONDS", 0.2)
        for half in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:"):
            started = time.monotonic()
            assert talk(farm, half) == b""
            assert time.monotonic() - started < 5
    assert farm.admin.get("/healthz").status_code == 200


def test_a_body_that_does_not_come_is_given_up(start_farm: StartFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.RequestLimits.__init__, "__defaults__", (0.2,))
    farm = start_farm()
    head = f"POST /api/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {farm.token}\r\nContent-Length: 99\r\n\r\n"
    answer = talk(farm, head.encode() + b'{"name":')
    assert b" 408 " in answer.splitlines()[0]
    assert b'"too_slow"' in answer


def test_an_upload_that_stalls_is_given_up(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_IDLE_SECONDS", 0.2)
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 1000}).json()["upload_id"]
    head = (
        f"PUT /api/uploads/{upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {farm.token}\r\n"
        "Content-Length: 1000\r\n\r\n"
    )
    answer = talk(farm, head.encode() + b"x" * 500)
    assert b" 408 " in answer.splitlines()[0]
    assert blobs(farm) == []


def test_a_client_that_takes_nothing_of_its_answer_is_given_up(
    farm: ServedFarm, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.2)
    submit(farm.admin, audio=bytes(30_000_000))
    (claim,) = worker.claim(0, chunk=1)
    head = (
        f"GET {claim['task']['source']['transfer']['url']} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {farm.token}\r\nWhisper-Farm-Protocol: 1\r\n\r\n"
    )
    url = httpx.URL(farm.url)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(head.encode())
        gone = 'whisper_farm_request_seconds_count{method="GET",route="/api/work/source/{token}",status="499"} 1.0'
        eventually(lambda: gone in farm.admin.get("/metrics").text, "the end of the answer")


def test_an_upload_that_breaks_off_leaves_nothing(farm: ServedFarm) -> None:
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 50_000_000}).json()["upload_id"]
    head = (
        f"PUT /api/uploads/{upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {farm.token}\r\n"
        "Content-Length: 50000000\r\n\r\n"
    )
    url = httpx.URL(farm.url)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(head.encode() + bytes(20_000_000))
    eventually(lambda: blobs(farm) == [], "the end of the upload")
    assert farm.admin.put(f"/api/uploads/{upload}", content=b"short").json()["error"]["code"] == "digest_mismatch"


def blobs(farm: ServedFarm) -> list[str]:
    return sorted(str(path) for path in files_in(farm.data / "blobs") if path.parent.name != "blobs")


def test_an_upload_is_exactly_what_was_announced(farm: ServedFarm) -> None:
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()["upload_id"]
    place = f"/api/uploads/{upload}"
    for sent in (AUDIO[:-1], AUDIO + b"!"):
        assert refused(farm.admin.put(place, content=sent)) == (422, "digest_mismatch")
    assert refused(farm.admin.put(place, content=iter([AUDIO[:-1]]))) == (422, "digest_mismatch")
    assert refused(farm.admin.put(place, content=iter([AUDIO, b"!"]))) == (413, "too_large")
    assert blobs(farm) == []
    submitted = farm.admin.post("/api/transcriptions", json={"name": "a", "upload_id": upload})
    assert refused(submitted) == (409, "wrong_state")


OURS = {"$ref": "#/components/schemas/ErrorBody"}
SHAPES: dict[str, tuple[str, dict[str, object]]] = {
    "openai": ("400", {"$ref": "#/components/schemas/OpenAIErrorBody"}),
    "deepgram": ("400", {"$ref": "#/components/schemas/DeepgramError"}),
    "asr": ("422", {"type": "string", "maxLength": 0}),
}
"""Dialects of other programs: the status of a malformed request, and the shape of their errors."""


def test_the_openapi_document_names_every_error_and_the_way_in(farm: ServedFarm) -> None:
    document = farm.admin.get("/openapi.json").json()
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["ErrorBody"]["required"] == ["error"]
    for method, path, operation in operations:
        if path in ("/healthz", "/readyz", "/webservice/status"):
            continue
        assert operation["security"] == [{"token": []}], (method, path)
        malformed, shape = SHAPES.get(operation["tags"][0], ("422", OURS))
        usual = {"401", "403", "408", "413", malformed, "500", "503", "507"}
        assert usual <= operation["responses"].keys(), (method, path)
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and int(status) != 416:
                (schema,) = (content["schema"] for content in answer["content"].values())
                assert schema == shape, (method, path, status)


def test_the_audio_of_a_chunk_has_a_largest_size(farm: ServedFarm, worker: HandWorker) -> None:
    submit(farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    kept = blobs(farm)
    place = worker.told("uploads", token=cutting["token"], positions=[0])["uploads"][0]
    largest = bytes(MAX_CHUNK_BYTES)
    assert refused(worker.transfer(place["transfer"], largest + b"!")) == (413, "too_large")
    assert blobs(farm) == kept
    chunk = worker.upload(cutting, 0, largest)
    answer = worker.ask("append", token=cutting["token"], chunks=[{**chunk, "size": MAX_CHUNK_BYTES + 1}])
    assert refused(answer) == (422, "invalid_request")
    assert worker.told("append", token=cutting["token"], chunks=[chunk])["next_position"] == 1
