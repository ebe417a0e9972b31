"""Bodies that are wrong in a million places, or larger than their call needs, cost their sender and nobody else."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack

import httpx
import pytest
from pydantic import BaseModel
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, refused
from support.strangers import pulse

from whisper_farm.coordinator import dialect
from whisper_farm.coordinator.layers import limits
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.protocol.worker import digest_of

JSON = {"Content-Type": "application/json"}
WORST_SECONDS = 1.5
"""Bodies of 4 MB are the largest. The server shares its core and its interpreter with the test."""


def test_a_user_call_takes_no_more_than_64_kib(farm: ServedFarm) -> None:
    ann = farm.user("ann")
    for path in ("/api/uploads", "/api/transcriptions", "/api/tokens"):
        body = b'{"name": "' + b"a" * (64 << 10) + b'"}'
        assert refused(ann.post(path, content=body, headers=JSON)) == (413, "too_large")


def test_a_worker_call_takes_as_much_as_it_needs(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    body = b'{"worker_id": "w-1", "x": "' + b"a" * (600 << 10) + b'"}'
    for call in ("register", "claim", "heartbeat", "uploads", "append", "release"):
        assert refused(worker.http.post(f"/api/work/{call}", content=body, headers=JSON)) == (413, "too_large"), call
    assert refused(worker.http.post("/api/work/complete", content=body, headers=JSON))[0] == 422
    tokens = [f"{number:064}" for number in range(4096)]
    assert len(worker.told("heartbeat", tokens=tokens)["lost"]) == 4096


def test_who_holds_the_turns_of_large_bodies_keeps_no_other_worker_out(
    start_farm: StartFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that trickles has its turn for half a minute."""
    monkeypatch.setattr(limits, "LARGE_BODIES_AT_ONCE", 2)
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.3)
    farm = start_farm()
    hostile, honest = farm.token_for("worker", "hostile"), make_worker(farm)
    url, large = httpx.URL(farm.url), b" " * (limits.SMALL_BODY_BYTES + 2)
    told = f"Authorization: Bearer {hostile}\r\n{PROTOCOL_HEADER}: {PROTOCOL_VERSION}\r\nContent-Length: {len(large)}"
    with ExitStack() as stack:
        for _ in range(2):
            line = stack.enter_context(socket.create_connection((url.host, url.port or 80)))
            line.sendall(f"POST /api/work/complete HTTP/1.1\r\nHost: x\r\n{told}\r\n\r\n".encode() + large[:-1])
        theirs = farm.client(hostile)
        theirs.headers[PROTOCOL_HEADER] = str(PROTOCOL_VERSION)
        busy = (503, "server_busy")
        eventually(lambda: refused(theirs.post("/api/work/complete", content=large)) == busy, "they hold all turns")
        assert refused(honest.http.post("/api/work/complete", content=large, headers=JSON))[0] == 422


def test_a_large_body_is_looked_at_beside_the_event_loop(
    farm: ServedFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    parsed = dialect.parsed

    def noted(model: type[BaseModel], body: bytes) -> BaseModel:
        threads.append(threading.current_thread().name)
        return parsed(model, body)

    monkeypatch.setattr(dialect, "parsed", noted)
    worker = make_worker(farm, "w-7")
    worker.told("heartbeat", tokens=[])
    worker.told("heartbeat", tokens=[f"{number:064}" for number in range(4096)])
    *small, large = threads
    assert set(small) == {"served-farm"} != {large}


NONSENSE = {
    "small wrong elements": b'{"worker_id": "w-1", "completions": [' + b"0," * 2_000_000 + b"0]}",
    "wrong elements within": b'{"worker_id": "w-1", "completions": [{"token": "' + b"a" * 20
    + b'", "digest": "' + b"0" * 64 + b'", "transcribe": {"segments": [' + b"{}," * 1_300_000 + b"{}]}}]}",
    "fields nobody knows": b'{"worker_id": "w-1", "completions": [],'
    + b",".join(b'"%d":0' % number for number in range(350_000)) + b"}",
    "brackets": b'{"worker_id": "w-1", "completions": ' + b"[" * 2_000_000,
}  # fmt: skip


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
def test_four_megabytes_of_nonsense_are_refused_at_the_first_mistake(
    farm: ServedFarm, make_worker: MakeWorker, body: bytes
) -> None:
    worker = make_worker(farm)
    with pulse(farm) as taken:
        answer = worker.http.post("/api/work/complete", content=body, headers=JSON)
    assert refused(answer) == (422, "invalid_request")
    assert len(answer.content) < 10_000
    assert taken.worst_seconds < WORST_SECONDS


UNKNOWN = ",".join(f'"{number}":0' for number in range(220_000))
RESULTS = {
    "segments.0.words.0: ": '{"segments": [{"start": 0, "end": 1, "text": "x", "words": [' + "0," * 1_900_000 + "0]}]}",
    "220": "{" + UNKNOWN + "}",
    "2200": '{"segments": [{' + UNKNOWN + "}]}",
    "peaks.0: ": '{"duration_seconds": 1, "peaks": [' + "2," * 1_900_000 + "0]}",
}


@pytest.mark.parametrize(("first", "result"), RESULTS.items(), ids=RESULTS.keys())
def test_a_result_of_nonsense_is_refused_at_the_first_mistake_or_by_their_number(
    farm: ServedFarm, make_worker: MakeWorker, first: str, result: str
) -> None:
    """Its text is checked by itself. To name all that is wrong with it took four seconds; nobody was served."""
    kind = "peaks" if "peaks" in first else "transcribe"
    one = {"token": "a" * 20, "kind": kind, "digest": digest_of(result.encode()), "result": result}
    (outcome,) = make_worker(farm).complete([one])
    assert outcome["error_code"] == "invalid_request"
    assert f"job: {first}" in outcome["message"]


def test_a_lone_surrogate_is_refused_wherever_it_stands(farm: ServedFarm, make_worker: MakeWorker) -> None:
    ann = farm.user("ann")
    bodies = {
        "/api/uploads": b'{"name": "a\\ud800b", "size": 3}',
        "/api/transcriptions": b'{"name": "a\\udfff", "upload_id": "1"}',
        "/api/tokens": b'{"name": "\\udc00", "scope": "user"}',
    }
    for path, body in bodies.items():
        assert refused(ann.post(path, content=body, headers=JSON)) == (422, "invalid_request"), path
    field = b'{"name": "a", "size": 3, "\\ud800": 1}'
    assert refused(ann.post("/api/uploads", content=field, headers=JSON)) == (422, "invalid_request")
    worker = make_worker(farm)
    body = b'{"worker_id": "w-1", "failures": [{"token": "' + b"a" * 20 + b'", "code": "x", "message": "\\ud83d"}]}'
    assert refused(worker.http.post("/api/work/fail", content=body, headers=JSON)) == (422, "invalid_request")


def test_names_of_fields_cost_as_little_as_their_length(farm: ServedFarm) -> None:
    """Two hundred names of brackets took half a minute of the event loop."""
    part = b'--b\r\nContent-Disposition: form-data; name="' + b"[]" * 1900 + b'x"\r\n\r\n1\r\n'
    form = part * 190 + b"--b--\r\n"
    with pulse(farm) as taken:
        answer = farm.user("ann").post(
            "/v1/audio/transcriptions", content=form, headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    assert answer.status_code == 400
    assert taken.worst_seconds < WORST_SECONDS
