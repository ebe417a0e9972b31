"""Audio, results and transcripts as blobs: in a folder, or in a bucket of any S3-compatible store.

Promises: a blob is there whole or not at all, also when an upload fails, is cancelled or exceeds its limit. What is
streamed in is counted and hashed on the way. Nothing is held in memory whole, unless it is asked for as `bytes`. Where
the store can sign, workers and clients may be given URLs to send and fetch blobs themselves. `verify` then says whether
what arrived is what was announced.

Blobs that the database names are not changed: whoever writes again uses another key, or is refused. Two things can
still replace one: what was on its way by then, and what is sent to a presigned URL before it runs out. So a recording
that came by such a URL is copied before it counts, and the SHA-256 of a chunk is told with its audio.

It does not know what the blobs mean. It forces nothing to disk before it answers: a power cut may cost the last
seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from whisper_farm.errors import (
    BlobMissing,
    DigestMismatch,
    InvalidRequest,
    NoSpace,
    ObjectStoreRefused,
    StorageError,
    StoreUnavailable,
    TooLarge,
)
from whisper_farm.store import folder
from whisper_farm.store.bucket import first_line, open_bucket, refusal
from whisper_farm.store.incoming import BlobFacts, Incoming

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

KEY = re.compile(r"(?=.{1,512}$)[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""Plain segments: valid on every file system and in every URL, never hidden, never pointing upwards."""
PART_BYTES = 8 << 20
PARTS_AT_ONCE = 2
PUTS_AT_ONCE = 8
MOST_PARTS = 9_000
READ_BYTES = 1 << 20
DELETE_AT_ONCE = 1_000
ABORT_SECONDS = 15.0
FULL = re.compile(r"(os error|Errno) (28|112|122)\b|No space left|status code: 507\b|<Code>\w*QuotaExceeded</Code>")


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """One blob of a listing; `modified` is in epoch seconds, by the store's clock."""

    key: str
    size: int
    modified: float


