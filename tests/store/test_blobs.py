"""One conformance test for blobs in a folder and in an S3-compatible bucket, and what only one of them can do."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import AsyncMock, Mock

import boto3
import httpx
import obstore
import pytest
from moto.server import ThreadedMotoServer
from support.fake_server import FakeServer

from whisper_farm.errors import (
    BlobMissing,
    DigestMismatch,
    InvalidRequest,
    NoSpace,
    ObjectStoreRefused,
    StoreUnavailable,
    TooLarge,
)
from whisper_farm.store import bucket
from whisper_farm.store import folder as folders
from whisper_farm.store.blobs import PART_BYTES, Blobs
from whisper_farm.store.incoming import BlobFacts

T = TypeVar("T")
BIG = bytes(random.Random(0).randbytes(1 << 20)) * 20 + b"the end"
LIMIT = 1 << 30
PATIENCE_SECONDS = 60


def run(work: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(work, PATIENCE_SECONDS)

    return asyncio.run(bounded())


async def stream(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def collected(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Store:
    """A store under test, and a look behind it: the names of everything it keeps, hidden leftovers included."""

    blobs: Blobs
    leftovers: Callable[[], list[str]]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of that server which is not ours, and the environment that leads ours there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    httpx.post(f"{s3_server}/moto-api/reset", timeout=PATIENCE_SECONDS)
    client.create_bucket(Bucket="audio")
    yield client
    client.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blöbs"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "folder":
        folder: Path = request.getfixturevalue("folder")
        return Store(
            Blobs.open(str(folder)), lambda: sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
        )
    client = request.getfixturevalue("s3")

    def everything() -> list[str]:
        stored = client.list_objects_v2(Bucket="audio").get("Contents", [])
        unfinished = client.list_multipart_uploads(Bucket="audio").get("Uploads", [])
        return sorted(found["Key"] for found in [*stored, *unfinished])

    return Store(Blobs.open("s3://audio/farm/one"), everything)


@pytest.fixture
def blobs(store: Store) -> Blobs:
    return store.blobs


@pytest.mark.parametrize("data", [b"", b"x", BIG[:PART_BYTES], BIG], ids=["empty", "small", "one-part", "big"])
def test_what_is_put_is_got(blobs: Blobs, data: bytes) -> None:
    async def work() -> None:
        facts = await blobs.put_stream("a/b.flac", stream(data), LIMIT)
        assert facts == BlobFacts(len(data), sha256(data))
        assert await blobs.get("a/b.flac") == data
        assert await blobs.size("a/b.flac") == len(data)
        assert await collected(await blobs.get_range("a/b.flac")) == data
        await blobs.verify("a/b.flac", facts.size, facts.sha256)
        await blobs.put("a/c", data)
        assert await blobs.get("a/c") == data

    run(work())


RANGES = [(0, 0), (5, 5), (0, 1), (0, 7), (3, 1_500_000), (20_000_000, None), (1, None), (0, 1 << 40)]


def test_any_range_is_read(blobs: Blobs) -> None:
    async def work() -> None:
        await blobs.put_stream("big", stream(BIG), LIMIT)
        for start, end in RANGES:
            assert await collected(await blobs.get_range("big", start, end)) == BIG[start:end]

    run(work())


def test_a_missing_blob_is_missing_for_every_call(blobs: Blobs) -> None:
    async def work() -> None:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: blobs.get("a/none"),
            lambda: blobs.get_range("a/none"),
            lambda: blobs.get_range("a/none", 0, 0),
            lambda: blobs.get_range("a/none", 3, 9),
            lambda: blobs.size("a/none"),
            lambda: blobs.verify("a/none", 1, None),
        ]
        for call in calls:
            with pytest.raises(BlobMissing, match="a/none"):
                await call()

    run(work())


def test_more_than_the_limit_is_refused_and_leaves_nothing(store: Store) -> None:
    async def work() -> None:
        for limit in (len(BIG) - 1, PART_BYTES + 1, 100):
            with pytest.raises(TooLarge, match=str(limit)):
                await store.blobs.put_stream("a/b", stream(BIG), limit)
        assert store.leftovers() in ([], ["a"])
        await store.blobs.put_stream("c", stream(BIG), len(BIG))
        with pytest.raises(TooLarge, match="100"):
            await store.blobs.get("c", limit=100)

    run(work())


@pytest.mark.parametrize("after", [0, 1, len(BIG) - 200_000])
@pytest.mark.parametrize("trouble", [RuntimeError("gone"), ConnectionResetError("gone")])
def test_an_upload_that_breaks_off_leaves_nothing(store: Store, after: int, trouble: Exception) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in stream(BIG[:after]):
            yield piece
        raise trouble

    async def work() -> None:
        with pytest.raises(type(trouble), match="gone"):
            await store.blobs.put_stream("a/b", broken(), LIMIT)
        assert store.leftovers() in ([], ["a"])

    run(work())


@pytest.mark.parametrize("after", [0, PART_BYTES - 1, len(BIG) - 1])
def test_an_upload_that_is_cancelled_leaves_nothing(store: Store, after: int) -> None:
    async def work() -> None:
        waiting = asyncio.Event()

        async def stalled() -> AsyncIterator[bytes]:
            async for piece in stream(BIG[:after]):
                yield piece
            waiting.set()
            await asyncio.Event().wait()

        upload = asyncio.create_task(store.blobs.put_stream("a/b", stalled(), LIMIT))
        await waiting.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert store.leftovers() in ([], ["a"])

    run(work())


def test_a_small_upload_that_is_cancelled_too_late_is_there_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes it then deletes it for good: nothing arrives behind its back."""
    blobs = Blobs.open(tmp_path)
    real, begun, go_on = folders.put_all, threading.Event(), threading.Event()

    def late(*told: Any) -> None:
        begun.set()
        assert go_on.wait(60)
        real(*told)

    async def work() -> None:
        upload = asyncio.create_task(blobs.put_stream("a/b", stream(b"sound"), LIMIT))
        await asyncio.to_thread(begun.wait)
        upload.cancel()
        await asyncio.wait([upload], timeout=0.1)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert await blobs.get("a/b") == b"sound"

    monkeypatch.setattr(folders, "put_all", late)
    run(work())


