"""The client keeps its promises against a server that does not always behave."""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from support.fake_server import Answer, FakeServer, Talk, error, view

from whisper_farm.client import calls, events, transport, uploads
from whisper_farm.client.farm import FarmClient
from whisper_farm.errors import (
    FarmError,
    InvalidRequest,
    NotFound,
    ServerUnreachable,
    StoreUnavailable,
    Unauthorized,
    WrongState,
    every_error,
)
from whisper_farm.protocol.client import EventView, Submission
from whisper_farm.transcript.options import RecognitionOptions

ONE = "/api/transcriptions/3k7qz2m9xw4a"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(events, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def farm(server: FakeServer) -> Iterator[FarmClient]:
    with FarmClient(server.address, "secret", timeout=60) as farm:
        yield farm


def test_every_call_carries_the_token(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"GET {ONE}", (200, view()))
    assert farm.get("3k7qz2m9xw4a").name == "talk.mp3"
    assert server.asked[0].headers["Authorization"] == "Bearer secret"


def test_a_threshold_that_is_switched_off_arrives_as_such(server: FakeServer, farm: FarmClient) -> None:
    server.tell("POST /api/transcriptions", (201, view()))
    options = RecognitionOptions(logprob_threshold=None)
    farm.submit(Submission(name="talk.mp3", path="/talk.mp3", options=options))
    assert json.loads(server.asked[0].body)["options"] == {"logprob_threshold": None}


@pytest.mark.parametrize(
    ("status", "advice"), [(413, "client_max_body_size"), (502, "does that run"), (504, "more time")]
)
def test_what_a_proxy_answers_in_the_place_of_the_farm_is_told_as_the_proxys(
    server: FakeServer, farm: FarmClient, status: int, advice: str
) -> None:
    server.tell("POST /api/transcriptions", (status, b"<html>nginx</html>", "text/html"))
    with pytest.raises(ServerUnreachable, match=f"answered {status} .* proxy .*{advice}"):
        farm.submit(Submission(name="talk.mp3", upload_id="u"))


@pytest.mark.parametrize("code", sorted(every_error()))
def test_an_error_comes_back_as_the_class_it_was_raised_as(server: FakeServer, farm: FarmClient, code: str) -> None:
    kind = every_error()[code]
    server.tell(f"POST {ONE}/retry", (kind.status, error(code, "What happened.", position=7)))
    with pytest.raises(FarmError) as caught:
        farm.retry("3k7qz2m9xw4a")
    assert type(caught.value) is kind
    assert caught.value.message == "What happened."
    assert caught.value.details == {"position": 7}


def test_an_error_of_a_newer_server_is_still_an_error_of_the_farm(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"GET {ONE}", (418, error("teapot", "Short and stout.")))
    with pytest.raises(FarmError, match=r"Short and stout\."):
        farm.get("3k7qz2m9xw4a")


def test_a_server_that_is_no_farm_is_named(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"GET {ONE}", (404, b"<html>nginx</html>", "text/html"))
    with pytest.raises(ServerUnreachable, match="answered 404 Not Found, and not as a Whisper Farm server"):
        farm.get("3k7qz2m9xw4a")
    server.tell(f"GET {ONE}", (200, b"<html>welcome</html>", "text/html"))
    with pytest.raises(ServerUnreachable, match="makes no sense"):
        farm.get("3k7qz2m9xw4a")


def test_an_answer_with_fields_of_a_newer_server_is_understood(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"GET {ONE}", (200, view(mood="good")))
    assert farm.get("3k7qz2m9xw4a").state == "queued"


def test_nobody_there_is_said_with_the_address() -> None:
    address = "http://127.0.0.1:9"
    with FarmClient(address, "x") as farm, pytest.raises(ServerUnreachable, match=address):
        farm.server()


@pytest.mark.parametrize("address", ["http://[::1", "http://a b/", "ftp://farm"])
def test_an_address_that_is_none_is_an_error_of_the_farm(address: str) -> None:
    with pytest.raises((InvalidRequest, ServerUnreachable)), FarmClient(address, "x", timeout=1) as farm:
        farm.server()


def test_a_lost_answer_is_asked_for_again(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"GET {ONE}", Talk.hang_up, (503, error("store_unavailable", "Busy.")), (200, view()))
    assert farm.get("3k7qz2m9xw4a").state == "queued"
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_says_why_in_the_end(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"GET {ONE}", (503, error("store_unavailable", "Busy.")))
    with pytest.raises(StoreUnavailable, match="Busy"):
        farm.get("3k7qz2m9xw4a")
    assert len(server.asked) == calls.TRIES


def dripping(talk: Talk) -> None:
    """An answer that comes byte by byte and never ends."""
    talk.send_response(200)
    talk.send_header("Content-Type", "application/json")
    talk.send_header("Content-Length", "1000000")
    talk.end_headers()
    with suppress(OSError):
        for _ in range(200):
            talk.stream("x")
            threading.Event().wait(0.02)
    talk.close_connection = True


def dripping_head(talk: Talk) -> None:
    """The head of an answer that comes byte by byte and never ends."""
    with suppress(OSError):
        talk.stream("HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(200):
            talk.stream("x")
            threading.Event().wait(0.02)
    talk.close_connection = True


@pytest.mark.parametrize("answer", [dripping, dripping_head])
def test_every_call_ends_within_its_time_out_though_the_server_drips(server: FakeServer, answer: Answer) -> None:
    calls: dict[str, Callable[[FarmClient], object]] = {
        f"GET {ONE}": lambda farm: farm.get("3k7qz2m9xw4a"),
        f"GET {ONE}/transcript": lambda farm: farm.transcript("3k7qz2m9xw4a"),
        f"DELETE {ONE}": lambda farm: farm.delete("3k7qz2m9xw4a"),
        "GET /api/transcriptions": lambda farm: list(farm.list()),
    }
    with FarmClient(server.address, "secret", timeout=0.3) as farm:
        for name, call in calls.items():
            server.tell(name, answer)
            began = time.monotonic()
            with pytest.raises(ServerUnreachable):
                call(farm)
            assert time.monotonic() - began < 1.5, name


def test_what_may_not_be_done_twice_is_not_sent_twice(server: FakeServer, farm: FarmClient) -> None:
    server.tell("POST /api/transcriptions", Talk.hang_up)
    with pytest.raises(ServerUnreachable):
        farm.submit(Submission(name="talk.mp3", upload_id="u1"))
    assert len(server.asked) == 1


def test_a_submission_with_a_key_is_sent_again(server: FakeServer, farm: FarmClient) -> None:
    server.tell("POST /api/transcriptions", Talk.hang_up, (200, view()))
    assert farm.submit(Submission(name="talk.mp3", upload_id="u1", key="k")).id == "3k7qz2m9xw4a"
    assert server.asked[0].body == server.asked[1].body


def test_refusals_are_not_repeated(server: FakeServer, farm: FarmClient) -> None:
    server.tell(f"POST {ONE}/cancel", (409, error("wrong_state", "It is done.")))
    with pytest.raises(WrongState):
        farm.cancel("3k7qz2m9xw4a")
    server.tell("GET /api/server", (401, error("unauthorized", "No.")))
    with pytest.raises(Unauthorized):
        farm.server()
    assert len(server.asked) == 2


def test_whatever_is_typed_as_an_id_stays_one_step_of_the_path(server: FakeServer, farm: FarmClient) -> None:
    with pytest.raises(NotFound):
        farm.delete("../tokens/x?y")
    assert server.asked[0].path == "/api/transcriptions/..%2Ftokens%2Fx%3Fy"


def test_a_list_is_read_page_by_page_and_no_further_than_needed(server: FakeServer, farm: FarmClient) -> None:
    def page(first: int, next_page: str | None) -> tuple[int, bytes]:
        views = [json.loads(view(id=f"t{number}")) for number in range(first, first + 2)]
        return 200, json.dumps({"transcriptions": views, "next": next_page}).encode()

    server.tell("GET /api/transcriptions", page(0, "c1"), page(2, "c2"), page(4, None))
    assert [one.id for one in farm.list()] == ["t0", "t1", "t2", "t3", "t4", "t5"]
    server.tell("GET /api/transcriptions", page(0, "c1"), page(2, "c2"), page(4, None))
    server.asked.clear()
    assert [one.id for one in islice(farm.list(), 3)] == ["t0", "t1", "t2"]
    assert len(server.asked) == 2


def got(count: int) -> tuple[int, bytes]:
    return 200, json.dumps({"received_bytes": count}).encode()


def test_a_file_is_streamed_with_progress_and_submitted(server: FakeServer, farm: FarmClient, tmp_path: Path) -> None:
    file = tmp_path / "講演 ☕.mp3"
    file.write_bytes(bytes(range(256)) * 16384)
    size = file.stat().st_size
    target = {"upload_id": "u1", "transfer": {"url": "/api/uploads/u1", "method": "PATCH", "headers": {"X-Extra": "1"}}}
    server.tell("POST /api/uploads", (200, json.dumps(target).encode()))
    server.tell("PATCH /api/uploads/u1", Talk.hang_up, got(0), got(size))
    server.tell("POST /api/transcriptions", (200, view()))
    told: list[tuple[int, int]] = []
    farm.submit_file(file, key="k", progress=lambda sent, total: told.append((sent, total)))
    start, _, question, put, submission = server.asked
    assert question.body == b""
    assert json.loads(start.body) == {"name": "講演 ☕.mp3", "size": size}
    assert put.body == file.read_bytes()
    assert put.headers["X-Extra"] == "1"
    assert put.headers["Authorization"] == "Bearer secret"
    assert told[-1] == (size, size)
    assert json.loads(submission.body)["upload_id"] == "u1"


def test_a_file_goes_in_parts_and_goes_on_where_the_farm_is_after_a_break(
    server: FakeServer, farm: FarmClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 4)
    file = tmp_path / "a.mp3"
    file.write_bytes(b"0123456789")
    target = {"upload_id": "u1", "transfer": {"url": "/api/uploads/u1", "method": "PATCH"}}
    server.tell("POST /api/uploads", (200, json.dumps(target).encode()))

    ahead = {"error": {"code": "wrong_state", "message": "Further.", "details": {"received_bytes": 8}}}
    server.tell("PATCH /api/uploads/u1", got(4), Talk.hang_up, (409, json.dumps(ahead).encode()), got(10))
    assert farm.upload(file) == "u1"
    sent = [(one.path.partition("?")[2], one.body) for one in server.asked[1:]]
    assert sent == [("offset=0", b"0123"), ("offset=4", b"4567"), ("offset=4", b""), ("offset=8", b"89")]


def test_an_object_store_never_sees_the_token(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"x" * 10)
    with FakeServer() as store, FarmClient(server.address, "secret") as farm:
        transfer = {"url": f"{store.address}/bucket/key?signature=1", "method": "PUT"}
        server.tell("POST /api/uploads", (200, json.dumps({"upload_id": "u1", "transfer": transfer}).encode()))
        store.tell("PUT /bucket/key", (200, b""))
        assert farm.upload(file) == "u1"
        assert "Authorization" not in store.asked[0].headers
        assert store.asked[0].body == b"x" * 10


REFUSAL = b"<Error><Code>AccessDenied</Code><Message>Not for you.</Message></Error>"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((403, REFUSAL, "application/xml"), "object_store_refused: .* refused the upload: 403 Forbidden"),
        ((503, b"<Error/>", "application/xml"), "store_unavailable: .* does not answer"),
        (Talk.hang_up, "store_unavailable: .* does not answer"),
    ],
    ids=["refused", "busy", "hung up"],
)
def test_trouble_of_the_object_store_is_not_told_as_the_farms(
    server: FakeServer, tmp_path: Path, answer: Answer, told: str
) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"x" * 10)
    with FakeServer() as store, FarmClient(server.address, "secret") as farm:
        transfer = {"url": f"{store.address}/bucket/key?signature=1", "method": "PUT"}
        server.tell("POST /api/uploads", (200, json.dumps({"upload_id": "u1", "transfer": transfer}).encode()))
        store.tell("PUT /bucket/key", answer)
        with pytest.raises(FarmError) as caught:
            farm.upload(file)
    assert re.match(told, f"{caught.value.code}: {caught.value.message}")
    assert store.address.removeprefix("http://") in caught.value.message
    assert server.address.removeprefix("http://") not in caught.value.message


