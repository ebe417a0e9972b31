"""Whatever a server answers to a link: a recording, or one clear error; nobody else is asked, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.any_answer import HEADERS, STATUS, Headers, RawServer, head
from support.web_server import Canary

from whisper_farm.errors import FarmError
from whisper_farm.ingest import fetching
from whisper_farm.ingest.fetching import download
from whisper_farm.ingest.links import guarded_pool

ALLOWED = ip_network("127.0.0.1/32")


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    one = RawServer()
    yield one
    one.close()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


def fetched(url: str, have: int = 0) -> bytes | FarmError:
    """What comes of a link, however often it is asked for."""

    async def go() -> bytes | FarmError:
        async with guarded_pool([ALLOWED]) as pool:
            try:
                async with asyncio.timeout(60), download(pool, url, have, '"etag"' if have else None) as found:
                    return b"".join([piece async for piece in found.pieces])
            except FarmError as error:
                return error

    return asyncio.run(go())


def check(server: RawServer, canary: Canary, answer: bytes, have: int = 0) -> None:
    server.answer = answer
    outcome = fetched(server.url, have)
    if isinstance(outcome, FarmError):
        assert outcome.message
        assert outcome.code in ("fetch_failed", "link_is_page", "address_refused"), outcome
    assert canary.visits == 0


QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@given(STATUS, HEADERS, st.binary(max_size=200), st.integers(0, 5))
@QUICK
def test_any_head_is_a_recording_or_a_clear_error(
    server: RawServer, canary: Canary, status: int, headers: Headers, body: bytes, have: int
) -> None:
    check(server, canary, head(status, headers, canary) + body, have)


@given(st.binary(max_size=400))
@QUICK
def test_any_bytes_are_a_recording_or_a_clear_error(server: RawServer, canary: Canary, answer: bytes) -> None:
    check(server, canary, answer)


@given(
    st.sampled_from([b"#EXTM3U", b"[playlist]", b"<html", b"<?xml", b"\xef\xbb\xbf<", b"ffconcat", b"{"]),
    st.binary(max_size=99),
)
@QUICK
def test_no_playlist_or_page_is_taken_whatever_follows(
    server: RawServer, canary: Canary, begin: bytes, rest: bytes
) -> None:
    body = begin + rest
    server.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    outcome = fetched(server.url)
    if not (begin == b"{" and not fetching._is_text(body)):
        assert isinstance(outcome, FarmError)
        assert outcome.code == "link_is_page"
    assert canary.visits == 0