def test_an_upload_is_not_seen_before_it_is_whole(blobs: Blobs) -> None:
    async def work() -> None:
        async def watched() -> AsyncIterator[bytes]:
            async for piece in stream(BIG, 5 << 20):
                with pytest.raises(BlobMissing):
                    await blobs.size("a/b")
                assert [found async for found in blobs.list()] == []
                yield piece

        await blobs.put_stream("a/b", watched(), LIMIT)
        assert await blobs.size("a/b") == len(BIG)

    run(work())


def test_blobs_are_listed_by_folder_with_size_and_time(blobs: Blobs) -> None:
    async def work() -> None:
        for key in ("sources/1", "sources/2/x", "sources2/3", "s", "chunks/1/0.flac"):
            await blobs.put(key, key.encode())
        listed = {found.key: found async for found in blobs.list()}
        assert sorted(listed) == ["chunks/1/0.flac", "s", "sources/1", "sources/2/x", "sources2/3"]
        assert all(found.size == len(key) and abs(found.modified - time.time()) < 60 for key, found in listed.items())
        for prefix in ("sources", "sources/"):
            assert sorted([found.key async for found in blobs.list(prefix)]) == ["sources/1", "sources/2/x"]
        assert [found async for found in blobs.list("nothing/here")] == []

    run(work())


def test_many_are_deleted_at_once_and_those_not_there_do_not_matter(store: Store) -> None:
    async def work() -> None:
        keys = [f"a/{number}/b" for number in range(120)]
        await asyncio.gather(*(store.blobs.put(key, b"x") for key in keys[:100]))
        await store.blobs.put("a/keep", b"x")
        await store.blobs.delete(keys)
        await store.blobs.delete([])
        assert [found.key async for found in store.blobs.list()] == ["a/keep"]
        await store.blobs.delete(["a/keep"])
        assert [name for name in store.leftovers() if "keep" in name or "/" in name] == []

    run(work())


def test_what_arrived_is_compared_with_what_was_announced(blobs: Blobs) -> None:
    async def work() -> None:
        await blobs.put("a/b", b"abc")
        await blobs.verify("a/b", 3)
        await blobs.verify("a/b", 3, sha256(b"abc"))
        with pytest.raises(DigestMismatch, match="4 bytes were announced, 3"):
            await blobs.verify("a/b", 4, sha256(b"abc"))
        with pytest.raises(DigestMismatch, match="SHA-256"):
            await blobs.verify("a/b", 3, sha256(b"abd"))

    run(work())


def test_what_is_larger_than_it_may_be_is_removed(blobs: Blobs) -> None:
    async def work() -> None:
        await blobs.put("a/b", b"abc")
        with pytest.raises(DigestMismatch, match="2 bytes were announced, 3"):
            await blobs.verify("a/b", 2, limit=3)
        await blobs.verify("a/b", 3, sha256(b"abc"), limit=3)
        with pytest.raises(TooLarge, match="3 bytes have arrived where 2 are the most"):
            await blobs.verify("a/b", 2, limit=2)
        with pytest.raises(BlobMissing):
            await blobs.size("a/b")

    run(work())