def test_an_upload_refused_is_the_error_it_is(server: FakeServer, farm: FarmClient, tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"x")
    server.tell("POST /api/uploads", (413, error("too_large", "At most 20 GB.")))
    with pytest.raises(every_error()["too_large"], match="At most"):
        farm.upload(file)


def event(number: int) -> str:
    body = {"id": number, "kind": "job_done", "transcription_id": "t1", "at": 1.0, "data": {}}
    return f"id: {number}\nevent: job_done\ndata: {json.dumps(body)}\n\n"


def test_events_go_on_after_a_lost_connection_where_they_stopped(server: FakeServer, farm: FarmClient) -> None:
    def first(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream(": here\n\n" + event(4) + event(5))

    def second(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream(event(6))

    server.tell("GET /api/events", first, Talk.hang_up, second)
    seen: list[EventView] = []
    stream = farm.events(transcription="t1")
    for one in stream:
        seen.append(one)
        if len(seen) == 3:
            stream.close()
    assert [one.id for one in seen] == [4, 5, 6]
    assert [asked.path for asked in server.asked] == [
        "/api/events?transcription=t1",
        "/api/events?transcription=t1&after=5",
        "/api/events?transcription=t1&after=5",
    ]


def test_a_break_before_the_first_event_loses_none(server: FakeServer, farm: FarmClient) -> None:
    def first(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream("retry: 1000\nid: 3\n\n")

    def second(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream(event(4))

    server.tell("GET /api/events", first, second)
    stream = farm.events()
    assert next(stream).id == 4
    stream.close()
    assert [asked.path for asked in server.asked] == ["/api/events", "/api/events?after=3"]


def test_listening_to_a_silent_stream_can_be_ended(server: FakeServer, farm: FarmClient) -> None:
    connected, over = threading.Event(), threading.Event()

    def silent(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream(": here\n\n")
        connected.set()
        over.wait(60)

    server.tell("GET /api/events", silent)
    listening = farm.on_event(lambda event: None)
    assert connected.wait(60)
    assert listening.cancel()
    over.set()
    with pytest.raises(CancelledError):
        listening.result(60)


def test_whoever_listens_is_told_of_every_event(server: FakeServer, farm: FarmClient) -> None:
    def speaking(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream(event(1) + event(2))

    server.tell("GET /api/events", speaking)
    told: queue.SimpleQueue[EventView] = queue.SimpleQueue()
    listening = farm.on_event(told.put)
    assert [told.get(timeout=60).id for _ in range(2)] == [1, 2]
    listening.cancel()


def test_a_stream_that_says_nothing_is_opened_anew(
    server: FakeServer, farm: FarmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SILENCE_SECONDS", 0.1)
    over = threading.Event()

    def silent(talk: Talk) -> None:
        talk.begin_stream()
        over.wait(60)

    def speaking(talk: Talk) -> None:
        talk.begin_stream()
        talk.stream(event(1))

    server.tell("GET /api/events", silent, speaking)
    stream = farm.events()
    assert next(iter(stream)).id == 1
    over.set()


def test_a_stream_that_cannot_come_back_gives_up(
    server: FakeServer, farm: FarmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.05)
    server.tell("GET /api/events", Talk.hang_up)
    with pytest.raises(ServerUnreachable):
        list(farm.events())


def test_a_stream_that_is_refused_says_so(server: FakeServer, farm: FarmClient) -> None:
    server.tell("GET /api/events", (403, error("forbidden", "Not yours.")))
    with pytest.raises(every_error()["forbidden"]):
        list(farm.events())


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.tell(f"GET {ONE}", (200, view()))
    with FarmClient(server.address, "x") as farm:
        assert farm.get("3k7qz2m9xw4a").state == "queued"
