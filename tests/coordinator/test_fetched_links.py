"""A link is fetched by the farm, whole and once, whatever breaks on the way; else its transcription says why not."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpcore
import pytest
from support.served_farm import ServedFarm, StartFarm, eventually, refused
from support.web_server import Canary, WebServer

from whisper_farm.coordinator.services import feeds, fetcher
from whisper_farm.coordinator.transfers import owner_of_blob
from whisper_farm.ingest import fetching, links
from whisper_farm.store import fetches
from whisper_farm.store.blobs import BlobFacts
from whisper_farm.store.database import Transaction
from whisper_farm.store.fetches import fetches_of
from whisper_farm.store.references import named_blobs
from whisper_farm.store.statements import Change

OPEN = {"private_networks": ("127.0.0.0/8",)}
HELD_NO_MORE = Change("UPDATE fetches SET next_at = 0")
SOUND = b"RIFF" + secrets.token_bytes(300_000)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, and no long waits between tries."""
    monkeypatch.setattr(fetcher, "PART_BYTES", 50_000)
    monkeypatch.setattr(fetcher, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(fetches, "WAIT_SECONDS", (0.05, 0.05, 0.05))
    monkeypatch.setattr(fetcher.Fetcher, "period_seconds", 0.05)


def submit(farm: ServedFarm, url: str, **more: Any) -> str:
    answer = farm.admin.post("/api/transcriptions", json={"name": "talk.wav", "url": url, **more})
    assert answer.status_code == 201, answer.text
    assert answer.json()["state"] in ("fetching", "failed"), "it may be over already"
    return str(answer.json()["id"])


def look(farm: ServedFarm, made: str) -> dict[str, Any]:
    found: dict[str, Any] = farm.admin.get(f"/api/transcriptions/{made}").json()
    return found


def in_state(farm: ServedFarm, made: str, *states: str) -> dict[str, Any]:
    return eventually(lambda: (view := look(farm, made))["state"] in states and view, f"{made} is {states}")


def stored(farm: ServedFarm) -> list[bytes]:
    """Every file that the farm keeps of recordings."""
    kept = []
    for name in ("sources", "fetched"):
        for folder, _, files in os.walk(farm.data / "blobs" / name):  # what vanishes meanwhile is not kept
            for file in files:
                with suppress(FileNotFoundError):
                    kept.append((Path(folder) / file).read_bytes())
    return kept


def keeps(farm: ServedFarm, *files: bytes) -> None:
    """These files are kept in the end, and no parts."""
    eventually(lambda: stored(farm) == list(files), f"{len(files)} files are kept")


def test_a_link_is_fetched_and_waits_to_be_cut(start_farm: StartFarm, database_url: str, web: WebServer) -> None:
    farm = start_farm(database=database_url, **OPEN)
    made = submit(farm, web.put("/talk.wav", SOUND))
    view = in_state(farm, made, "queued")
    assert view["fetch"] is None
    assert [job["kind"] for job in farm.admin.get(f"/api/transcriptions/{made}/jobs").json()["jobs"]] == ["chunk"]
    keeps(farm, SOUND)
    assert web.paths == ["/talk.wav"]


def test_a_fetch_that_broke_off_goes_on_where_it_stopped(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(**OPEN)
    made = submit(farm, web.put("/talk.wav", SOUND, etag='"one"', break_after=120_000))
    in_state(farm, made, "queued")
    keeps(farm, SOUND)
    first, second = web.asked
    assert "range" not in first.headers
    assert (second.headers["range"], second.headers["if-range"]) == ("bytes=120000-", '"one"')


@pytest.mark.parametrize("told", [{"etag": None}, {"etag": '"one"', "ranges": False}, {"etag": 'W/"weak"'}])
def test_what_cannot_be_resumed_begins_again(start_farm: StartFarm, web: WebServer, told: dict[str, Any]) -> None:
    farm = start_farm(**OPEN)
    in_state(farm, submit(farm, web.put("/talk.wav", SOUND, break_after=120_000, **told)), "queued")
    keeps(farm, SOUND)


def test_a_file_that_changed_meanwhile_is_not_mixed(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(**OPEN)
    other = b"RIFF" + secrets.token_bytes(200_000)
    url = web.put("/talk.wav", SOUND, etag='"one"', break_after=120_000)
    first = web.pages["/talk.wav"]
    web.pages["/talk.wav"] = lambda: (web.put("/talk.wav", other, etag='"two"'), first)[1]  # type: ignore[return-value]
    in_state(farm, submit(farm, url), "queued")
    keeps(farm, other)


def test_a_fetch_outlives_the_coordinator_and_is_never_made_twice(start_farm: StartFarm, web: WebServer) -> None:
    """Two coordinators on one database: the one that fetches is stopped, the other one goes on with what is there."""
    go_on = threading.Event()
    url = web.put("/talk.wav", SOUND, etag='"one"', break_after=120_000, wait_for=go_on)
    first = start_farm(**OPEN)
    made = submit(first, url)
    eventually(lambda: (look(first, made)["fetch"] or {}).get("received_bytes", 0) >= 120_000, "most of it is there")
    second = start_farm(**OPEN)
    assert len(web.asked) == 1
    first.stop()
    in_state(second, made, "queued")
    go_on.set()
    keeps(second, SOUND)
    assert [one.headers.get("range") for one in web.asked] == [None, "bytes=120000-"]


def test_a_fetch_whose_coordinator_died_is_taken_up_by_another(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead one never let go of it: its time runs out. What it writes late counts for nothing."""
    monkeypatch.setattr(fetcher, "BEAT_SECONDS", 600)
    go_on = threading.Event()
    url = web.put("/talk.wav", SOUND, etag='"one"', break_after=60_000, wait_for=go_on)
    farm = start_farm(**OPEN)
    made = submit(farm, url)
    eventually(lambda: look(farm, made)["fetch"]["received_bytes"], "its one part is there")
    farm.coordinator.database.write(lambda tx: tx.change(HELD_NO_MORE))
    eventually(lambda: len(web.asked) > 1, "another fetcher takes it up")
    in_state(farm, made, "queued")
    go_on.set()
    keeps(farm, SOUND)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<!DOCTYPE html><html><body>Listen here</body></html>", {}),
        (b"\xef\xbb\xbf\n <html>", {"Content-Type": "audio/mpeg"}),
        (b"Not found, sorry", {"Content-Type": "text/html; charset=utf-8"}),
        (b'{"error": "gone"}', {"Content-Type": "application/json"}),
        (b"#EXTM3U\nhttp://127.0.0.1/secret\n", {}),
        (b"[playlist]\nFile1=http://127.0.0.1/\n", {"Content-Type": "audio/x-scpls"}),
        (b"ffconcat version 1.0\nfile http://127.0.0.1/\n", {}),
        (b'<?xml version="1.0"?><rss version="2.0"><channel/></rss>', {"Content-Type": "application/rss+xml"}),
        (b'<?xml version="1.0"?><MPD></MPD>', {}),
    ],
)
def test_what_is_no_recording_is_a_clear_error(
    start_farm: StartFarm, web: WebServer, body: bytes, headers: dict[str, str]
) -> None:
    farm = start_farm(yt_dlp="", **OPEN)
    view = in_state(farm, submit(farm, web.put("/talk", body, headers=headers)), "failed", "queued")
    assert view["error"]["code"] == "link_is_page"
    keeps(farm)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"status": 404}, "answered 404: it has no such file"),
        ({"status": 401}, "it wants a password"),
        ({"status": 503}, "answered 503"),
        ({"status": 206}, "does not go on"),
        ({"body": b""}, "sent an empty file"),
        ({"headers": {"Content-Encoding": "gzip"}}, "sends the file packed"),
        ({"headers": {"Content-Length": "99999999"}}, "does not answer as it should"),
        ({"headers": {"Content-Length": "pony"}}, "does not answer as it should"),
        ({"status": 302, "headers": {"Location": "http://[::bad"}}, "no address"),
    ],
)
def test_what_cannot_be_fetched_says_why(
    start_farm: StartFarm, web: WebServer, told: dict[str, Any], words: str
) -> None:
    farm = start_farm(**OPEN)
    view = in_state(farm, submit(farm, web.put("/talk.wav", **{"body": SOUND, **told})), "failed")
    assert view["error"]["code"] in ("fetch_failed", "address_refused")
    assert words in view["error"]["message"]


def test_what_failed_is_fetched_again_on_retry(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(**OPEN)
    url = web.put("/talk.wav", status=404)
    made = submit(farm, url)
    in_state(farm, made, "failed")
    web.put("/talk.wav", SOUND)
    assert farm.admin.post(f"/api/transcriptions/{made}/retry").json()["state"] in ("fetching", "queued")
    in_state(farm, made, "queued")


def test_a_try_in_vain_is_seen_before_the_next(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "WAIT_SECONDS", (600, 900))
    farm = start_farm(**OPEN)
    made = submit(farm, web.put("/talk.wav", status=503))
    view = eventually(lambda: (view := look(farm, made))["warning"] and view, "the try is told")
    assert view["state"] == "fetching"
    assert "answered 503" in view["warning"]
    assert view["fetch"]["tries"] == 1
    assert view["fetch"]["next_at"] > view["created_at"]
    assert view["fetch"]["last_try_at"] == pytest.approx(view["fetch"]["next_at"] + 900)


def test_a_host_that_nobody_knows_is_told_at_once_unless_a_feed_names_it(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that cannot be reached is waited for."""
    connect = links.GuardedNetwork.connect_tcp

    async def unknown(network: links.GuardedNetwork, host: str, *more: Any, **named: Any) -> Any:
        if host.endswith(".example"):
            raise httpcore.ConnectError(host) if host.startswith("busy") else links.NoSuchHost(f"There is no {host}")
        return await connect(network, host, *more, **named)

    monkeypatch.setattr(links.GuardedNetwork, "connect_tcp", unknown)
    monkeypatch.setattr(fetches, "WAIT_SECONDS", (600,))
    monkeypatch.setattr(feeds.Feeds, "period_seconds", 0.05)
    farm = start_farm(**OPEN)
    episode = '<item><title>talk</title><enclosure url="http://moved.example/a.mp3" type="audio/mpeg"/></item>'
    feed = web.put("/feed", f'<rss version="2.0"><channel><title>Show</title>{episode}</channel></rss>'.encode())
    farm.admin.post("/api/feeds", json={"url": feed})
    failed = in_state(farm, submit(farm, "http://mistyped.example/talk.wav"), "failed")
    assert failed["error"]["message"] == "There is no mistyped.example; check the address."
    submit(farm, "http://busy.example/talk.wav")

    def waiting() -> set[str]:
        found = farm.admin.get("/api/transcriptions").json()["transcriptions"]
        return {one["warning"] for one in found if one["state"] == "fetching" and one["warning"]}

    eventually(lambda: len(waiting()) == 2, "both wait")
    assert any("There is no moved.example" in warning for warning in waiting())


def test_redirects_are_followed_and_each_is_checked(start_farm: StartFarm, web: WebServer, canary: Canary) -> None:
    """The canary is on loopback, where the farm may not go; the web server is allowed by its address alone."""
    farm = start_farm(private_networks=("127.0.0.1/32",))
    web.put("/talk.wav", SOUND)
    web.redirect("/b", "/talk.wav", 307)
    in_state(farm, submit(farm, web.redirect("/a", "/b")), "queued")
    inside = (f"http://127.0.0.2:{canary.port}/", f"http://[::1]:{canary.port}/", f"http://0.0.0.0:{canary.port}/",
              f"http://[::ffff:127.0.0.2]:{canary.port}/", "http://169.254.169.254/latest/meta-data/",
              "file:///etc/passwd", f"http://user:secret@127.0.0.1:{canary.port}/", "gopher://127.0.0.1/")  # fmt: skip
    for number, target in enumerate(inside):
        view = in_state(farm, submit(farm, web.redirect(f"/in{number}", target)), "failed")
        assert view["error"]["code"] == "address_refused", target
    assert canary.visits == 0


def test_redirects_in_a_circle_end(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(**OPEN)
    view = in_state(farm, submit(farm, web.redirect("/round", "/round")), "failed")
    assert "more than 10 times" in view["error"]["message"]
    assert len(web.asked) == fetching.MOST_REDIRECTS + 1


def test_a_link_into_the_own_network_is_refused_and_nobody_is_asked(farm: ServedFarm, canary: Canary) -> None:
    view = in_state(farm, submit(farm, f"http://127.0.0.1:{canary.port}/talk.wav"), "failed")
    assert view["error"]["code"] == "address_refused"
    assert canary.visits == 0


@pytest.mark.parametrize("url", ["ftp://example.org/x.mp3", "/etc/passwd", "http://a:b@example.org/", "http://x y/"])
def test_what_is_no_link_is_refused_at_once(farm: ServedFarm, url: str) -> None:
    answer = farm.admin.post("/api/transcriptions", json={"name": "x", "url": url})
    assert refused(answer) == (422, "address_refused")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": ""}])
def test_a_file_larger_than_the_farm_takes_is_given_up(
    start_farm: StartFarm, web: WebServer, headers: dict[str, str]
) -> None:
    """Whether its length is told before or not."""
    farm = start_farm(max_upload_bytes=100_000, **OPEN)
    view = in_state(farm, submit(farm, web.put("/talk.wav", SOUND, headers=headers)), "failed")
    assert view["error"]["code"] == "too_large"
    keeps(farm)


def test_a_server_that_trickles_is_given_up(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PACE_SECONDS", 0.2)
    monkeypatch.setattr(fetching, "LEAST_BYTES", 1_000_000)
    farm = start_farm(**OPEN)
    url = web.put("/talk.wav", SOUND, drips=True)
    assert "sends too slowly" in in_state(farm, submit(farm, url), "failed")["error"]["message"]


@pytest.mark.parametrize("call", ["cancel", "delete"])
def test_a_fetch_that_nobody_wants_any_more_leaves_nothing(start_farm: StartFarm, web: WebServer, call: str) -> None:
    farm = start_farm(**OPEN)
    hold = threading.Event()
    made = submit(farm, web.put("/talk.wav", SOUND, etag='"one"', break_after=120_000, wait_for=hold))
    eventually(lambda: stored(farm), "a part is there")
    assert farm.admin.post(f"/api/transcriptions/{made}/cancel").json()["state"] == "cancelled"
    if call == "delete":
        assert farm.admin.delete(f"/api/transcriptions/{made}").status_code == 204
        keeps(farm)
    hold.set()
    if call == "cancel":
        assert look(farm, made)["state"] == "cancelled"
        assert farm.admin.post(f"/api/transcriptions/{made}/retry").json()["state"] in ("fetching", "queued")
        in_state(farm, made, "queued")
        keeps(farm, SOUND)


@pytest.mark.parametrize("seen", ["before it is whole", "when it is whole", "as it is handed over"])
def test_one_that_is_deleted_as_it_is_put_together_leaves_nothing(
    start_farm: StartFarm, web: WebServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seen: str
) -> None:
    """Its beat sees that it is gone, or who hands it over does."""
    monkeypatch.setattr(fetcher, "BEAT_SECONDS", 600 if seen == "as it is handed over" else 0.05)
    farm = start_farm(**OPEN)
    put, again, gone = farm.coordinator.blobs.put_stream, farm.client(farm.token), threading.Event()

    def remove(made: str) -> None:
        assert again.post(f"/api/transcriptions/{made}/cancel").is_success
        assert again.delete(f"/api/transcriptions/{made}").is_success
        gone.set()

    async def lose(key: str) -> None:
        await asyncio.to_thread(remove, key.split("/")[1])
        if seen != "as it is handed over":
            await asyncio.Event().wait()  # the beat ends it

    async def put_and_lose(key: str, source: AsyncIterator[bytes], limit: int) -> BlobFacts:
        async def losing() -> AsyncIterator[bytes]:
            async for piece in source:
                yield piece
            await lose(key)

        if seen == "before it is whole":
            return await put(key, losing(), limit)
        facts = await put(key, source, limit)
        await lose(key)
        return facts

    monkeypatch.setattr(farm.coordinator.blobs, "put_stream", put_and_lose)
    submit(farm, web.put("/talk.wav", SOUND))
    assert gone.wait(60)
    keeps(farm)
    assert not [record for record in caplog.records if record.exc_info]


def test_links_that_trickle_for_ever_hold_up_no_other_owner(start_farm: StartFarm, web: WebServer) -> None:
    farm, never = start_farm(fetches_at_once=2, **OPEN), threading.Event()
    greedy, other = farm.user("greedy"), farm.user("other")
    for number in range(5):
        url = web.put(f"/{number}/trickles.wav", SOUND, break_after=1000, wait_for=never)
        greedy.post("/api/transcriptions", json={"name": "x", "url": url})
    eventually(lambda: len(web.paths) >= 2, "as many as there are places for all")
    mine = other.post("/api/transcriptions", json={"name": "y", "url": web.put("/quick.wav", SOUND)}).json()["id"]
    eventually(lambda: other.get(f"/api/transcriptions/{mine}").json()["state"] == "queued", "mine is fetched")
    assert len([path for path in web.paths if "trickles" in path]) <= 3, "of the other places no owner has two"
    never.set()


def test_parts_of_a_fetch_are_not_swept(start_farm: StartFarm, web: WebServer) -> None:
    farm = start_farm(**OPEN)
    hold = threading.Event()
    made = submit(farm, web.put("/talk.wav", SOUND, etag='"one"', break_after=120_000, wait_for=hold))

    def named(tx: Transaction) -> tuple[set[str], set[str]]:
        keys = {key for key, _ in fetches_of(tx, [made])[made].parts}
        return keys, named_blobs(tx, keys | {f"fetched/{made}/unknown"}, {made})

    eventually(lambda: farm.coordinator.database.read(named)[0], "a part is there and noted")
    keys, kept = farm.coordinator.database.read(named)
    assert kept == keys
    assert {owner_of_blob(key) for key in keys} == {made}
    hold.set()
    in_state(farm, made, "queued")
