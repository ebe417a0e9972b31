"""Fetches what links lead to and stores it, part by part, until the recording is whole and its first job can be made.

A coordinator runs several of these, each with one link at a time. Half of them are for owners of whom no link is being
fetched, so that nobody waits for links of others that trickle. What has come is kept in parts. So after a broken
connection, or at another coordinator, it goes on where it ended, if the server can. The parts become one blob in the
end. A try that failed is made again after a while; when that is of no use, the transcription fails and says why. Of no
use is a host that nobody knows, unless a feed names it: a person mistyped it, and waits.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from shutil import which
from typing import Any

from whisper_farm.coordinator.services.service import Report, Service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import part_key, source_key
from whisper_farm.errors import (
    AddressRefused,
    FarmError,
    FetchFailed,
    LeaseLost,
    LinkIsPage,
    NotFound,
    StorageError,
    TooLarge,
)
from whisper_farm.ingest.addresses import host_of
from whisper_farm.ingest.fetching import download
from whisper_farm.ingest.links import guarded_pool
from whisper_farm.ingest.sites import site_pieces
from whisper_farm.leases.transcriptions import fetched, unfetchable
from whisper_farm.protocol.events import TranscriptionFetching
from whisper_farm.settings import ServerSettings
from whisper_farm.store import fetches
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.feeds import EPISODE_KEY
from whisper_farm.store.fetches import HELD_SECONDS, FetchRow, due_fetch, hold_fetch, let_go, take_fetch
from whisper_farm.store.transcriptions import find
from whisper_farm.to_the_end import to_the_end

PART_BYTES = 16 << 20
BEAT_SECONDS = 5.0
LAST_SECONDS = 60.0
"""What the last try has at least."""


class LinkFetch:
    """One try: the row as it is by now, and what is in memory."""

    def __init__(self, row: FetchRow, url: str, of_feed: bool) -> None:
        self.row, self.url, self.of_feed = row, url, of_feed
        self.id = row.transcription_id
        self.stored_before = self.stored
        self.memory = bytearray()
        self.unnamed: list[str] = []
        """The recording's key, until a row names it."""

    @property
    def stored(self) -> int:
        """Bytes in parts."""
        return sum(size for _, size in self.row.parts)

    def note(self, **found: Any) -> None:
        """Change these fields of the row; the database is told of them later."""
        self.row = replace(self.row, **found)

    def held(self) -> FetchRow:
        """As the database is told of it."""
        return replace(self.row, received_bytes=self.stored + len(self.memory))


