"""The child process that reads a feed: from its standard input to JSON on its standard output.

feedparser takes RSS and Atom of every sort, also broken ones. What can be had of them is had; the rest is left out.
"""

from __future__ import annotations

import calendar
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import urljoin
from xml.parsers import expat

import feedparser

MOST_EPISODES = 5000
MOST_FEEDS = 500
MOST_NAME = 255
MOST_PROMPT = 600
"""Characters: about what Whisper takes."""
MOST_NOTES = 20_000
SOUNDS = (".mp3", ".m4a", ".m4b", ".mp4", ".m4v", ".ogg", ".opus", ".aac", ".wav", ".flac", ".webm", ".mov")
_WORD = re.compile(r"[^\W\d_]\.|[^\W\d_][\w'’-]*|[.!?;:,()\n]")
_TAG = re.compile(r"<[^<>]{0,2000}>")
_PARTICLES = frozenset({"de", "da", "di", "van", "von", "der", "den", "la", "le", "of", "del", "bin", "al"})


def main() -> int:
    """Read one feed; 1 if it is none."""
    content = sys.stdin.buffer.read()
    feeds = list(outlines(content))
    read: Any = {"title": "", "episodes": [], "feeds": feeds} if feeds else _read(content)
    if read is None:
        return 1
    sys.stdout.write(json.dumps(read))
    return 0


def outlines(content: bytes) -> Iterator[str]:
    """The addresses of the feeds in a list of them (OPML)."""
    found: dict[str, None] = {}
    opml: list[bool] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        opml.append(name.lower() == "opml" if not opml else opml[0])
        if opml[0] and name.lower() == "outline":
            given = {key.lower(): value for key, value in attributes.items()}
            if url := given.get("xmlurl", "").strip():
                found[url] = None

    parser.StartElementHandler = start
    with suppress(expat.ExpatError, ValueError, LookupError):
        parser.Parse(content, True)
    yield from list(found)[:MOST_FEEDS]


def _read(content: bytes) -> dict[str, Any] | None:
    feedparser.api.SANITIZE_HTML = feedparser.api.RESOLVE_RELATIVE_URIS = 0
    found = feedparser.parse(io.BytesIO(content))  # of bytes alone it might think that they are an address or a file
    if not found.version and not found.entries:
        return None
    base = str(found.feed.get("link", ""))
    title = _line(found.feed.get("title", ""))
    episodes = [one for entry in found.entries[:MOST_EPISODES] if (one := _episode(entry, title, base))]
    return {"title": title, "episodes": episodes, "feeds": []}


def _episode(entry: Any, show: str, base: str) -> dict[str, Any] | None:
    with suppress(Exception):  # an item that nobody can read is no episode
        url = next((link for link in _recordings(entry)), None)
        if url is None:
            return None
        url = urljoin(base, url)
        title = _line(entry.get("title", "")) or url.rpartition("/")[2][:MOST_NAME] or show
        return {
            "guid": str(entry.get("id") or url)[:2000],
            "title": title or "episode",
            "url": url,
            "published": _time(entry),
            "prompt": prompt_of(show, title, _people(entry), _notes(entry)),
            "has_transcript": bool(entry.get("podcast_transcript")),
        }
    return None


def _recordings(entry: Any) -> Iterator[str]:
    files = [(str(one.get("href", "")).strip(), str(one.get("type", ""))) for one in entry.get("enclosures", ())]
    media = [(str(one.get("url", "")).strip(), str(one.get("type", ""))) for one in entry.get("media_content", ())]
    both = [(url, kind) for url, kind in files + media if url]
    yield from (url for url, kind in both if kind.startswith(("audio/", "video/")))
    yield from (url for url, _ in both if url.partition("?")[0].lower().endswith(SOUNDS))


def _time(entry: Any) -> float | None:
    with suppress(Exception):
        told = entry.get("published_parsed") or entry.get("updated_parsed")
        return float(calendar.timegm(told)) if told else None
    return None


def _people(entry: Any) -> list[str]:
    names = [entry.get("author", ""), *(one.get("name", "") for one in entry.get("authors", ()))]
    person = entry.get("podcast_person")
    return [_line(name) for name in [*names, person if isinstance(person, str) else ""] if name]


def _notes(entry: Any) -> str:
    texts = [one.get("value", "") for one in entry.get("content", ())]
    longest = max([entry.get("summary", ""), *texts], key=len)[:MOST_NOTES]
    return unescape(_TAG.sub("\n", longest))


def prompt_of(show: str, title: str, people: list[str], notes: str) -> str:
    """What a recogniser is told to expect: the titles, and the names that the notes have."""
    found = dict.fromkeys(name for name in [*people, *names_in(notes)] if name and name not in (show, title))
    told = ". ".join(dict.fromkeys(part for part in (show, title) if part))
    for name in found:
        if len(told) + len(name) + 2 > MOST_PROMPT:
            break
        told += f", {name}" if told else name
    return told[:MOST_PROMPT]


def names_in(text: str) -> Iterator[str]:
    """Runs of two words or more that begin with capitals: most are names of people, places and works."""
    run: list[str] = []
    for word in [*_WORD.findall(text), "."]:
        if word[0].isupper() or (run and word in _PARTICLES):
            run.append(word.rstrip("'’"))
            continue
        while run and run[-1] in _PARTICLES:
            run.pop()
        if 2 <= len(run) <= 5:
            yield " ".join(run)
        run = []


def _line(text: Any) -> str:
    clean = " ".join(unescape(_TAG.sub(" ", str(text)[:MOST_NOTES])).split())
    return "".join(letter for letter in clean if letter.isprintable())[:MOST_NAME]


if __name__ == "__main__":
    sys.exit(main())
