"""A recording behind HTTP reads like a file, in bounded memory, and a broken line is never a broken file."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from support.bare_farm import TOKEN, FakeServer, serving
from support.fake_farm import FakeFarm

from whisper_farm.errors import BlobMissing, NotFound, ObjectStoreRefused, ServerUnreachable
from whisper_farm.worker import source_reader
from whisper_farm.worker.source_reader import SourceReader

HEADERS = {"Authorization": f"Bearer {TOKEN}", "Whisper-Farm-Protocol": "1"}
DATA = random.Random(1).randbytes(10_000)


@contextmanager
def reader(server: FakeServer, size: int = len(DATA), key: str = "data") -> Iterator[io.BufferedReader]:
    with httpx.Client(trust_env=False) as client:
        url = f"{server.url}/api/work/source/{key}"
        raw = SourceReader(client, url, HEADERS, size, patience_seconds=0.5)
        with io.BufferedReader(raw, 128) as file:
            yield file


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setattr(source_reader, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(source_reader, "KEPT_BLOCKS", 4)
    farm = FakeFarm()
    farm.blobs["data"] = DATA
    with serving(farm) as running:
        yield running


def test_it_reads_and_seeks_like_a_file(server: FakeServer) -> None:
    """By a seeded generator: Hypothesis does not bear the threads that read ahead."""
    dice, truth = random.Random(7), io.BytesIO(DATA)
    with reader(server) as file:
        for _ in range(100):
            place, length = dice.randrange(11_000), dice.choice((0, 1, 100, 1000, 3000))
            assert file.seek(place) == truth.seek(place)
            assert file.read(length) == truth.read(length)
            assert file.tell() == truth.tell()


def test_it_reads_ahead_keeps_little_and_asks_for_nothing_twice(server: FakeServer) -> None:
    with reader(server) as file:
        assert file.read() == DATA
        raw = file.raw
        assert isinstance(raw, SourceReader)
        assert len(raw._blocks) <= 4
    ranges = [request.headers["range"] for request in server.requests]
    assert sorted(ranges) == sorted(f"bytes={first}-{first + 999}" for first in range(0, 10_000, 1000))


def test_late_short_and_failing_answers_are_asked_for_again(server: FakeServer) -> None:
    server.lose_replies["source"] = server.cut_bodies["source"] = server.garble_replies["source"] = 1
    with reader(server) as file:
        assert file.read() == DATA


def test_a_source_that_stays_away_is_an_error_of_the_line(server: FakeServer) -> None:
    server.down = True
    with reader(server) as file, pytest.raises(ServerUnreachable, match="cannot be read"):
        file.read(1)


def test_a_source_that_is_gone_is_not_asked_for_again(server: FakeServer) -> None:
    with reader(server, key="gone") as file, pytest.raises(NotFound):
        file.read(10)
    assert len({request.headers["range"] for request in server.requests}) == len(server.requests)


def test_a_server_that_ignores_ranges_is_not_read_whole_into_memory(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = httpx.MockTransport(lambda request: httpx.Response(200, content=DATA))
    with httpx.Client(transport=whole) as client:
        raw = SourceReader(client, "http://bucket.example/x", {}, len(DATA), patience_seconds=0.1)
        with io.BufferedReader(raw) as file, pytest.raises(ServerUnreachable, match="status 200"):
            file.read(1)


def test_a_refusal_in_a_strange_form_is_final(server: FakeServer) -> None:
    own = {"Authorization": "Bearer secret"}
    for status, headers, error in (
        (404, {}, BlobMissing),
        (403, {}, ObjectStoreRefused),
        (403, own, ServerUnreachable),
    ):
        refusing = httpx.MockTransport(lambda request, status=status: httpx.Response(status, content=b"<xml>"))
        with httpx.Client(transport=refusing) as client:
            raw = SourceReader(client, "http://bucket.example/x", headers, len(DATA))
            with io.BufferedReader(raw) as file, pytest.raises(error, match=str(status)):
                file.read(1)


def test_closing_waits_for_what_is_being_read_so_that_no_connection_is_left(server: FakeServer) -> None:
    """A block that is read ahead would otherwise open a connection that nobody closes."""
    server.delays["source"] = 0.3
    for _ in range(3):
        with reader(server) as file:
            raw = file.raw
            assert isinstance(raw, SourceReader)
            raw._fetching.submit(raw._fetch, 5)
        assert not any(thread.is_alive() for thread in raw._fetching._threads)


def test_closing_does_not_wait_for_patience(server: FakeServer) -> None:
    server.down = True
    with httpx.Client(trust_env=False) as client:
        raw = SourceReader(client, f"{server.url}/api/work/source/data", HEADERS, 10, patience_seconds=3600)
        asked = raw._fetching.submit(raw._fetch, 0)
        while not server.requests:
            assert not asked.done()
        raw.close()
        with pytest.raises(ServerUnreachable):
            asked.result()
