"""Feeds on both databases: an episode is taken once, whoever looks; what is removed leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in
from support.web_server import WebServer

from whisper_farm.coordinator.services import feeds
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change

OPEN = {"private_networks": ("127.0.0.0/8",)}
LOOK_NOW = Change("UPDATE feeds SET next_at = 0")


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds.Feeds, "period_seconds", 0.05)


def feed(web: WebServer, *titles: str, path: str = "/feed.xml") -> str:
    """A feed of these episodes, the newest first."""
    items = "".join(
        f'<item><title>{title}</title><guid>{title}</guid><enclosure url="{web.put(f"/{title}.wav", b"RIFFsound")}"'
        ' type="audio/wav"/></item>'
        for title in titles
    )
    content = f'<rss version="2.0"><channel><title>Show</title>{items}</channel></rss>'
    return web.put(path, content.encode(), headers={"Content-Type": "application/rss+xml"})


def only(farm: ServedFarm) -> dict[str, Any]:
    (one,) = farm.admin.get("/api/feeds").json()["feeds"]
    return dict(one)


def names(farm: ServedFarm, **wanted: str) -> list[str]:
    listed = farm.admin.get("/api/transcriptions", params=wanted).json()["transcriptions"]
    return sorted(one["name"] for one in listed)


def test_two_coordinators_take_each_episode_once(start_farm: StartFarm, database_url: str, web: WebServer) -> None:
    first, second = start_farm(database=database_url, **OPEN), start_farm(database=database_url, **OPEN)
    url = feed(web, "two", "one")
    assert first.admin.post("/api/feeds", json={"url": url, "keep_transcripts": True, "days": 9}).status_code == 201
    eventually(lambda: only(first)["episodes"] == 2, "both are taken")
    feed(web, "three", "two", "one")
    for _ in range(3):
        before = only(first)["looked_at"]
        first.coordinator.database.write(lambda tx: tx.change(LOOK_NOW))
        eventually(lambda before=before: only(second)["looked_at"] != before, "it is looked at again")
    assert names(first) == ["one", "three", "two"]
    assert only(first)["title"] == "Show"
    copies = first.data / "blobs" / "feeds"
    eventually(lambda: len(files_in(copies)) == 1, "older copies go")
    assert first.admin.delete(f"/api/feeds/{only(first)['id']}").status_code == 204
    assert second.admin.get("/api/feeds").json() == {"feeds": []}
    eventually(lambda: not files_in(copies), "the last one goes, too")
    assert names(first) == ["one", "three", "two"]


def test_a_feed_leads_to_its_episodes_and_says_how_many_failed(
    start_farm: StartFarm, database_url: str, web: WebServer
) -> None:
    farm = start_farm(database=database_url, **OPEN)
    urls = feed(web, "two", "one"), feed(web, "other", path="/other.xml")
    web.put("/two.wav", status=404)
    first, _ = (farm.admin.post("/api/feeds", json={"url": url}).json()["id"] for url in urls)
    eventually(lambda: names(farm) == ["one", "other", "two"], "all are taken")
    eventually(lambda: names(farm, state="failed") == ["two"], "one cannot be fetched")
    assert names(farm, feed=first) == ["one", "two"]
    assert names(farm, feed=first, state="failed") == ["two"]
    counted = {one["id"]: (one["episodes"], one["failed"]) for one in farm.admin.get("/api/feeds").json()["feeds"]}
    assert counted.pop(first) == (2, 1)
    assert list(counted.values()) == [(1, 0)]
    assert farm.user("ann").get("/api/transcriptions", params={"feed": first}).json()["transcriptions"] == []


def test_who_has_as_much_as_one_may_reads_why_nothing_is_taken(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(max_unfinished=1, **OPEN)
    farm.admin.post("/api/feeds", json={"url": feed(web, "two", "one")})
    eventually(lambda: only(farm)["episodes"] == 1, "as many as may be")
    farm.coordinator.database.write(lambda tx: tx.change(LOOK_NOW))
    told = eventually(lambda: only(farm)["error"], "it says why")
    assert told == "quota_reached: You may have 1 unfinished at a time; wait until one is done."
    (one,) = farm.admin.get("/api/transcriptions").json()["transcriptions"]
    farm.admin.post(f"/api/transcriptions/{one['id']}/cancel")
    farm.coordinator.database.write(lambda tx: tx.change(LOOK_NOW))
    eventually(lambda: only(farm)["episodes"] == 2, "the rest")
    assert only(farm)["error"] is None


def test_a_feed_that_is_removed_while_it_is_looked_at_leaves_nothing(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = start_farm(**OPEN)
    put, again, gone = farm.coordinator.blobs.put, farm.client(farm.token), threading.Event()

    async def put_and_lose(key: str, data: bytes) -> None:
        await put(key, data)
        assert (await asyncio.to_thread(again.delete, f"/api/feeds/{key.split('/')[1]}")).is_success
        gone.set()

    monkeypatch.setattr(farm.coordinator.blobs, "put", put_and_lose)
    farm.admin.post("/api/feeds", json={"url": feed(web, "one")})
    assert gone.wait(60)
    folder = farm.data / "blobs" / "feeds"
    eventually(lambda: not files_in(folder), "its copy goes, too")


def test_a_list_that_is_removed_while_it_is_read_adds_no_feeds(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = start_farm(**OPEN)
    again, gone, written = farm.client(farm.token), threading.Event(), threading.Event()
    outlines = f'<outline type="rss" xmlUrl="{feed(web, "one")}"/>'
    url = web.put("/all.opml", f'<opml version="2.0"><body>{outlines}</body></opml>'.encode())
    read, write = feeds.read_feed, farm.coordinator.store.write

    async def read_and_lose(content: bytes) -> feeds.ReadFeed:
        found = await read(content)
        one = (await asyncio.to_thread(again.get, "/api/feeds")).json()["feeds"][0]
        assert (await asyncio.to_thread(again.delete, f"/api/feeds/{one['id']}")).is_success
        gone.set()
        return found

    async def write_and_tell(work: Callable[[Transaction], Any]) -> Any:
        lost = gone.is_set()
        try:
            return await write(work)
        finally:
            if lost:
                written.set()

    monkeypatch.setattr(feeds, "read_feed", read_and_lose)
    monkeypatch.setattr(farm.coordinator.store, "write", write_and_tell)
    farm.admin.post("/api/feeds", json={"url": url})
    assert written.wait(60)
    assert farm.admin.get("/api/feeds").json() == {"feeds": []}


def test_a_long_prompt_leaves_an_episode_that_can_be_listed_and_cut(
    start_farm: StartFarm, web: WebServer, make_worker: MakeWorker
) -> None:
    farm = start_farm(**OPEN)
    asked = {"url": feed(web, "one"), "options": {"initial_prompt": "x" * 4096, "engine": "tones", "model": "m"}}
    assert farm.admin.post("/api/feeds", json=asked).status_code == 201
    eventually(lambda: only(farm)["episodes"] == 1, "it is taken")
    assert names(farm) == ["one"]
    (claim,) = make_worker(farm).claim(transcribe=0, chunk=1, wait=30)
    assert claim["task"]["kind"] == "chunk"


def test_a_feed_that_fails_is_asked_later_and_later(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(**OPEN)
    farm.admin.post("/api/feeds", json={"url": web.put("/gone.xml", status=404)})
    waits, before = [], None
    for _ in range(3):
        one = eventually(
            lambda before=before: (view := only(farm))["error"] and view["looked_at"] != before and view, "it says why"
        )
        before = one["looked_at"]
        waits.append(round(one["next_at"] - before))
        farm.coordinator.database.write(lambda tx: tx.change(LOOK_NOW))
    assert waits == [300, 600, 1200]


def test_many_slow_feeds_of_one_owner_hold_up_one_feed_of_another_no_longer_than_one_does(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LOOK_SECONDS", 4.0)
    farm, never = start_farm(**OPEN), threading.Event()
    greedy = farm.user("greedy")
    for number in range(5):
        slow = web.put(f"/slow{number}.xml", b"<rss", break_after=1, wait_for=never)
        greedy.post("/api/feeds", json={"url": slow})
    eventually(lambda: any(one["error"] for one in farm.admin.get("/api/feeds").json()["feeds"]), "one was looked at")
    farm.user("other").post("/api/feeds", json={"url": feed(web, "one")})
    eventually(lambda: names(farm) == ["one"], "the other's is looked at")
    found = farm.admin.get("/api/feeds").json()["feeds"]
    (mine,), looked = [one for one in found if one["owner"] == "other"], [one for one in found if one["error"]]
    assert len([one for one in looked if mine["created_at"] < one["looked_at"] < mine["looked_at"]]) <= 1
    assert "within 4 seconds" in looked[0]["error"]
    assert round(looked[0]["next_at"] - looked[0]["looked_at"]) == 300
    never.set()


def test_an_address_that_is_refused_is_no_feed_and_hostile_episodes_are_left_out(
    start_farm: StartFarm, web: WebServer
) -> None:
    farm = start_farm(**OPEN)
    assert farm.admin.post("/api/feeds", json={"url": "http://a:b@example.org/"}).status_code == 422
    items = "".join(
        f'<item><guid>{url}</guid><enclosure url="{url}" type="audio/mpeg"/></item>'
        for url in (
            "file:///etc/passwd",
            "http://[",
            "http://a:b@example.org/x.mp3",
            "http://169.254.169.254/x.mp3",
            "/relative.mp3",
        )
    )
    web.put("/feed.xml", f'<rss version="2.0"><channel>{items}</channel></rss>'.encode())
    farm.admin.post("/api/feeds", json={"url": f"{web.url}/feed.xml", "count": 9})
    eventually(lambda: only(farm)["looked_at"], "it was looked at")
    made = farm.admin.get("/api/transcriptions").json()["transcriptions"]
    assert {view["fetch"]["url"] for view in made} == {"http://169.254.169.254/x.mp3", f"{web.url}/relative.mp3"}

    def codes() -> list[str]:
        made = farm.admin.get("/api/transcriptions").json()["transcriptions"]
        return sorted(view["error"]["code"] for view in made if view["state"] == "failed")

    eventually(lambda: codes() == ["address_refused", "fetch_failed"], "both fail")