class Blobs:
    """One store of blobs. Safe to use from any number of tasks."""

    def __init__(self, store: LocalStore | S3Store, place: str, signer: S3Store | None = None) -> None:
        self._store, self._signer = store, signer
        self.place = place
        """Where it is, for people to read."""

    @classmethod
    def open(cls, place: str | Path, public_endpoint: str | None = None) -> Blobs:
        """Open a folder, made if missing, or `s3://BUCKET/PREFIX`. Nothing is sent to a bucket yet.

        `public_endpoint` is the bucket's address as workers and clients reach it, where that is another than ours.
        """
        text = str(place)
        if not text.startswith("s3://"):
            if "://" in text:
                raise StoreUnavailable(f"Blobs go into a folder or s3://BUCKET/PREFIX, not {text}.")
            return cls(folder.open_folder(Path(text)), text)
        bucket, _, prefix = text.removeprefix("s3://").strip("/").partition("/")
        if not bucket:
            raise StoreUnavailable(f"{text} names no bucket; it should be s3://BUCKET/PREFIX.")
        store = open_bucket(bucket, prefix)
        signer = store if public_endpoint is None else open_bucket(bucket, prefix, public_endpoint)
        return cls(store, text, signer)

    async def check(self) -> None:
        """Raise `StoreUnavailable` or `ObjectStoreRefused` unless the store answers."""
        with self._serving():
            async for _ in obstore.list(self._store, chunk_size=1):
                break

    async def put(self, key: str, data: bytes) -> None:
        await self.put_all({key: data})

    async def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Store small blobs. If one cannot be stored, others may be.

        In a folder they are written one after the other on a thread: to await each costs several times as much. In a
        bucket, where it is the way there that takes time, they are on it together.
        """
        for key in blobs:
            _check(key)
        with self._serving():
            if isinstance(self._store, LocalStore):
                await asyncio.to_thread(folder.put_all, self._root, blobs)
                return
            turns = asyncio.Semaphore(PUTS_AT_ONCE)

            async def put(key: str, data: bytes) -> None:
                async with turns:
                    await obstore.put_async(self._store, key, data, use_multipart=False)

            await asyncio.gather(*(put(key, data) for key, data in blobs.items()))

    async def put_stream(self, key: str, source: AsyncIterator[bytes], limit: int) -> BlobFacts:
        """Store what `source` yields, up to `limit` bytes; more is `TooLarge`, and then nothing is stored.

        Once cancelled, it ends when the blob is whole, or will not be there.
        """
        _check(key)
        incoming = Incoming(source, limit)
        least = READ_BYTES if isinstance(self._store, LocalStore) else PART_BYTES
        head = await incoming.take(least)
        try:
            with self._serving():
                if incoming.ended:
                    await self._finish(self.put(key, head), incoming)
                else:
                    whole, part_bytes = incoming.with_head(head), max(least, -(-limit // MOST_PARTS))
                    putting = partial(obstore.put_async, chunk_size=part_bytes, max_concurrency=PARTS_AT_ONCE)
                    await self._finish(putting(self._store, key, whole), incoming)
        except StorageError:
            if incoming.error is not None:  # not the store's trouble, but that of who sends
                raise incoming.error from None
            raise
        return incoming.facts

    @asynccontextmanager
    async def tentative(self, key: str) -> AsyncIterator[None]:
        """Remove this blob if the block fails.

        It stays where a store failed or the server stops: a row may name it by now, else it is swept.
        """
        try:
            yield
        except BaseException as error:
            if not isinstance(error, StorageError | asyncio.CancelledError):
                await self.delete([key])
            raise

    async def leave_room(self, size: int, reserve: int) -> None:
        """Raise `NoSpace` unless so many bytes fit, and a reserve is left. A bucket has room."""
        if isinstance(self._store, LocalStore):
            free = (await asyncio.to_thread(shutil.disk_usage, self._root)).free
            if free < size + reserve:
                raise NoSpace(f"There is no room for {size} bytes on this server's disk; its owner has to make some.")

    async def get(self, key: str, limit: int | None = None) -> bytes:
        """A whole blob; `TooLarge` if it has more than `limit` bytes."""
        _check(key)
        with self._serving(key):
            if isinstance(self._store, LocalStore):
                return await asyncio.to_thread(_get, self._store, key, limit)
            found = await obstore.get_async(self._store, key)
            _must_be_within(found, key, limit)
            return bytes(await found.bytes_async())

    async def get_range(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `[start, end)` of a blob, piece by piece. The range must lie inside it; by default it is all.

        A missing blob is told at once, before the first piece.
        """
        _check(key)
        if end is not None and end <= start:
            await self.size(key)
            return _nothing()
        with self._serving(key):
            if end is None and start == 0:
                found = await obstore.get_async(self._store, key)
            else:
                wanted: GetOptions = {"range": {"offset": start} if end is None else (start, end)}
                found = await obstore.get_async(self._store, key, options=wanted)
        return self._pieces(key, found)

    async def joined(self, keys: Iterable[str]) -> AsyncIterator[bytes]:
        """What is in these blobs, one after the other."""
        for key in keys:
            async for piece in await self.get_range(key):
                yield piece

    async def size(self, key: str) -> int:
        """How many bytes a blob has."""
        _check(key)
        with self._serving(key):
            return (await obstore.head_async(self._store, key))["size"]

    async def verify(self, key: str, size: int, sha256: str | None = None, limit: int | None = None) -> None:
        """Raise `BlobMissing` or `DigestMismatch` unless the blob is what was announced. Reads it all for `sha256`.

        A blob of more than `limit` bytes is removed, and that is `TooLarge`: who has a presigned URL can send as many.
        """
        actual = await self.size(key)
        if limit is not None and actual > limit:
            await self.delete([key])
            raise TooLarge(f"{actual} bytes have arrived where {limit} are the most; they were removed. Send it again.")
        if actual != size:
            raise DigestMismatch(f"{size} bytes were announced, {actual} have arrived. Send the file again.")
        if sha256 is None:
            return
        digest = hashlib.sha256()
        async for piece in await self.get_range(key):
            digest.update(piece)
        if digest.hexdigest() != sha256:
            raise DigestMismatch(
                f"SHA-256 {sha256} was announced, what arrived has {digest.hexdigest()}. Send it again."
            )

    async def copy(self, key: str, to: str) -> None:
        """Store what is in a blob under another name as well; the store does that by itself."""
        _check(key)
        _check(to)
        with self._serving(key):
            await obstore.copy_async(self._store, key, to)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove blobs; those that are not there are no error."""
        for key in keys:
            _check(key)
        for first in range(0, len(keys), DELETE_AT_ONCE):
            with self._serving():
                await self._delete_some(keys[first : first + DELETE_AT_ONCE])

    async def list(self, prefix: str = "") -> AsyncIterator[BlobEntry]:
        """All blobs, or those whose key lies under `prefix`, taken as a folder."""
        under = prefix.rstrip("/")
        if under:
            _check(under)
        with self._serving():
            async for page in obstore.list(self._store, under or None, chunk_size=1000):
                for found in page:
                    yield BlobEntry(found["path"], found["size"], found["last_modified"].timestamp())

    async def presign(self, method: Literal["GET", "PUT"], key: str, seconds: float) -> str | None:
        """A URL that fetches or stores the blob (not as a form) for so long; None where nobody can sign (a folder).

        The library signs no headers, so one to store takes any number of bytes: `verify` has the last word.
        """
        _check(key)
        if self._signer is None:
            return None
        with self._serving():
            return await obstore.sign_async(self._signer, method, key, timedelta(seconds=seconds))

    async def sweep_unfinished(self, before: float) -> int:
        """Remove what uploads left behind whose process was killed, if older than the time `before`; returns how many.

        For folders. A bucket does this itself, by a lifecycle rule for incomplete multipart uploads.
        """
        if not isinstance(self._store, LocalStore):
            return 0
        return await asyncio.to_thread(folder.sweep, self._root, before)

    async def _finish(self, putting: Awaitable[object], incoming: Incoming) -> None:
        """Wait for it. When cancelled, end the stream with an error, so that the parts sent are given up too."""
        put = asyncio.ensure_future(putting)
        try:
            await asyncio.shield(put)
        except asyncio.CancelledError:
            incoming.stop()
            await asyncio.wait([put], timeout=ABORT_SECONDS)
            if put.done() and not put.cancelled():
                put.exception()
            raise

    async def _pieces(self, key: str, found: GetResult) -> AsyncIterator[bytes]:
        with self._serving(key):
            async for piece in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(piece)

    async def _delete_some(self, keys: Sequence[str]) -> None:
        if isinstance(self._store, S3Store):
            await obstore.delete_async(self._store, keys)
            return
        for key in keys:
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)

    @property
    def _root(self) -> Path:
        """The folder; of a bucket there is none."""
        assert isinstance(self._store, LocalStore)
        assert self._store.prefix is not None
        return self._store.prefix

    @contextmanager
    def _serving(self, key: str | None = None) -> Iterator[None]:
        """Turn the store's errors into ours; with a `key`, what is not found is that blob."""
        try:
            yield
        except FileNotFoundError as error:
            if key is None or "NoSuchBucket" in str(error):
                raise StoreUnavailable(f"The blob store {self.place} is not there: {first_line(error)}") from error
            raise BlobMissing(f"The stored file {key} is gone.") from error
        except (BaseError, OSError) as error:
            if FULL.search(str(error)):
                raise NoSpace(f"No space is left in the blob store {self.place}.") from error
            if isinstance(self._store, S3Store) and (reason := refusal(error)) is not None:
                raise ObjectStoreRefused(
                    f"The object store {self.place} refused: {reason}. Check the credentials, the region and the rights"
                    " that this server uses it with."
                ) from error
            raise StoreUnavailable(f"The blob store {self.place} cannot serve: {first_line(error)}") from error


def _get(store: LocalStore, key: str, limit: int | None) -> bytes:
    found = obstore.get(store, key)
    _must_be_within(found, key, limit)
    return bytes(found.bytes())


def _must_be_within(found: GetResult, key: str, limit: int | None) -> None:
    if limit is not None and found.meta["size"] > limit:
        raise TooLarge(f"The stored file {key} has {found.meta['size']} bytes; {limit} are the most.")


def _check(key: str) -> None:
    if not KEY.fullmatch(key):
        raise InvalidRequest(f"{key!r} cannot be the name of a stored file.")


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
