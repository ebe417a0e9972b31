"""A recording behind HTTP reads like a file, in bounded memory, and a broken line is never a broken file."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, contextmanager
from threading import Thread

import psutil
import pytest
from support.bare_farm import TOKEN, FakeServer, serving
from support.fake_farm import FakeFarm
from support.fake_server import FakeServer as Bucket

from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.errors import BlobMissing, NotFound, ObjectStoreRefused, ServerUnreachable
from whisper_farm.protocol.jobs import Source
from whisper_farm.protocol.wire import Transfer
from whisper_farm.worker import source_reader
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.source_reader import SourceReader, fetch_block

DATA = random.Random(1).randbytes(10_000)


@contextmanager
def reading(server: str, url: str, patience_seconds: float = 60) -> Iterator[io.BufferedReader]:
    loop, api = LoopThread("source"), WorkerApi(server, TOKEN, 60)
    source = Source(name="talk.wav", size=len(DATA), transfer=Transfer(url=url, method="GET"))

    def ask(number: int) -> Future[bytes]:
        return loop.start(fetch_block(api, source, number, patience_seconds))

    with io.BufferedReader(SourceReader(len(DATA), ask), 128) as file:
        yield file
    loop.run(api.close())
    loop.close()


def reader(server: FakeServer, key: str = "data") -> AbstractContextManager[io.BufferedReader]:
    return reading(server.url, f"/api/work/source/{key}")


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
    with (
        reading(server.url, "/api/work/source/data", 0.5) as file,
        pytest.raises(ServerUnreachable, match="does not answer"),
    ):
        file.read(1)


def test_a_source_that_is_gone_is_not_asked_for_again(server: FakeServer) -> None:
    with reader(server, key="gone") as file, pytest.raises(NotFound):
        file.read(10)
    assert len({request.headers["range"] for request in server.requests}) == len(server.requests)


def test_a_server_that_ignores_ranges_is_not_read_whole_into_memory(server: FakeServer) -> None:
    with Bucket() as bucket:
        bucket.always = (200, DATA)
        with reading(server.url, f"{bucket.address}/x", 0.1) as file, pytest.raises(ServerUnreachable, match="200"):
            file.read(1)


def test_a_refusal_in_a_strange_form_is_final_unless_it_may_be_a_proxys(server: FakeServer) -> None:
    with Bucket() as bucket:
        for status, url, error in (
            (404, f"{bucket.address}/x", BlobMissing),
            (403, f"{bucket.address}/x", ObjectStoreRefused),
            (403, "/x", ServerUnreachable),
        ):
            bucket.always = (status, b"<xml>")
            with reading(bucket.address, url, 0.5) as file, pytest.raises(error, match=str(status)):
                file.read(1)


def test_closing_ends_what_is_being_read_so_that_no_connection_is_left(server: FakeServer) -> None:
    """A block that is read ahead would otherwise open a connection that nobody closes."""
    server.delays["source"] = 0.3
    for _ in range(3):
        with reader(server) as file:
            assert file.read(1) == DATA[:1]
        port = int(server.url.rpartition(":")[2])
        assert not [each for each in psutil.Process().net_connections() if each.raddr and each.raddr[1] == port]


def test_closing_does_not_wait_for_patience(server: FakeServer) -> None:
    server.down = True
    with reading(server.url, "/api/work/source/data", 3600) as file:
        raw = file.raw
        assert isinstance(raw, SourceReader)

        def read() -> None:
            with pytest.raises(CancelledError):
                raw.readinto(bytearray(1))

        reader = Thread(target=read)
        reader.start()
        while not server.requests:
            assert reader.is_alive()
        raw.close()
        reader.join(60)
        assert not reader.is_alive()
