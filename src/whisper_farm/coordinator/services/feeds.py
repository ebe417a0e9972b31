"""Looks at feeds, and has their new episodes transcribed.

A feed is asked with what it said last time of its version (ETag, date), so that one without news costs little. One that
fails is asked again later and later, up to a day; what it said before stays. An episode is taken once, under a key of
its own: two coordinators at once make one transcription of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urljoin

from whisper_farm.coordinator.services.service import Report, Service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import AddressRefused, FarmError, FetchFailed, QuotaReached, WrongState
from whisper_farm.ingest.addresses import check_url, host_of
from whisper_farm.ingest.feeds import MOST_FEED_BYTES, Episode, ReadFeed, read_feed, wanted
from whisper_farm.ingest.fetching import ask
from whisper_farm.ingest.links import guarded_pool
from whisper_farm.leases.transcriptions import NewTranscription, submit
from whisper_farm.log import logger
from whisper_farm.settings import ServerSettings
from whisper_farm.store import feeds as rows
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.limits import room_for
from whisper_farm.transcript.options import MOST_HINT, RecognitionOptions

LOOK_SECONDS = 120.0
"""For one feed: the others wait meanwhile."""
BACK_OFF_SECONDS = 300.0
MOST_BACK_OFF_SECONDS = 86_400.0
ACCEPTED = "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.5"


class Feeds(Service):
    name = "feeds"
    period_seconds = 5
    timeout_seconds = 170

    def __init__(self, store: StoreThreads, blobs: Blobs, settings: ServerSettings) -> None:
        self._store, self._blobs, self._settings = store, blobs, settings

    async def run_once(self) -> Report:
        """Look at the feed whose turn it is."""
        feed = await self._store.write(rows.take_feed) if await self._store.read(rows.due_feed) else None
        if feed is None:
            return Report()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                taken = await self._look(feed)
        except (FarmError, TimeoutError) as failure:
            late = FetchFailed(f"{host_of(feed.url)} did not send its feed within {LOOK_SECONDS:g} seconds.")
            error = failure if isinstance(failure, FarmError) else late
            logger().warning("a feed was looked at in vain", action="feed_failed", feed_id=feed.id, error=error.message)
            tries = feed.tries + 1
            wait = min(BACK_OFF_SECONDS * 2 ** min(tries - 1, 20), MOST_BACK_OFF_SECONDS)
            wait = max(wait, float(error.details.get("wait_seconds", 0.0)))
            failed = replace(feed, tries=tries, error=f"{error.code}: {error.message}")
            await self._store.write(lambda tx: rows.note_look(tx, failed, wait))
            return Report(more=True, failed=1)
        return Report(more=True, looked=1, taken=taken)

    async def _look(self, feed: rows.FeedRow) -> int:
        """Take what is new; how many episodes that were."""
        minutes = self._settings.feed_minutes
        looked = replace(feed, tries=0, error=None)
        headers = {"accept": ACCEPTED}
        headers |= {"if-none-match": feed.etag} if feed.etag else {}
        headers |= {"if-modified-since": feed.modified} if feed.modified else {}
        content = b""
        async with guarded_pool(self._settings.private_networks) as pool, ask(pool, feed.url, headers) as answer:
            if answer.status not in (200, 304):
                told = f"{host_of(answer.url)} answered {answer.status}."
                raise FetchFailed(told, wait_seconds=answer.wait_seconds)
            if answer.status == 200:
                looked = replace(
                    looked, etag=_kept(answer.headers, "etag"), modified=_kept(answer.headers, "last-modified")
                )
                async for piece in answer.pieces:
                    content += piece
                    if len(content) > MOST_FEED_BYTES:
                        raise FetchFailed(f"The feed of {host_of(answer.url)} has more than {MOST_FEED_BYTES} bytes.")
        if not content:
            await self._store.write(lambda tx: rows.note_look(tx, looked, minutes * 60))
            return 0
        found = await read_feed(content)
        if found.feeds:
            return await self._add_all(feed, found.feeds)
        key = f"feeds/{feed.id}/{secrets.token_hex(8)}"
        looked = replace(looked, key=key, title=found.title or feed.title)
        async with self._blobs.tentative(key):
            await self._blobs.put(key, content)
            taken, old = await self._store.write(lambda tx: self._take(tx, looked, found, minutes * 60))
        await self._blobs.delete(old)
        return taken

    def _take(self, tx: Transaction, feed: rows.FeedRow, found: ReadFeed, wait_seconds: float) -> tuple[int, list[str]]:
        """Submit what is wanted; how many were taken, and the blobs that nobody needs any more."""
        before = rows.find_feed(tx, feed.id, None).key
        if not rows.note_look(tx, feed, wait_seconds):
            return 0, [str(feed.key)]
        known = {one.id for one in rows.episodes_of(tx, feed.id)}
        episodes = [replace(one, url=_absolute(feed.url, one.url)) for one in found.episodes]
        chosen = wanted(episodes, feed.days, feed.words, feed.count, tx.now)
        fresh = [one for one in reversed(chosen) if f"{feed.id}.{one.id}" not in known and _usable(one)]
        taken = fresh[: room_for(tx, self._settings, feed.owner)] if fresh else []
        for episode in taken:
            kept = feed.keep_transcripts and episode.has_transcript
            made = None if kept else submit(tx, _new(feed, episode))
            row = rows.EpisodeRow(f"{feed.id}.{episode.id}", episode.guid, episode.url, episode.title, made)
            rows.add_episode(tx, feed.id, row)
        return len(taken), [before] if before and before != feed.key else []

    async def _add_all(self, opml: rows.FeedRow, urls: Sequence[str]) -> int:
        """The feeds of a list take its place."""

        def change(tx: Transaction) -> list[str]:
            rows.find_feed(tx, opml.id, None)  # somebody may have removed it meanwhile
            asked = {name: getattr(opml, name) for name in ("words", "options", "days", "count", "keep_transcripts")}
            for url in urls:
                try:
                    rows.add_feed(tx, opml.owner, check_url(url), **asked)
                except (AddressRefused, WrongState, QuotaReached):
                    continue
            return rows.delete_feed(tx, opml)

        await self._blobs.delete(await self._store.write(change))
        return 0


def _new(feed: rows.FeedRow, episode: Episode) -> NewTranscription:
    options = RecognitionOptions.model_validate(feed.options)
    told = ". ".join(text for text in (options.initial_prompt, episode.prompt) if text)
    return NewTranscription(
        owner=feed.owner,
        name=episode.title,
        source=f"link:{episode.url}",
        source_size=0,
        options=options.model_copy(update={"initial_prompt": told[:MOST_HINT] or None}),
        key=f"{rows.EPISODE_KEY}{feed.id}:{episode.id}",
        peaks=True,
    )


def _absolute(feed_url: str, url: str) -> str:
    try:
        return urljoin(feed_url, url)
    except ValueError:  # no address at all
        return url


def _usable(episode: Episode) -> bool:
    try:
        check_url(episode.url)
    except AddressRefused:
        return False
    return True


def _kept(headers: Mapping[str, str], name: str) -> str | None:
    """What to send back next time, if it can be sent."""
    found = headers.get(name, "")
    return found if found and len(found) <= 300 and found.isascii() and found.isprintable() else None
