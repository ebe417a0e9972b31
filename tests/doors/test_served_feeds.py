"""A podcast is followed: new episodes are transcribed, and the same feed is served with their transcripts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import feedparser
import httpx
import pytest
import webvtt
from support.farm_processes import Farm, Recording, until
from support.web_server import Page, WebServer

from whisper_farm.cli.main import outcome
from whisper_farm.protocol.subscriptions import FeedView, NewFeed
from whisper_farm.transcript.options import RecognitionOptions

Speak = Callable[..., Recording]
SETTINGS = {"WHISPER_FARM_PRIVATE_NETWORKS": '["127.0.0.0/8"]'}
TONES = RecognitionOptions(engine="tones", model="instant")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with Farm(tmp_path_factory.mktemp("feeds"), settings=SETTINGS) as one, one.worker():
        until(lambda: list(one.client.workers()), "the worker is there")
        yield one


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


class Show:
    """A podcast with a feed."""

    def __init__(self, web: WebServer, path: str = "/feed.xml") -> None:
        self.web, self.path, self.items = web, path, []  # type: ignore[var-annotated]
        self.url = web.url + path

    def publish(self, title: str, recording: Recording, more: str = "", days_ago: float = 0) -> None:
        url = self.web.put(f"/{title}.wav", recording.path.read_bytes())
        at = formatdate(1_795_766_400 - 86_400 * days_ago)
        self.items.insert(
            0,
            f"<item><title>{title}</title><guid>{title}-guid</guid><pubDate>{at}</pubDate>{more}"
            f'<enclosure url="{url}" type="audio/wav" length="1"/></item>',
        )
        content = (
            '<?xml version="1.0"?><rss version="2.0" xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel>'
            f"<title>Show</title>{''.join(self.items)}</channel></rss>"
        ).encode()
        self.web.put(self.path, content, etag=f'"{len(self.items)}"', headers={"Content-Type": "application/rss+xml"})


def feed_of(farm: Farm, made: FeedView) -> FeedView:
    return next(one for one in farm.client.feeds() if one.id == made.id)


def served(farm: Farm, made: FeedView) -> httpx.Response:
    return httpx.get(f"{farm.url}{made.served_at}", trust_env=False)


def look_again(farm: Farm, made: FeedView) -> None:
    """As if the half hour were over; ends with the look."""
    from whisper_farm.store.database import Database
    from whisper_farm.store.statements import Change

    last = until(lambda: feed_of(farm, made).looked_at, "the look before is noted")
    database = Database.open(farm.database)
    try:
        database.write(lambda tx: tx.change(Change("UPDATE feeds SET next_at = 0 WHERE id = :id"), {"id": made.id}))
    finally:
        database.close()
    until(lambda: feed_of(farm, made).looked_at != last, "it is looked at again")


def test_a_podcast_comes_back_with_its_transcripts(farm: Farm, web: WebServer, speak: Speak) -> None:
    show, talk = Show(web), speak()
    show.publish("one", talk)
    made = farm.client.add_feed(NewFeed(url=show.url, options=TONES))
    until(lambda: feed_of(farm, made).transcribed == 1, "the episode is transcribed")
    answer = served(farm, made)
    assert answer.headers["content-type"] == "application/rss+xml"
    assert answer.headers["access-control-allow-origin"] == "*"
    found = feedparser.parse(io.BytesIO(answer.content))
    assert not found.bozo
    assert [entry.title for entry in found.entries] == ["one"]
    types = {"vtt": "text/vtt", "srt": "application/x-subrip", "json": "application/json", "html": "text/html"}
    said = " ".join(word for word, _ in talk.words)
    for end, kind in types.items():
        tag = next(line for line in answer.text.split("<podcast:transcript ")[1:] if f".{end}" in line)
        assert f'type="{kind}"' in tag
        url = tag.partition('url="')[2].partition('"')[0]
        file = httpx.get(url, trust_env=False)
        assert file.headers["content-type"].partition(";")[0] == kind
        assert file.headers["access-control-allow-origin"] == "*"
        assert said.split()[0] in file.text
        if end == "vtt":
            spoken = " ".join(cue.text for cue in webvtt.from_buffer(io.BytesIO(file.content)).captions)
            assert spoken.split() == said.split()


def test_a_new_episode_is_taken_and_no_old_one_twice(farm: Farm, web: WebServer, speak: Speak) -> None:
    """What has no news says so in a few bytes."""
    show = Show(web, "/second.xml")
    show.publish("old", speak(), days_ago=400)
    show.publish("young", speak())
    made = farm.client.add_feed(NewFeed(url=show.url, options=TONES, count=1))
    until(lambda: feed_of(farm, made).transcribed == 1, "the newest is transcribed")
    look_again(farm, made)
    assert [one for one in web.asked if one.headers.get("if-none-match")], "it was asked for news"
    assert web.paths.count("/second.xml") == 2
    show.publish("newest", speak())
    look_again(farm, made)
    until(lambda: feed_of(farm, made).transcribed == 2, "the new one is transcribed")
    assert [path for path in web.paths if path.endswith(".wav")] == ["/young.wav", "/newest.wav"]
    view = next(one for one in farm.client.list() if one.name == "newest")
    assert view.options.initial_prompt == "Show. newest"


def test_a_transcript_of_the_publisher_is_kept_when_told_to(farm: Farm, web: WebServer, speak: Speak) -> None:
    show = Show(web, "/kept.xml")
    show.publish("theirs", speak(), '<podcast:transcript url="https://example.org/t.vtt" type="text/vtt"/>')
    made = farm.client.add_feed(NewFeed(url=show.url, options=TONES, keep_transcripts=True))
    until(lambda: feed_of(farm, made).looked_at, "it was looked at")
    assert feed_of(farm, made).episodes == 1
    assert "/theirs.wav" not in web.paths
    assert served(farm, made).content == web.pages["/kept.xml"].body  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page(b"<html>no feed</html>"), "no feed of podcasts"),
        (Page(b"", 404), "answered 404"),
        (Page(b"", 302, {"Location": "http://169.254.169.254/"}), "no public address"),
    ],
)
def test_a_feed_that_is_broken_says_why_and_is_asked_again_later(
    farm: Farm, web: WebServer, speak: Speak, page: Page, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    web.pages["/broken.xml"] = page
    made = farm.client.add_feed(NewFeed(url=f"{web.url}/broken.xml", options=TONES))
    view = until(lambda: (one := feed_of(farm, made)).error and one, "it says why")
    assert words in str(view.error)
    assert outcome(["feed", "list", "--server", farm.url, "--token", farm.token]) == 0
    assert f"{view.title or view.url}  ({view.error})" in capsys.readouterr().out, "which feed it is, is said, too"
    assert view.next_at - (view.looked_at or 0) == pytest.approx(300)
    show = Show(web, "/broken.xml")
    show.publish("mended", speak())
    look_again(farm, made)
    until(lambda: feed_of(farm, made).transcribed == 1, "it goes on")
    assert feed_of(farm, made).error is None


def test_lists_of_feeds_files_and_the_command_line(
    farm: Farm, web: WebServer, speak: Speak, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--server", farm.url, "--token", farm.token)
    shows = [Show(web, f"/s{number}.xml") for number in range(3)]
    for show in shows:
        show.publish(f"episode{show.path[2]}", speak())
    lines = "".join(f'<outline xmlUrl="{show.url}"/>' for show in shows[:2])
    web.put(
        "/all.opml", f'<opml version="2.0"><body>{lines}<outline xmlUrl="file:///etc/passwd"/></body></opml>'.encode()
    )
    file = tmp_path / "shows.opml"
    file.write_text(f'<opml version="2.0"><body><outline xmlUrl="{shows[2].url}"/></body></opml>')
    for what in (f"{web.url}/all.opml", str(file)):
        assert outcome(["feed", "add", what, "--engine", "tones", "--model", "instant", *where]) == 0
    capsys.readouterr()

    def mine() -> list[FeedView]:
        return [one for one in farm.client.feeds() if one.url in [show.url for show in shows]]

    until(lambda: sum(one.transcribed for one in mine()) == 3, "all three are followed")
    known, new = (f'<outline xmlUrl="{url}"/>' for url in (shows[0].url, f"{web.url}/new.xml"))
    file.write_text(f'<opml version="2.0"><body>{known}{new}</body></opml>')
    assert outcome(["feed", "add", str(file), *where]) == 1
    out, err = capsys.readouterr()
    assert (out.count("/feed/"), err.count("has this feed already")) == (1, 1), "one that is there keeps no other out"
    assert outcome(["feed", "list", *where]) == 0
    assert capsys.readouterr().out.count("1 of 1") >= 3
    gone = mine()[0]
    assert outcome(["list", "--feed", gone.id, *where]) == 0
    (_, row) = capsys.readouterr().out.splitlines()
    assert row.endswith(f"episode{gone.url[-5]}")
    assert outcome(["feed", "remove", gone.id, *where]) == 0
    assert served(farm, gone).status_code == 404
    assert len(mine()) == 2


def test_feeds_are_their_owners_and_secrets_open_nothing_else(farm: Farm, web: WebServer, speak: Speak) -> None:
    show = Show(web, "/mine.xml")
    show.publish("mine", speak())
    made = farm.client.add_feed(NewFeed(url=show.url, options=TONES))
    token = farm.client.create_token("other", "user", "other").token

    def api(method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(
            method, f"{farm.url}{path}", headers={"Authorization": f"Bearer {token}"}, trust_env=False, **more
        )

    assert api("GET", "/api/feeds").json() == {"feeds": []}
    assert api("DELETE", f"/api/feeds/{made.id}").status_code == 404
    assert api("POST", "/api/feeds", json={"url": "file:///etc/passwd"}).status_code == 422
    assert httpx.get(f"{farm.url}/api/feeds", trust_env=False).status_code == 401
    for path in ("/feed/" + "0" * 32, f"{made.served_at}/{'0' * 16}.vtt", f"{made.served_at}/../x", "/feed/"):
        assert httpx.get(f"{farm.url}{path}", trust_env=False).status_code in (401, 404, 422), path
    again = farm.client.feeds
    assert again()
    assert api("POST", "/api/feeds", json={"url": show.url}).status_code == 201
