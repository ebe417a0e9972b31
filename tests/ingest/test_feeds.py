"""Feeds of every sort are read, broken ones too; what is served back is the same feed with transcripts named."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from contextlib import suppress

import feedparser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.web_server import Canary

from whisper_farm.errors import FeedUnreadable
from whisper_farm.ingest import feeds
from whisper_farm.ingest.feed_child import names_in, outlines, prompt_of
from whisper_farm.ingest.feeds import Episode, ReadFeed, TranscriptTag, read_feed, wanted, with_transcripts

RSS = b"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"
     xmlns:podcast="https://podcastindex.org/namespace/1.0" xmlns:content="http://purl.org/rss/1.0/modules/content/">
<channel><title>Deep Seas &amp; Far Skies</title><link>https://example.org/</link>
<!-- the publisher's own words -->
<item><title>Second: the whale</title><guid isPermaLink="false">ep-2</guid>
  <pubDate>Fri, 27 Nov 2026 08:00:00 GMT</pubDate><itunes:author>Ann Arbor</itunes:author>
  <description><![CDATA[<p>With <b>Jacques-Yves Cousteau</b> and Maria van der Berg. </item> We
  talk about the sea.</p>]]></description>
  <enclosure url="https://cdn.example.org/2.mp3?a=1&amp;b=2" length="1" type="audio/mpeg"/></item>
<item><title>First</title><guid>ep-1</guid><pubDate>Fri, 20 Nov 2026 08:00:00 GMT</pubDate>
  <podcast:transcript url="https://example.org/1.vtt" type="text/vtt"/>
  <enclosure url="https://cdn.example.org/1.mp3" length="1" type="audio/mpeg"/></item>
<item><title>A page, no episode</title><guid>page</guid><link>https://example.org/page</link></item>
</channel></rss>
"""
ATOM = """<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Atoms</title>
<entry><id>urn:1</id><title>Ümlaut</title><updated>2026-11-27T08:00:00Z</updated>
<link rel="enclosure" type="audio/mpeg" href="https://example.org/a.mp3"/></entry></feed>""".encode()
OPML = b"""<?xml version="1.0"?><opml version="2.0"><body><outline text="shows">
<outline type="rss" text="a" xmlUrl="https://example.org/a.xml"/><outline xmlUrl="https://example.org/b.xml"/>
<outline text="none"/></outline></body></opml>"""
SECOND = "https://cdn.example.org/2.mp3?a=1&b=2"
TAG = TranscriptTag('https://farm.example/feed/s/1.vtt?x="1"&y', "text/vtt", "en", captions=True)


def read(content: bytes) -> ReadFeed:
    return asyncio.run(read_feed(content))


def test_episodes_of_rss_have_their_facts() -> None:
    found = read(RSS)
    assert found.title == "Deep Seas & Far Skies"
    second, first = found.episodes
    assert (second.guid, second.url) == ("ep-2", "https://cdn.example.org/2.mp3?a=1&b=2")
    assert second.title == "Second: the whale"
    assert second.published == 1795766400
    assert (second.has_transcript, first.has_transcript) == (False, True)
    assert second.prompt == (
        "Deep Seas & Far Skies. Second: the whale, Ann Arbor, Jacques-Yves Cousteau, Maria van der Berg"
    )


def test_atom_and_lists_of_feeds_are_read() -> None:
    (one,) = read(ATOM).episodes
    assert (one.guid, one.title, one.url) == ("urn:1", "Ümlaut", "https://example.org/a.mp3")
    assert read(OPML).feeds == ("https://example.org/a.xml", "https://example.org/b.xml")


@pytest.mark.parametrize(
    "broken",
    [
        RSS[:-40],
        RSS.replace(b"</title>", b"", 1),
        RSS.replace(b"&amp;", b"&"),
        RSS.replace(b"&amp;", b"&nbsp;"),
        RSS.replace(b'encoding="UTF-8"', b'encoding="pony"'),
        RSS.replace(b"Fri, 20 Nov 2026 08:00:00 GMT", b"yesterday"),
        RSS.replace(b"whale", b"wh\xffale\x00"),
        RSS.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        b"   \n" + RSS,
    ],
)
def test_what_a_broken_feed_still_says_is_taken(broken: bytes) -> None:
    assert "https://cdn.example.org/1.mp3" in [one.url for one in read(broken).episodes]


@pytest.mark.parametrize("none", [b"", b"<html><body>no</body></html>", b"\x00\xff" * 99, b"{}", b"<x/>"])
def test_what_is_no_feed_is_a_clear_error(none: bytes) -> None:
    with pytest.raises(FeedUnreadable):
        read(none)


@pytest.fixture
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


