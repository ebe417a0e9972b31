"""Strangers without a token: the head of a request, and what follows its body, cost no more than a connection."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import httpx
import pytest
from support.served_farm import ServedFarm, eventually
from support.strangers import pulse, send

from whisper_farm.coordinator import connection

BEGIN = b"GET /healthz HTTP/1.1\r\nHost: farm\r\n"
POST = b"POST /api/uploads HTTP/1.1\r\nHost: farm\r\nTransfer-Encoding: chunked\r\n"
BLOCK = b"a" * (1 << 20)
WORST_SECONDS = 1.0
"""The aim is 0.1 s on an idle core; the tests share theirs."""


def too_large(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 431 ") and b'"code":"head_too_large"' in answer


LARGE_HEADS = {
    "one header of 24 MB": [BEGIN + b"X-Long: ", *[BLOCK] * 24],
    "a name of 8 MB": [BEGIN, *[BLOCK] * 8],
    "an address of 8 MB": [b"GET /", *[BLOCK] * 8],
    "a hundred thousand small headers": [BEGIN, *[b"x: y\r\n" * 10_000] * 10],
    "101 headers": [BEGIN + b"x: y\r\n" * 101 + b"\r\n"],
    "a trailer of 8 MB": [POST + b"\r\n0\r\nX-Long: ", *[BLOCK] * 8],
    "an extension of a chunk of 8 MB": [POST + b"\r\n5;", *[BLOCK] * 8],
    "a trailer of 101 headers": [POST + b"\r\n0\r\n" + b"x: y\r\n" * 101 + b"\r\n"],
}


@pytest.mark.parametrize("parts", LARGE_HEADS.values(), ids=LARGE_HEADS.keys())
def test_a_head_or_trailer_that_is_too_large_ends_its_connection_and_holds_up_nobody(
    farm: ServedFarm, parts: Sequence[bytes]
) -> None:
    with pulse(farm) as taken:
        answer = send(farm, *parts)
    refused_first = b" 401 " in answer[:20]  # what follows the body of somebody unknown is not even read
    assert too_large(answer) or (refused_first and parts[0].startswith(POST))
    assert taken.worst_seconds < WORST_SECONDS


def test_connections_that_ask_nothing_make_room_for_those_that_do(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 20)
    url = httpx.URL(farm.url)
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((url.host, url.port or 80))) for _ in range(60)]
        for _ in range(10):
            with farm.client(farm.token) as other:
                assert other.get("/api/tokens").is_success
        for first in silent[:30]:
            first.settimeout(5)
            assert first.recv(1) == b"", "the oldest are closed"
        silent[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1)


@pytest.mark.parametrize("known", [False, True])
def test_calls_that_do_not_go_on_make_room_for_those_that_do(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Those of strangers, and then those of the owner who has most, took all descriptors of the server."""
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 20)
    url, ann = httpx.URL(farm.url), farm.token_for("user", "ann")
    head = f"POST /api/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann}\r\nContent-Length: 9\r\n\r\n"
    if not known:
        head = "POST /app/session HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    with farm.user("bob").stream("GET", "/api/events") as stream, ExitStack() as stack:
        followed = stream.iter_lines()
        assert next(followed)
        stalled = [stack.enter_context(socket.create_connection((url.host, url.port or 80))) for _ in range(60)]
        for line in stalled:
            with suppress(ConnectionError):
                line.sendall(head.encode())
        for _ in range(10):
            with farm.client(farm.token) as other:
                assert other.get("/api/tokens").is_success
        eventually(lambda: len(select.select(stalled, [], [], 0)[0]) >= 40, "most of them are closed")
        farm.user("bob").post("/api/tokens", json={"name": "x", "scope": "user"})
        assert any("tokens" in line for line in followed), "whoever has few connections keeps them"


def test_the_trailer_of_a_caller_with_a_token_is_bounded_too(farm: ServedFarm) -> None:
    head = POST + f"Authorization: Bearer {farm.token}\r\nContent-Type: application/json\r\n\r\n".encode()
    assert too_large(send(farm, head + b"2\r\n{}\r\n0\r\nX-Long: ", *[BLOCK] * 2))
    assert too_large(send(farm, head + b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 101 + b"\r\n"))


def test_heads_as_people_send_them_are_answered(farm: ServedFarm) -> None:
    many = b"".join(b"x-%d: y\r\n" % number for number in range(90))
    long = b"Cookie: " + b"a" * 20_000 + b"\r\n"
    answer = send(farm, BEGIN + many + long + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    twice = BEGIN + long + b"\r\n"
    assert send(farm, twice * 8 + BEGIN + b"Connection: close\r\n\r\n").count(b"HTTP/1.1 200 ") == 9


def test_a_trailer_cannot_pretend_to_be_part_of_the_head(farm: ServedFarm) -> None:
    body = b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + farm.token.encode() + b"\r\n\r\n"
    assert b" 401 " in send(farm, POST + b"Connection: close\r\n\r\n" + body)[:20]


@pytest.mark.parametrize("host", [b"[", b"[::1", b"a]b", b"[nowhere]", b"\xff\xfe"])
@pytest.mark.parametrize("path", [b"/", b"/app/session", b"/api/transcriptions", b"/feed/" + b"0" * 32])
def test_a_host_that_no_server_can_have_is_refused_before_anybody_reads_it(
    farm: ServedFarm, host: bytes, path: bytes
) -> None:
    """With any cookie these were an error that nobody expected, in whatever looked at the name."""
    head = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nCookie: farm_session=x\r\nConnection: close\r\n\r\n"
    assert send(farm, head).startswith(b"HTTP/1.1 400 ")
