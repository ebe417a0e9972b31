"""Feeds of podcasts: what episodes there are, which are wanted, and the same feed again with its transcripts named.

A feed comes from outside and may be anything. It is read in a child process with a time limit (`feed_child.py`), so
that no feed can hold up a server. What is served back is the publisher's own bytes with tags put in, none taken out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from whisper_farm.errors import FeedUnreadable
from whisper_farm.ingest.program import run_program
from whisper_farm.times import DAY_SECONDS

MOST_FEED_BYTES = 16 << 20
READ_SECONDS = 60.0
MOST_READ_BYTES = 64 << 20
PODCAST = "https://podcastindex.org/namespace/1.0"


@dataclass(frozen=True, slots=True)
class Episode:
    """One item of a feed that has a recording."""

    guid: str
    title: str
    url: str
    published: float | None
    prompt: str
    """Names and titles from the show notes."""
    has_transcript: bool
    """Whether the publisher has one already."""

    @property
    def id(self) -> str:
        """The same for the same item of a feed."""
        return hashlib.sha256(self.guid.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ReadFeed:
    """A feed as it was read; of a list of feeds (OPML) only their addresses."""

    title: str
    episodes: tuple[Episode, ...] = ()
    feeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TranscriptTag:
    """One form of a transcript, as a feed names it."""

    url: str
    media_type: str
    language: str | None
    captions: bool = False

    def written(self) -> bytes:
        """The element. It brings its own namespace, so the feed around it stays as it is."""
        named = {"xmlns:podcast": PODCAST, "url": self.url, "type": self.media_type, "language": self.language}
        named |= {"rel": "captions"} if self.captions else {}
        attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in named.items() if value)
        return f"<podcast:transcript {attributes}/>".encode("ascii", "xmlcharrefreplace")


async def read_feed(content: bytes) -> ReadFeed:
    """What a feed holds; raises `FeedUnreadable`."""
    try:
        async with (
            asyncio.timeout(READ_SECONDS),
            run_program((sys.executable, "-m", "whisper_farm.ingest.feed_child"), {}) as one,
        ):
            writing = asyncio.ensure_future(one.write(content))
            said = b""
            async for piece in one.pieces():
                said += piece
                if len(said) > MOST_READ_BYTES:
                    raise FeedUnreadable("This feed is too large to be read.")
            await writing
            status, _ = await one.ended()
    except TimeoutError:
        raise FeedUnreadable(f"This feed could not be read within {READ_SECONDS:g} seconds.") from None
    if status != 0:
        raise FeedUnreadable
    found = json.loads(said)
    return ReadFeed(found["title"], tuple(Episode(**one) for one in found["episodes"]), tuple(found["feeds"]))


def wanted(episodes: Sequence[Episode], days: float | None, title: str, count: int, now: float) -> list[Episode]:
    """The newest episodes, `count` at most: not older than that, and with these words in their title."""
    words = title.casefold()
    young = [
        one
        for one in episodes
        if words in one.title.casefold()
        and (days is None or one.published is None or one.published > now - days * DAY_SECONDS)
    ]
    dated = any(one.published is not None for one in young)
    return sorted(young, key=lambda one: -(one.published or 0.0))[:count] if dated else young[:count]


def with_transcripts(content: bytes, tags: Mapping[str, Sequence[TranscriptTag]]) -> bytes:
    """The feed with tags in the items of these guids (or addresses of recordings).

    A feed that is no well-formed XML stays as it is: whoever can read the original can read it.
    """
    items = _Items()
    try:
        items.parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError):
        return content
    made, at = [], 0
    for place, names in items.ends:
        mine = next((tags[name] for name in names if name in tags), ())
        if mine and content[place : place + 2] == b"</":
            made += [content[at:place], *(tag.written() for tag in mine)]
            at = place
    return b"".join([*made, content[at:]])


class _Items:
    """Finds the places where items end, and what each is called."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, list[str]]] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = _no_entities
        self._open: list[str] = []
        self._names: list[str] | None = None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(":")[2]
        if kind in ("item", "entry"):
            self._names = []
        elif self._names is not None and kind in ("guid", "id"):
            self._names.insert(0, "")
        elif self._names is not None and (kind == "enclosure" or attributes.get("rel") == "enclosure"):
            self._names.append(attributes.get("url") or attributes.get("href") or "")
        self._open.append(kind)

    def _text(self, text: str) -> None:
        if self._names and self._open[-1] in ("guid", "id"):
            self._names[0] = (self._names[0] + text).strip()

    def _end(self, name: str) -> None:
        kind = self._open.pop()
        if kind in ("item", "entry") and self._names is not None:
            self.ends.append((self.parser.CurrentByteIndex, [one for one in self._names if one]))
            self._names = None


def _no_entities(*_: object) -> None:
    raise ValueError("A feed that declares entities stays as it is.")