class Fetcher(Service):
    name = "fetcher"
    woken_by = frozenset({"transcription_submitted", "transcription_retried"})
    period_seconds = 5

    def __init__(self, store: StoreThreads, blobs: Blobs, settings: ServerSettings, most_of_one: int) -> None:
        """It takes no link of an owner of whom so many are being fetched."""
        self._store, self._blobs, self._settings, self._most_of_one = store, blobs, settings, most_of_one
        self.timeout_seconds: float = settings.fetch_hours * 3600 + LAST_SECONDS

    async def run_once(self) -> Report:
        """Try the link whose turn it is, if there is one."""
        if await self._store.read(lambda tx: due_fetch(tx, self._most_of_one)) is None:
            return Report()
        row = await self._store.write(lambda tx: take_fetch(tx, secrets.token_hex(8), self._most_of_one))
        if row is None:
            return Report()
        try:
            return await self._try(row)
        except (LeaseLost, NotFound):  # cancelled, deleted, or somebody else's by now
            return Report(more=True, in_vain=1)

    async def _try(self, row: FetchRow) -> Report:
        found = await self._store.read(lambda tx: find(tx, row.transcription_id))
        one = LinkFetch(row, found.source.removeprefix("link:"), (found.key or "").startswith(EPISODE_KEY))
        try:
            ends_at = row.since + self._settings.fetch_hours * 3600
            async with asyncio.timeout(max(LAST_SECONDS, ends_at - (row.next_at - HELD_SECONDS))):
                await self._held(one)
        except TimeoutError:
            hours = f"{self._settings.fetch_hours:g} hours"
            await self._failed(one, FetchFailed(f"{host_of(one.url)} did not send all of it within {hours}."))
            return Report(more=True, in_vain=1)
        except (LeaseLost, NotFound):
            await self._blobs.delete(one.unnamed)
            raise
        except FarmError as error:
            await self._failed(one, error)
            return Report(more=True, in_vain=1)
        except BaseException:  # stopped, or out of time: the next one may go on at once
            with suppress(FarmError):
                await to_the_end(self._let_go(one, "The fetch was interrupted.", 0.0, counts=False))
            raise
        return Report(more=True, fetched=1)

    async def _held(self, one: LinkFetch) -> None:
        """Bring it, and say now and then that it is still being brought."""
        bringing, beating = asyncio.ensure_future(self._bring(one)), asyncio.ensure_future(self._beat(one))
        try:
            await asyncio.wait({bringing, beating}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (bringing, beating):
                task.cancel()
            await asyncio.wait({bringing, beating})
        (bringing if not bringing.cancelled() else beating).result()

    async def _beat(self, one: LinkFetch) -> None:
        told = one.row.received_bytes
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            held = one.held()
            await self._hold(held, tell=held.received_bytes != told)
            told = held.received_bytes

    async def _hold(self, held: FetchRow, tell: bool = False) -> None:
        def hold(tx: Transaction) -> bool:
            if not hold_fetch(tx, held):
                return False
            if tell:
                said = TranscriptionFetching(received_bytes=held.received_bytes, total_bytes=held.total_bytes)
                emit(tx, said, held.transcription_id, find(tx, held.transcription_id).owner)
            return True

        if not await self._store.write(hold):
            raise LeaseLost

    async def _bring(self, one: LinkFetch) -> None:
        try:
            async for piece in self._pieces(one):
                one.memory += piece
                if one.stored + len(one.memory) > self._settings.max_upload_bytes:
                    most = self._settings.max_upload_bytes
                    raise TooLarge(f"{host_of(one.url)} sends more than {most} bytes; this server takes no more.")
                if len(one.memory) >= PART_BYTES:
                    await self._keep(one)
        finally:
            await self._keep(one)
        total = one.row.total_bytes
        if total is not None and one.stored != total:
            raise FetchFailed(f"{host_of(one.url)} sent {one.stored} of {total} bytes.", again=True, anew=True)
        if not one.stored:
            raise FetchFailed(f"{host_of(one.url)} sent an empty file.")
        await self._put_together(one)

    async def _pieces(self, one: LinkFetch) -> AsyncIterator[bytes]:
        """What comes, from the first byte that is not stored."""
        async with guarded_pool(self._settings.private_networks) as pool:
            try:
                async with download(pool, one.url, one.stored, one.row.validator) as found:
                    if not found.start:
                        await self._drop_parts(one)
                    one.note(total_bytes=found.total, validator=found.validator)
                    if (found.total or 0) > self._settings.max_upload_bytes:
                        raise TooLarge(f"{host_of(one.url)} has {found.total} bytes there; this server takes less.")
                    async for piece in found.pieces:
                        yield piece
                return
            except LinkIsPage as page:
                if not (program := which(self._settings.yt_dlp)):
                    raise
                paged = page
        one.note(total_bytes=None, validator=None)
        await self._drop_parts(one)
        async with aclosing(site_pieces(program, one.url, self._settings, paged)) as pieces:
            async for piece in pieces:
                yield piece

    async def _keep(self, one: LinkFetch) -> None:
        """Store what is in memory as another part."""
        await to_the_end(self._keep_now(one))

    async def _keep_now(self, one: LinkFetch) -> None:
        if not one.memory:
            return
        key = part_key(one.id)
        await self._blobs.put(key, bytes(one.memory))
        one.note(parts=[*one.row.parts, [key, len(one.memory)]])
        one.memory.clear()
        try:
            await self._hold(one.held(), tell=True)
        except LeaseLost:
            await self._blobs.delete([key])
            raise

    async def _drop_parts(self, one: LinkFetch) -> None:
        keys = [key for key, _ in one.row.parts]
        one.note(parts=[])
        if keys:
            await self._hold(one.held())
            await self._blobs.delete(keys)

    async def _put_together(self, one: LinkFetch) -> None:
        """Make one blob of the parts, and the job that cuts it."""
        key = source_key(one.id)
        one.unnamed = [key]
        facts = await self._blobs.put_stream(key, self._blobs.joined(key for key, _ in one.row.parts), one.stored)
        done = partial(fetched, transcription_id=one.id, key=key, size=facts.size, sha256=facts.sha256)
        await to_the_end(self._hand_over(one, done))

    async def _hand_over(self, one: LinkFetch, done: Callable[[Transaction], list[str]]) -> None:
        parts = await self._store.write(done)
        one.unnamed = []
        await self._blobs.delete(parts)

    async def _failed(self, one: LinkFetch, error: FarmError) -> None:
        """Another try after a while, or the end."""
        if not isinstance(error, StorageError):  # else a row may name it by now
            await self._blobs.delete(one.unnamed)
        if error.details.get("anew") or isinstance(error, TooLarge):
            with suppress(LeaseLost):
                await self._drop_parts(one)
        passing = bool(error.details.get("again")) or isinstance(error, StorageError)
        passing = passing and (one.of_feed or not error.details.get("no_host"))
        grown, waits = one.stored - one.stored_before >= PART_BYTES, fetches.WAIT_SECONDS
        if passing and (grown or one.row.tries <= len(waits)):
            wait = waits[min(one.row.tries, len(waits)) - 1]
            await self._let_go(one, error.message, max(wait, error.details.get("wait_seconds", 0.0)), not grown)
            return
        known = isinstance(error, FetchFailed | LinkIsPage | AddressRefused | TooLarge)
        code = error.code if known else FetchFailed.code
        await self._store.write(lambda tx: unfetchable(tx, one.id, code, error.message))

    async def _let_go(self, one: LinkFetch, why: str, wait_seconds: float, counts: bool) -> None:
        def change(tx: Transaction) -> None:
            let_go(tx, one.id, one.row.holder or "", why, wait_seconds, counts)
            said = TranscriptionFetching(received_bytes=one.stored, total_bytes=one.row.total_bytes, message=why)
            emit(tx, said, one.id, find(tx, one.id).owner)

        await self._store.write(change)