def test_a_feed_makes_nobody_ask_or_open_anything(canary: Canary) -> None:
    """Not as an address, a file, an entity, a style sheet or an inclusion."""
    title = "<title>&x;</title>"
    there = f"http://127.0.0.1:{canary.port}/"
    hostile = (
        there,
        "/etc/passwd",
        f'<!DOCTYPE r [<!ENTITY x SYSTEM "{there}">]><rss version="2.0"><channel>{title}</channel></rss>',
        f'<!DOCTYPE r SYSTEM "{there}"><rss version="2.0"><channel>{title}</channel></rss>',
        f'<?xml-stylesheet href="{there}"?><rss version="2.0" xml:base="{there}"><channel>{title}</channel></rss>',
        f'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss version="2.0"><channel>{title}</channel></rss>',
    )
    for content in hostile:
        try:
            found = read(content.encode())
        except FeedUnreadable:
            continue
        assert "root" not in found.title
    assert canary.visits == 0


def test_a_feed_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    laughs = '<!DOCTYPE r [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
    )
    monkeypatch.setattr(feeds, "READ_SECONDS", 20)
    began = time.monotonic()
    with suppress(FeedUnreadable):
        read(f'{laughs}]><rss version="2.0"><channel><title>&j;</title></channel></rss>'.encode())
    assert time.monotonic() - began < 40


def episode(number: int, **more: object) -> Episode:
    told = {"guid": str(number), "title": f"Talk {number}", "url": "u", "published": number * 86_400.0}
    return Episode(**{"prompt": "", "has_transcript": False, **told, **more})  # type: ignore[arg-type]


def test_the_newest_are_wanted_as_many_as_asked_young_and_with_these_words() -> None:
    found = [episode(number) for number in (3, 9, 1, 7)]
    now = 10 * 86_400.0
    assert [one.guid for one in wanted(found, None, "", 2, now)] == ["9", "7"]
    assert [one.guid for one in wanted(found, 4, "", 9, now)] == ["9", "7"]
    assert [one.guid for one in wanted(found, None, "TALK 3", 9, now)] == ["3"]
    undated = [episode(number, published=None) for number in (3, 9, 1)]
    assert [one.guid for one in wanted(undated, 4, "", 2, now)] == ["3", "9"]


def test_names_are_runs_of_capitals() -> None:
    text = "Today Ludwig van Beethoven met Ann Lee, in Berlin. The End of it. ÉMILE Zola"
    assert list(names_in(text)) == ["Today Ludwig van Beethoven", "Ann Lee", "The End", "ÉMILE Zola"]
    long = prompt_of("Show", "Title", [f"Name {number}" for number in range(500)], "")
    assert long.startswith("Show. Title, Name 0, Name 1")
    assert len(long) <= 600


@pytest.mark.parametrize(
    ("content", "name"), [(RSS, "ep-2"), (RSS, "https://cdn.example.org/2.mp3?a=1&b=2"), (ATOM, "urn:1")]
)
def test_the_served_feed_is_the_publishers_with_one_tag_more(content: bytes, name: str) -> None:
    served = with_transcripts(content, {name: [TAG]})
    assert served.replace(TAG.written(), b"") == content
    found = feedparser.parse(io.BytesIO(served))
    assert not found.bozo
    tagged = [entry for entry in found.entries if entry.get("podcast_transcript", {}).get("url") == TAG.url]
    assert [entry.enclosures[0].href for entry in tagged] == [
        "https://example.org/a.mp3" if content is ATOM else SECOND
    ]
    assert tagged[0]["podcast_transcript"] == {
        "url": TAG.url, "type": "text/vtt", "language": "en", "rel": "captions"
    }  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        RSS[:-40],
        b"",
        b'<!DOCTYPE r [<!ENTITY x "y">]><rss><channel><item><guid>ep-2</guid></item></channel></rss>',
        RSS.decode().encode("utf-16"),
    ],
)
def test_a_feed_that_is_no_plain_xml_is_served_as_it_is(content: bytes) -> None:
    assert with_transcripts(content, {"ep-2": [TAG]}) == content


@given(st.binary(max_size=300), st.integers(0, len(RSS)), st.integers(0, 40))
@settings(max_examples=200)
def test_no_feed_at_all_breaks_what_serves_and_lists(noise: bytes, at: int, length: int) -> None:
    content = RSS[:at] + noise + RSS[at + length :]
    served = with_transcripts(content, {"ep-2": [TAG], "ep-1": [TAG]})
    assert served.replace(TAG.written(), b"") == content
    list(outlines(content))


@given(st.binary(max_size=60), st.integers(0, len(RSS)), st.integers(0, 60))
@settings(max_examples=12)
def test_any_feed_is_read_or_refused(noise: bytes, at: int, length: int) -> None:
    try:
        found = read(RSS[:at] + noise + RSS[at + length :])
    except FeedUnreadable:
        return
    for one in found.episodes:
        assert one.url
        assert 0 < len(one.title) <= 255