BAD_KEYS = [
    "",
    ".",
    "..",
    "../x",
    "a/../x",
    "/etc/x",
    "a//b",
    "a/",
    "a/.hidden",
    "a\\b",
    "C:/x",
    "a b",
    "ä",
    "a\n",
    "x" * 513,
]


def test_a_key_is_plain_or_refused_by_every_call(store: Store) -> None:
    async def refused(key: str) -> None:
        blobs = store.blobs
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: blobs.put(key, b"x"),
            lambda: blobs.put_stream(key, stream(b"x"), LIMIT),
            lambda: blobs.get(key),
            lambda: blobs.get_range(key),
            lambda: blobs.size(key),
            lambda: blobs.delete(["fine", key]),
            lambda: blobs.presign("GET", key, 60),
            lambda: blobs.presign("PUT", key, 60),
        ]
        for call in calls:
            with pytest.raises(InvalidRequest, match="cannot be the name"):
                await call()

    for key in BAD_KEYS:
        run(refused(key))
    assert store.leftovers() == []


def test_a_store_that_answers_is_fit(blobs: Blobs) -> None:
    run(blobs.check())


def test_a_folder_cannot_sign(folder: Path) -> None:
    blobs = Blobs.open(folder)
    assert run(blobs.presign("GET", "a", 60)) is None
    assert run(blobs.presign("PUT", "a", 60)) is None


def test_what_a_killed_upload_left_in_a_folder_is_swept(folder: Path) -> None:
    async def work() -> None:
        blobs = Blobs.open(folder)
        await blobs.put("a/b", b"x")
        (folder / "a" / "c#1").write_bytes(b"half")
        (folder / "a" / "d#2").write_bytes(b"half")
        os.utime(folder / "a" / "c#1", (1000, 1000))
        os.utime(folder / "a" / "b", (1000, 1000))
        assert [found.key async for found in blobs.list()] == ["a/b"]
        assert await blobs.sweep_unfinished(before=2000) == 1
        assert sorted(path.name for path in (folder / "a").iterdir()) == ["b", "d#2"]

    run(work())


def test_a_blob_finds_its_place_after_the_last_deletion_removed_its_folder(folder: Path) -> None:
    blobs = Blobs.open(folder)
    for name in ("first", "second"):
        run(blobs.put(f"a/b/{name}", b"x"))
        run(blobs.delete([f"a/b/{name}"]))
        assert not (folder / "a" / "b").exists()
    run(blobs.put("a/b/third", b"x"))
    assert run(blobs.get("a/b/third")) == b"x"


def test_a_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = obstore.exceptions.GenericError(
        "Generic LocalFileSystem error: Unable to copy data to file: No space left on device (os error 28)"
    )
    monkeypatch.setattr(obstore, "put_async", AsyncMock(side_effect=full))
    blobs = Blobs.open(folder)
    with pytest.raises(NoSpace, match="No space is left"):
        run(blobs.put_stream("a", stream(BIG), LIMIT))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", Mock(side_effect=OSError(errno.EDQUOT, "Disk quota exceeded")))
        with pytest.raises(NoSpace, match="No space is left"):
            run(blobs.put("a/b", b"x"))
    assert list(folder.rglob("b*")) == [], "what could not be written whole is not there at all"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        Blobs.open(tmp_path / "file" / "blobs")


@pytest.mark.parametrize("place", ["gs://bucket/x", "s3://", "https://host/x"])
def test_a_place_that_is_no_store_is_refused(place: str) -> None:
    with pytest.raises(StoreUnavailable, match="s3://BUCKET/PREFIX"):
        Blobs.open(place)


def test_presigned_urls_send_and_fetch_without_credentials(s3: Any) -> None:
    async def work() -> None:
        blobs = Blobs.open("s3://audio/farm/")
        put, get = await blobs.presign("PUT", "a/b.flac", 60), await blobs.presign("GET", "a/b.flac", 60)
        assert put is not None
        assert get is not None
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            headers = {"Content-Type": "application/octet-stream"}
            (await client.put(put, content=b"some audio", headers=headers)).raise_for_status()
            await blobs.verify("a/b.flac", 10, sha256(b"some audio"))
            assert (await client.get(get)).content == b"some audio"
        assert [found["Key"] for found in s3.list_objects_v2(Bucket="audio")["Contents"]] == ["farm/a/b.flac"]

    run(work())


