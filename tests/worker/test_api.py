"""The worker's calls: sent until there is an answer, refusals raised, the token shown to nobody but the farm."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.bare_farm import TOKEN, FakeServer, serving
from support.fake_farm import FakeFarm
from support.fake_server import FakeServer as Bucket
from support.work_here import add_speech, recording, speech, until, worker_settings, working

from whisper_farm.client.transport import NoAnswerError, try_again
from whisper_farm.errors import (
    DigestMismatch,
    InvalidRequest,
    NotFound,
    ObjectStoreRefused,
    ServerUnreachable,
    Unauthorized,
    WorkerUnknown,
)
from whisper_farm.protocol.wire import Transfer
from whisper_farm.protocol.worker import ClaimRequest, HeartbeatRequest, RegisterRequest
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.handing_in import failed_by

ME = RegisterRequest(worker_id="w", name="w", version="1", platform="here", slots=1, engines=())
CLAIM = ClaimRequest(worker_id="w", request_id="r", jobs={"transcribe": 1})


@asynccontextmanager
async def api(server: FakeServer, token: str = TOKEN, seconds: float = 60.0) -> AsyncIterator[WorkerApi]:
    line: list[bool] = []
    connection = WorkerApi(server.url, token, seconds, lambda answers, why: line.append(answers))
    try:
        yield connection
    finally:
        await connection.close()


def test_a_call_is_sent_again_until_the_farm_itself_has_answered() -> None:
    farm = FakeFarm()
    add_speech(farm, speech(0))

    async def scene() -> None:
        with serving(farm) as server:
            async with api(server) as connection:
                await connection.register(ME)
                server.lose_requests["claim"] = server.lose_replies["claim"] = 1
                server.garble_replies["claim"], server.cut_bodies["claim"] = 1, 2
                answer = await connection.claim(CLAIM)
                assert len(answer.claims) == 1
                assert len({request.body for request in server.named("claim")}) == 1, "word for word"
                assert len(server.named("claim")) == 5

    asyncio.run(scene())
    assert len(farm.attempts) == 1


def test_refusals_are_raised_with_their_code_and_not_repeated() -> None:
    async def scene() -> None:
        with serving(FakeFarm()) as server:
            async with api(server) as connection, api(server, token="wrong") as stranger:
                with pytest.raises(WorkerUnknown):
                    await connection.claim(CLAIM)
                with pytest.raises(Unauthorized):
                    await stranger.register(ME)
                with pytest.raises(NotFound):
                    await connection.download(Transfer(url="/api/work/audio/none", method="GET"), 1, "0" * 64)
            assert len(server.requests) == 3

    asyncio.run(scene())


def test_patience_ends_with_one_clear_error_and_a_beat_has_none() -> None:
    async def scene() -> None:
        with serving(FakeFarm()) as server:
            server.down = True
            async with api(server) as connection:
                began = time.monotonic()
                with pytest.raises(ServerUnreachable, match=server.url):
                    await connection.register(ME, patience=0.3)
                assert time.monotonic() - began < 5
                tries = len(server.requests)
                with pytest.raises(ServerUnreachable):
                    await connection.heartbeat(HeartbeatRequest(worker_id="w", tokens=()), 5)
                assert len(server.requests) == tries + 1

    asyncio.run(scene())


def test_audio_that_is_not_what_was_announced_is_refused() -> None:
    farm = FakeFarm()
    farm.blobs["good"], farm.blobs["long"] = b"good audio", bytes(1000)
    digest = hashlib.sha256(b"good audio").hexdigest()

    async def scene() -> None:
        with serving(farm) as server:
            async with api(server) as connection:
                server.cut_bodies["audio"] = 2
                good = Transfer(url="/api/work/audio/good", method="GET")
                assert await connection.download(good, 10, digest) == b"good audio"
                with pytest.raises(DigestMismatch):
                    await connection.download(good, 10, "0" * 64)
                with pytest.raises(DigestMismatch):
                    await connection.download(Transfer(url="/api/work/audio/long", method="GET"), 10, digest)

    asyncio.run(scene())


@pytest.mark.parametrize("address", ["farm.example", "ftp://farm.example", "http://", ""])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(InvalidRequest, match="http"):
        WorkerApi(address, "", 1)


def test_a_transfer_goes_below_the_farms_address_and_to_no_strange_scheme() -> None:
    async def scene() -> None:
        with Bucket() as server:
            connection = WorkerApi(f"{server.address}/sub", TOKEN, 60)
            server.always = (200, b"x")
            await connection.upload(Transfer(url="/api/x", method="PUT"), b"x")
            assert [asked.path for asked in server.asked] == ["/sub/api/x"]
            for url in ("file:///etc/passwd", "//other.example/x", "api/work"):
                with pytest.raises(ServerUnreachable):
                    await connection.upload(Transfer(url=url, method="PUT"), b"x")
            await connection.close()

    asyncio.run(scene())


def test_a_refusal_of_the_bucket_is_told_as_the_buckets_and_charged_to_no_job() -> None:
    async def scene() -> None:
        with serving(FakeFarm()) as server, Bucket() as bucket:
            bucket.always = (403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
            link = f"{bucket.address}/audio/key?signature=1"
            async with api(server) as connection:
                with pytest.raises(ObjectStoreRefused, match="403"):
                    await connection.upload(Transfer(url=link, method="PUT"), b"some audio")
                with pytest.raises(ObjectStoreRefused, match="403") as refused:
                    await connection.download(Transfer(url=link, method="GET"), 10, "0" * 64)
            assert not failed_by(refused.value).charged

    asyncio.run(scene())


def test_a_bucket_gets_the_headers_of_the_link_but_never_the_token() -> None:
    """Sources, chunks to recognise and chunks to upload, all behind presigned links of another server."""
    farm = FakeFarm()
    data, truth = recording(20)

    async def scene() -> None:
        with serving(farm) as server, serving(farm, open_to_all=True) as bucket:
            farm.link = lambda path: bucket.url + path
            farm.add_recording(data)
            async with working(worker_settings(server.url, cuts=True)):
                await until(lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"), "all jobs done")
            assert {request.name for request in bucket.requests} == {"source", "audio", "uploads"}
            assert not any("authorization" in request.headers for request in bucket.requests)
            assert not any("whisper-farm-protocol" in request.headers for request in bucket.requests)
            assert not server.named("audio")

    asyncio.run(scene())
    assert [word for word, _ in farm.heard()] == [word for word, _ in truth]


def test_who_is_told_to_stop_does_not_try_again_though_a_library_took_that_for_a_time_out() -> None:
    async def scene() -> None:
        begun, tries = asyncio.Event(), 0

        async def once() -> None:
            nonlocal tries
            tries += 1
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise NoAnswerError("no answer in time") from None

        trying = asyncio.create_task(try_again(once, patience_seconds=60))
        await begun.wait()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        assert tries == 1

    asyncio.run(scene())
