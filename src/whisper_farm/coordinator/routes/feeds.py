"""Feeds: say which are to be transcribed; and the same feeds again, with transcripts, for players of podcasts.

Players send no tokens. So a served feed has an address that nobody can guess. Whoever knows it reads that feed and the
transcripts of its episodes, and nothing else.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Path, Request, Response
from starlette.types import Scope

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import IdInPath
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import CheckedRoute, Dialect, routes_for, sub_application
from whisper_farm.coordinator.layers.auth import AnyCaller, Caller
from whisper_farm.coordinator.submissions import check_model, check_options
from whisper_farm.coordinator.transcripts import transcript_key_of
from whisper_farm.errors import AddressRefused, NotFound, OptionUnsupported, WrongState
from whisper_farm.ingest.addresses import check_url
from whisper_farm.ingest.feeds import MOST_FEED_BYTES, TranscriptTag, with_transcripts
from whisper_farm.ingest.links import check_reach
from whisper_farm.protocol.subscriptions import FeedList, FeedView, NewFeed
from whisper_farm.store import feeds as rows
from whisper_farm.store.database import Transaction
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.formats import FORMATS

router = routes_for("feeds", "/feeds")
served_router = APIRouter(route_class=CheckedRoute, include_in_schema=False)
SERVED = {"vtt": FORMATS["podcast-vtt"], "srt": FORMATS["podcast-srt"], "json": FORMATS["podcast-json"],
          "html": FORMATS["html"]}  # fmt: skip
"""The forms of a transcript, the most wanted first, by how their addresses end."""
CAPTIONS = ("vtt", "srt")
FOR_ANYBODY = {"Access-Control-Allow-Origin": "*"}
"""Players in browsers are pages of others."""
HAS_TRANSCRIPT = ("done", "incomplete")
Secret = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


@router.post("", status_code=201, responses=documented(WrongState, AddressRefused, OptionUnsupported))
async def create_feed(body: NewFeed, caller: AnyCaller, farm: Farm) -> FeedView:
    """Have the episodes of a feed transcribed; a list of feeds (OPML) adds all of them."""
    check_model(farm.settings, body.options)
    await check_options(farm, body.options)
    url, told = check_url(body.url), body.model_dump(mode="json", exclude={"url"})
    await check_reach(url, farm.settings.private_networks)
    row = await farm.store.write(lambda tx: rows.add_feed(tx, caller.owner, url, **told))
    farm.log.info("a feed was added", action="feed_added", feed_id=row.id, owner=row.owner)
    farm.services.wake("feeds")
    return _view(row, [])


@router.get("")
async def list_feeds(caller: AnyCaller, farm: Farm) -> FeedList:
    """The own feeds, or for an admin all."""

    def views(tx: Transaction) -> list[FeedView]:
        return [_view(row, rows.episodes_of(tx, row.id)) for row in rows.feeds_of(tx, caller.sees)]

    return FeedList(feeds=tuple(await farm.store.read(views)))


@router.delete("/{feed_id}", status_code=204, responses=documented(NotFound))
async def remove_feed(feed_id: IdInPath, caller: AnyCaller, farm: Farm) -> None:
    """Look at a feed no more, and serve it no more. What was transcribed stays."""
    await farm.blobs.delete(
        await farm.store.write(lambda tx: rows.delete_feed(tx, rows.find_feed(tx, feed_id, caller.sees)))
    )


@served_router.get("/{secret}")
async def serve_feed(secret: Secret, request: Request, farm: Farm) -> Response:
    """The feed as its publisher has it, with tags of our transcripts."""

    def look(tx: Transaction) -> tuple[rows.FeedRow, list[rows.EpisodeRow]]:
        feed = rows.served_feed(tx, secret)
        return feed, rows.episodes_of(tx, feed.id)

    feed, episodes = await farm.store.read(look)
    if feed.key is None:
        raise NotFound("This feed was not read yet.")
    front = farm.settings.public_url or f"{request.url.scheme}://{request.url.netloc}{request.scope['app_root_path']}"
    place = f"{front.rstrip('/')}/feed/{secret}"
    tags = {
        name: [
            TranscriptTag(f"{place}/{_own_id(one)}.{end}", _plain(end), one.language, end in CAPTIONS) for end in SERVED
        ]
        for one in episodes
        if one.state in HAS_TRANSCRIPT
        for name in (one.url, one.guid)
    }
    content = await farm.blobs.get(feed.key, MOST_FEED_BYTES)
    made = await asyncio.to_thread(with_transcripts, content, tags)
    kind = "application/atom+xml" if b"<feed" in made[:4096] else "application/rss+xml"
    return Response(made, headers={"Content-Type": kind, **FOR_ANYBODY})


@served_router.get("/{secret}/{episode}.{end}")
async def serve_transcript(
    secret: Secret,
    episode: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    end: Literal["vtt", "srt", "json", "html"],
    farm: Farm,
) -> Response:
    """The transcript of an episode in one of the forms that players take."""

    def look(tx: Transaction) -> TranscriptionRow:
        feed = rows.served_feed(tx, secret)
        made = [one.transcription_id for one in rows.episodes_of(tx, feed.id) if _own_id(one) == episode]
        if not made or made[0] is None:
            raise NotFound("There is no such episode.")
        return find(tx, made[0])

    row = await farm.store.read(look)
    transcript_key_of(row)
    wanted = SERVED[end]
    content = await farm.renderer.file(row, wanted, None, False)
    return Response(content, headers={"Content-Type": wanted.media_type, **FOR_ANYBODY})


def served_feeds(coordinator: Coordinator) -> FastAPI:
    """The dialect of players: the address is the secret."""
    return sub_application(coordinator, [served_router], Dialect(_anybody))


async def _anybody(scope: Scope) -> Caller:
    return Caller("", "", "user")


def _own_id(episode: rows.EpisodeRow) -> str:
    return episode.id.rpartition(".")[2]


def _plain(end: str) -> str:
    return SERVED[end].media_type.partition(";")[0]


def _view(row: rows.FeedRow, episodes: list[rows.EpisodeRow]) -> FeedView:
    transcribed = sum(one.state in HAS_TRANSCRIPT for one in episodes)
    failed = sum(one.state == "failed" for one in episodes)
    counted = {"episodes": len(episodes), "transcribed": transcribed, "failed": failed}
    return FeedView.of(row, served_at=f"/feed/{row.secret}", **counted)
