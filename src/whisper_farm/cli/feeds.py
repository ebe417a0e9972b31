"""`whisper-farm feed add|list|remove`: podcasts whose episodes a farm transcribes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import on_farm
from whisper_farm.cli.recognition_flags import ON_A_FARM, RECOGNITION, recognition_flags, wish_of
from whisper_farm.cli.transcriptions import each
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.words import show_table, when
from whisper_farm.showing import printable, say

if TYPE_CHECKING:
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.subscriptions import FeedView


@click.group()
def feed() -> None:
    """Have the episodes of podcasts transcribed, as they come, and get the same feeds with transcripts.

    The farm looks at each feed every half hour.
    """


@feed.command(cls=Command, sections={"Recognition": RECOGNITION})
@click.argument("url")
@click.option("--count", type=click.IntRange(1, 1000), default=3, help="The newest episodes.")
@click.option("--days", type=click.FloatRange(0, 36_500, min_open=True), metavar="N", help="None that is older.")
@click.option("--title", "words", metavar="WORDS", help="Only episodes with these words in their title.")
@truth("--keep_transcripts", help="Leave episodes alone that have their publisher's transcript.")
@recognition_flags(ON_A_FARM)
@on_farm
def add(farm: FarmClient, url: str, **flags: Any) -> int:
    """Add a feed (RSS, Atom), or all of a list of feeds (OPML, a link or a file)."""
    from pathlib import Path

    from whisper_farm.cli.main import complain
    from whisper_farm.cli.submit import farm_model
    from whisper_farm.errors import FeedUnreadable, RequestError
    from whisper_farm.ingest.addresses import check_url, is_link
    from whisper_farm.protocol.subscriptions import NewFeed

    wish = wish_of(flags)
    asked = {name: flags[name] for name in ("count", "days", "words", "keep_transcripts") if flags[name] is not None}
    urls = [url]
    if not is_link(url) and Path(url).is_file():
        from whisper_farm.ingest.feed_child import outlines

        try:
            urls = list(outlines(Path(url).read_bytes()))
        except OSError as error:
            raise FeedUnreadable(f"{url} cannot be read: {error.strerror}.") from error
        if not urls:
            raise FeedUnreadable(f"{url} is no list of feeds (OPML).")
    failed = 0
    for one in urls:
        try:
            made = farm.add_feed(
                NewFeed(url=check_url(one), options=wish.options(wish.engine, farm_model(wish)), **asked)
            )
            say(f"{made.id}  {farm.address}{made.served_at}")
        except RequestError as error:
            failed += 1
            complain(error.message if one in error.message else f"{one}: {error.message}")
    return 1 if failed else 0


@feed.command("list", cls=Command)
@on_farm
def list_(farm: FarmClient) -> None:
    """List the feeds, and where each is served with its transcripts."""
    rows = [
        (one.id, _progress(one), when(one.looked_at) if one.looked_at else "not yet",
         f"{farm.address}{one.served_at}", printable(_named(one)))
        for one in farm.feeds()
    ]  # fmt: skip
    show_table(("ID", "TRANSCRIBED", "LOOKED AT", "SERVED AT", "FEED"), rows, "No feeds are followed.")


def _progress(one: FeedView) -> str:
    return f"{one.transcribed} of {one.episodes}" + (f", {one.failed} failed" if one.failed else "")


def _named(one: FeedView) -> str:
    name = one.title or one.url
    return f"{name}  ({one.error})" if one.error else name


@feed.command(cls=Command)
@click.argument("feed_id", nargs=-1, required=True, metavar="ID...")
@on_farm
def remove(farm: FarmClient, feed_id: tuple[str, ...]) -> int:
    """Look at feeds no more, and serve them no more. What was transcribed stays."""
    return each(feed_id, farm.remove_feed, "removed")