def test_urls_are_signed_for_the_public_address(s3: Any) -> None:
    """The signature covers the host, so it must be made for the address that will be called."""
    blobs = Blobs.open("s3://audio/farm", public_endpoint="https://objects.example.org")
    get = run(blobs.presign("GET", "a/b.flac", 90))
    assert get is not None
    url = httpx.URL(get)
    assert (url.scheme, url.host, url.path) == ("https", "objects.example.org", "/audio/farm/a/b.flac")
    assert url.params["X-Amz-Expires"] == "90"
    assert "host" in url.params["X-Amz-SignedHeaders"]
    run(blobs.put("a/b.flac", b"x"))
    assert run(blobs.get("a/b.flac")) == b"x"


def test_a_bucket_that_is_not_there_is_the_stores_trouble(s3: Any) -> None:
    blobs = Blobs.open("s3://elsewhere/farm")
    for call in (blobs.check(), blobs.put("a", b"x"), blobs.get("a")):
        with pytest.raises(StoreUnavailable, match="s3://elsewhere"):
            run(call)


def calls_answered_with_a_body(blobs: Blobs) -> list[Callable[[], Awaitable[object]]]:
    """All that asks the store for something, but for its size: a HEAD is answered with a status alone."""

    async def listed() -> object:
        return [found async for found in blobs.list()]

    return [
        blobs.check,
        listed,
        lambda: blobs.put("a", b"x"),
        lambda: blobs.put_stream("a", stream(b"x"), LIMIT),
        lambda: blobs.put_stream("a", stream(BIG), LIMIT),
        lambda: blobs.get("a"),
        lambda: blobs.get_range("a"),
        lambda: blobs.delete(["a"]),
    ]


def raised_when_told(status: int, code: str, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What every call raises when the bucket answers so, whatever it is asked; the last two get no body."""
    monkeypatch.setitem(bucket.RETRIES, "max_retries", 0)
    answer = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Not for you.</Message></Error>".encode()
    with FakeServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        server.always = (status, answer, "application/xml")
        blobs = Blobs.open("s3://audio/farm")
        raised = []
        heads = [lambda: blobs.size("a"), lambda: blobs.verify("a", 1)]
        for call in [*calls_answered_with_a_body(blobs), *heads]:
            with pytest.raises(Exception) as caught:  # noqa: PT011 # the callers look at it
                run(call())
            raised.append(caught.value)
    return raised


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (401, "Unauthorized"), (400, "ExpiredToken"), (405, "MethodNotAllowed")]
)
def test_a_refusal_of_the_bucket_is_told_as_the_buckets(
    s3: Any, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    raised = raised_when_told(status, code, monkeypatch)
    reasons = [f"{code}: Not for you."] * (len(raised) - 2) + [str(status)] * 2
    for error, reason in zip(raised, reasons, strict=True):
        assert isinstance(error, ObjectStoreRefused)
        assert error.message.startswith("The object store s3://audio/farm refused: ")
        assert reason in error.message


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (400, "RequestTimeout"), (429, "SlowDown")])
def test_trouble_of_the_bucket_that_passes_is_a_reason_to_try_again(
    s3: Any, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    raised = raised_when_told(status, code, monkeypatch)
    told = raised[:-2] if status == 400 else raised
    assert {type(error) for error in told} == {StoreUnavailable}


@pytest.mark.parametrize(("status", "code"), [(507, "Full"), (403, "XMinioAdminBucketQuotaExceeded")])
def test_a_full_bucket_is_named(s3: Any, monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    raised = raised_when_told(status, code, monkeypatch)
    told = raised[:-2] if status == 403 else raised
    assert {type(error) for error in told} == {NoSpace}


def test_a_store_out_of_reach_is_told_in_bounded_time(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setitem(bucket.RETRIES, "max_retries", 1)
    blobs = Blobs.open("s3://audio/farm")
    with pytest.raises(StoreUnavailable, match="cannot serve"):
        run(blobs.put("a", b"x"))


def test_a_blob_that_a_row_may_name_by_now_outlives_the_stop_of_a_server(store: Store) -> None:
    async def interrupted() -> None:
        async with store.blobs.tentative("named"):
            await store.blobs.put("named", b"sound")
            raise asyncio.CancelledError  # the transaction goes on in its thread

    with pytest.raises(asyncio.CancelledError):
        run(interrupted())
    assert run(store.blobs.get("named")) == b"sound"
