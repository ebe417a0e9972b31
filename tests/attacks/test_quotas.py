"""Nobody with a token takes what all share: quotas by owner, scopes that cannot lift themselves, private files."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in, refused
from support.submitting import submit

from whisper_farm.coordinator import coordinator, editing, transcripts
from whisper_farm.coordinator.routes import search
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.store import limits, uploads
from whisper_farm.store.blobs import Blobs


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_uploads_at_once_are_bounded_for_each_owner(start_farm: StartFarm, method: str) -> None:
    farm = start_farm(max_uploads_at_once=2)
    token = farm.token_for("user", "ann")
    ann, bob = farm.client(token), farm.user("bob")
    url = httpx.URL(farm.url)
    uploads = [ann.post("/api/uploads", json={"name": "a", "size": 100}).json()["upload_id"] for _ in range(5)]
    with ExitStack() as stack:
        lines = []
        for upload in uploads:
            lines.append(stack.enter_context(socket.create_connection((url.host, url.port or 80))))
            head = f"{method} /api/uploads/{upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            lines[-1].sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
        answered: set[socket.socket] = set()
        while len(answered) < 3:
            ready = select.select([line for line in lines if line not in answered], [], [], 20)[0]
            assert ready
            assert all(b" 429 " in line.recv(4096)[:20] for line in ready)
            answered.update(ready)
        answer = ann.request(method, f"/api/uploads/{uploads[2]}", content=bytes(100))
        assert refused(answer) == (429, "quota_reached")
        assert int(answer.headers["Retry-After"]) > 0
        submit(bob)
    eventually(lambda: ann.request(method, f"/api/uploads/{uploads[2]}", content=bytes(100)).is_success, "room again")


def test_open_uploads_tokens_and_submissions_are_bounded_for_each_owner(start_farm: StartFarm) -> None:
    farm = start_farm(max_open_uploads=2, max_tokens=3, max_unfinished=2)
    ann, bob = farm.user("ann"), farm.user("bob")
    for expected in (201, 201, 429):
        assert ann.post("/api/uploads", json={"name": "a", "size": 1}).status_code == expected
    for expected in (201, 201, 429):
        assert ann.post("/api/tokens", json={"name": "a", "scope": "user"}).status_code == expected
    submit(bob)
    made = submit(bob, "two.mp3")
    upload = bob.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    assert bob.put(f"/api/uploads/{upload}", content=b"abc").is_success
    body = {"name": "a", "upload_id": upload, "options": {"engine": "tones", "model": "instant"}}
    assert refused(bob.post("/api/transcriptions", json=body)) == (429, "quota_reached")
    assert bob.post(f"/api/transcriptions/{made['id']}/cancel").is_success
    assert bob.post("/api/transcriptions", json=body).status_code == 201


def test_bytes_that_nobody_submits_are_bounded_and_can_be_deleted(start_farm: StartFarm) -> None:
    farm = start_farm(max_waiting_bytes=10)
    ann, bob = farm.user("ann"), farm.user("bob")
    first, second = (ann.post("/api/uploads", json={"name": "a", "size": 5}).json()["upload_id"] for _ in range(2))
    assert ann.put(f"/api/uploads/{first}", content=b"12345").is_success
    assert refused(ann.post("/api/uploads", json={"name": "a", "size": 1})) == (429, "quota_reached")
    assert refused(bob.delete(f"/api/uploads/{first}")) == (404, "not_found")
    assert ann.patch(f"/api/uploads/{second}", content=b"12").is_success
    blobs = farm.data / "blobs" / "sources"
    assert len(files_in(blobs)) == 2
    for upload in (first, second):
        assert ann.delete(f"/api/uploads/{upload}").is_success
    assert not files_in(blobs)
    assert refused(ann.put(f"/api/uploads/{first}", content=b"12345")) == (404, "not_found")
    submit(ann, audio=b"1234567890")
    assert ann.post("/api/uploads", json={"name": "a", "size": 10}).status_code == 201, "that one counts no more"


def test_what_is_stored_and_what_waits_are_bounded_for_each_owner(
    start_farm: StartFarm, make_worker: MakeWorker
) -> None:
    farm = start_farm(max_stored_bytes=100, max_waiting_seconds=15)
    ann, bob = farm.user("ann"), farm.user("bob")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 101}).json()["upload_id"]
    ann.put(f"/api/uploads/{upload}", content=b"a" * 101)
    body = {"name": "a", "upload_id": upload, "options": {"engine": "tones", "model": "instant"}}
    made = ann.post("/api/transcriptions", json=body)
    assert made.status_code == 201
    assert refused(ann.post("/api/transcriptions", json=body)) == (429, "quota_reached")
    ann.post(f"/api/transcriptions/{made.json()['id']}/cancel")
    assert ann.delete(f"/api/transcriptions/{made.json()['id']}").is_success
    submit(bob, audio=b"x")
    worker = make_worker(farm)
    worker.begin(2)
    upload = bob.post("/api/uploads", json={"name": "a", "size": 1}).json()["upload_id"]
    bob.put(f"/api/uploads/{upload}", content=b"a")
    body |= {"upload_id": upload}
    assert refused(bob.post("/api/transcriptions", json=body)) == (429, "quota_reached")
    assert worker.finish(*worker.claim(transcribe=2))[0]["error_code"] is None
    assert bob.post("/api/transcriptions", json=body).status_code == 201


def test_labels_and_models_of_one_owner_are_few(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each makes a queue of its own, and every claim looks at the head of every queue: 5,000 took half a second."""
    monkeypatch.setattr(limits, "MOST_FLOWS", 2)
    ann, bob = farm.user("ann"), farm.user("bob")
    tones = {"engine": "tones", "model": "instant"}
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    ann.put(f"/api/uploads/{upload}", content=b"abc")
    body = {"name": "a", "upload_id": upload, "options": tones}
    for more in ({}, {"label": "x"}, {"label": "x"}, {"options": tones | {"model": "a/b"}}):
        assert ann.post("/api/transcriptions", json=body | more).status_code == 201
    for more in ({}, {"label": "y"}):
        assert refused(ann.post("/api/transcriptions", json=body | more)) == (429, "quota_reached")
    submit(bob)
    listed = ann.get("/api/transcriptions").json()["transcriptions"]
    ann.post(f"/api/transcriptions/{listed[0]['id']}/cancel")
    assert ann.post("/api/transcriptions", json=body).status_code == 201


def test_an_upload_comes_in_so_many_parts_and_no_more(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_PARTS", 3)
    ann = farm.user("ann")
    path = f"/api/uploads/{ann.post('/api/uploads', json={'name': 'a', 'size': 9}).json()['upload_id']}"
    for offset in range(3):
        assert ann.patch(path, params={"offset": offset}, content=b"a").is_success
    assert refused(ann.patch(path, params={"offset": 3}, content=b"a")) == (429, "quota_reached")


def test_deleting_an_upload_that_was_submitted_leaves_the_recording(farm: ServedFarm) -> None:
    ann = farm.user("ann")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    assert ann.put(f"/api/uploads/{upload}", content=b"abc").is_success
    body = {"name": "a", "upload_id": upload, "options": {"engine": "tones", "model": "instant"}}
    assert ann.post("/api/transcriptions", json=body).status_code == 201
    assert ann.delete(f"/api/uploads/{upload}").is_success
    assert files_in(farm.data / "blobs" / "sources")


def test_uploads_leave_room_on_the_disk_and_are_refused_before_a_byte_is_sent(start_farm: StartFarm) -> None:
    farm = start_farm(disk_reserve_bytes=1 << 50)
    assert refused(farm.admin.post("/api/uploads", json={"name": "a", "size": 1})) == (507, "no_space")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_disk_that_has_filled_since_takes_no_byte(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 1}).json()["upload_id"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=farm.settings.disk_reserve_bytes))
    assert refused(farm.admin.request(method, f"/api/uploads/{upload}", content=b"a")) == (507, "no_space")


def test_an_upload_that_stalls_is_on_the_disk_and_not_in_memory(tmp_path: Path) -> None:
    sizes: list[int] = []

    def written() -> list[int]:
        return [file.stat().st_size for file in tmp_path.rglob("*#*")]

    async def stalling() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(1 << 20)
        for _ in range(1200):
            if max(written(), default=0) >= 2 << 20:
                sizes.extend(written())
                return
            await asyncio.sleep(0.05)

    asyncio.run(Blobs.open(tmp_path).put_stream("sources/x", stalling(), 20 << 30))
    assert sizes, "nothing was written while the sender paused"


def test_event_streams_are_bounded_for_each_owner(start_farm: StartFarm) -> None:
    farm = start_farm(max_streams=2)
    ann, bob = farm.user("ann"), farm.user("bob")
    with ann.stream("GET", "/api/events") as one, ann.stream("GET", "/api/events") as two:
        lines = [one.iter_lines(), two.iter_lines()]  # kept: a stream whose reader is forgotten is closed
        assert all(next(each) for each in lines)
        assert refused(ann.get("/api/events")) == (429, "quota_reached")
        with bob.stream("GET", "/api/events") as other:
            assert other.status_code == 200
    eventually(lambda: ann.get("/api/events", params={"once": True}).status_code == 200, "room again")


def test_streams_that_are_opened_at_once_are_refused_before_they_begin(
    start_farm: StartFarm, caplog: pytest.LogCaptureFixture
) -> None:
    """All but two began, and ended with an error that nobody had foreseen, each with a traceback in the log."""
    farm = start_farm(max_streams=2)
    token, together, asked = farm.token_for("user", "ann"), threading.Barrier(30), threading.Barrier(30)

    def follow(_: int) -> int:
        client = farm.client(token)
        together.wait(60)
        with client.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            assert stream.status_code == 429 or next(lines)
            asked.wait(60)
            return stream.status_code

    with ThreadPoolExecutor(30) as pool:
        assert Counter(pool.map(follow, range(30))) == {200: 2, 429: 28}
    assert "request_failed" not in caplog.text


def test_a_file_that_is_not_there_takes_nobodys_turn(
    start_farm: StartFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "MOST_DOWNLOADS", 2)
    farm = start_farm()
    worker = make_worker(farm)
    submit(farm.admin)
    (job,) = worker.claim(transcribe=0, chunk=1)
    (source,) = files_in(farm.data / "blobs" / "sources")
    content = source.read_bytes()
    source.unlink()
    fetch = job["task"]["source"]["transfer"]
    assert [refused(worker.transfer(fetch))[1] for _ in range(6)] == ["blob_missing"] * 6
    source.write_bytes(content)
    assert worker.transfer(fetch).content == content


def test_files_that_one_party_does_not_read_hold_up_no_other(
    start_farm: StartFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each held a file and three megabytes: a few hundred took all descriptors of a server."""
    monkeypatch.setattr(coordinator, "MOST_DOWNLOADS", 4)
    farm, begun = start_farm(), list[str]()
    hostile, honest = farm.token_for("worker", "hostile"), make_worker(farm)
    submit(farm.admin, audio=bytes(32 << 20))
    theirs = make_worker(farm, "w-2", token=hostile)
    (job,) = theirs.claim(transcribe=0, chunk=1)
    submit(farm.admin, audio=b"short")
    (other,) = honest.claim(transcribe=0, chunk=1)
    get_range = farm.coordinator.blobs.get_range

    async def noted(key: str, *span: Any) -> AsyncIterator[bytes]:
        begun.append(key)
        return await get_range(key, *span)

    monkeypatch.setattr(farm.coordinator.blobs, "get_range", noted)
    url = httpx.URL(farm.url)
    told = f"Authorization: Bearer {hostile}\r\n{PROTOCOL_HEADER}: {PROTOCOL_VERSION}"
    with ExitStack() as stack:
        for _ in range(6):
            line = stack.enter_context(socket.create_connection((url.host, url.port or 80)))
            line.sendall(f"GET /api/work/source/{job['token']} HTTP/1.1\r\nHost: x\r\n{told}\r\n\r\n".encode())
        eventually(lambda: len(begun) == 2, "half of the places are theirs")
        assert honest.transfer(other["task"]["source"]["transfer"]).content == b"short"
        assert len(begun) == 3
    eventually(lambda: len(begun) > 3, "who has gone makes room")


def test_a_user_cannot_go_before_the_others(farm: ServedFarm) -> None:
    ann = farm.user("ann")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    ann.put(f"/api/uploads/{upload}", content=b"abc")
    body = {"name": "a", "upload_id": upload, "priority": 1, "options": {"engine": "tones", "model": "instant"}}
    assert refused(ann.post("/api/transcriptions", json=body)) == (403, "forbidden")
    assert ann.post("/api/transcriptions", json=body | {"priority": 0}).status_code == 201
    assert submit(farm.admin, priority=100)["priority"] == 100


def test_a_user_token_sees_and_revokes_no_token_of_a_higher_scope(farm: ServedFarm) -> None:
    user = farm.user("admin")
    higher = {one["id"] for one in farm.admin.get("/api/tokens").json()["tokens"] if one["scope"] != "user"}
    assert higher
    assert not higher & {one["id"] for one in user.get("/api/tokens").json()["tokens"]}
    for token_id in higher:
        assert refused(user.delete(f"/api/tokens/{token_id}")) == (404, "not_found")
    assert farm.admin.get("/api/server").json()["scope"] == "admin"


@pytest.mark.parametrize("more", [{"scope": "admin"}, {"scope": "worker"}, {"scope": "user", "owner": "bob"}])
def test_a_user_makes_no_token_that_opens_more(farm: ServedFarm, more: dict[str, str]) -> None:
    assert refused(farm.user("ann").post("/api/tokens", json={"name": "x", **more})) == (403, "forbidden")


def test_a_damaged_transcript_is_a_documented_error_and_is_made_again(
    farm: ServedFarm, make_worker: MakeWorker
) -> None:
    made = submit(farm.admin)
    make_worker(farm).work_off()
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    before = farm.admin.get(f"{place}/transcript", params={"format": "txt"}).text
    folder = farm.data / "blobs" / "transcripts" / made["id"]
    for format, damage in (
        ("txt", b'{"segments": ['),
        ("txt", b"\xff\xfe"),
        ("json", b"[]"),
        ("srt", None),
        ("json", None),
    ):
        for file in folder.iterdir():
            file.unlink() if damage is None else file.write_bytes(damage)
        answer = farm.admin.get(f"{place}/transcript", params={"format": format})
        assert refused(answer) in ((500, "invalid_transcript"), (404, "blob_missing"))
        eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript made again")
        assert farm.admin.get(f"{place}/transcript", params={"format": "txt"}).text == before


def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[str]]:
    """Edits are laid over a text no sooner than the event is set; the list has the threads in which they are."""
    laid, go_on, under_way = transcripts.laid, threading.Event(), list[str]()

    def slowly(*given: Any) -> Any:
        under_way.append(threading.current_thread().name)
        go_on.wait(60)
        return laid(*given)

    monkeypatch.setattr(transcripts, "laid", slowly)
    return go_on, under_way


def test_files_that_one_owner_wants_by_the_dozen_hold_up_no_other(
    farm: ServedFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, honest, worker = farm.user("greedy"), farm.user("honest"), make_worker(farm)
    places = {}
    for one in (greedy, honest):
        made = submit(one)
        worker.work_off()
        places[one] = f"/api/transcriptions/{made['id']}/transcript?format=docx"
        eventually(lambda made=made: farm.admin.get(f"/api/transcriptions/{made['id']}").json()["state"] == "done")
    laid = transcripts.laid
    with ThreadPoolExecutor(6) as pool:
        go_on, under_way = held_up(monkeypatch)
        waiting = [pool.submit(greedy.get, places[greedy]) for _ in range(6)]
        eventually(lambda: under_way, "one is being written")
        monkeypatch.setattr(transcripts, "laid", laid)
        assert honest.get(places[honest]).is_success
        assert len(under_way) == 1
        go_on.set()
        assert {each.result().status_code for each in waiting} == {200}


def test_searches_of_one_owner_occupy_one_reader_of_the_database(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search in half a thousand hours may take half a second, and there are four readers for all."""
    greedy, honest, go_on, under_way = farm.user("greedy"), farm.user("honest"), threading.Event(), list[object]()

    def slowly(tx: object, *_: object) -> list[object]:
        under_way.append(tx)
        go_on.wait(60)
        return []

    monkeypatch.setattr(search, "find_said", slowly)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(greedy.get, "/api/search", params={"words": "the"}) for _ in range(8)]
        eventually(lambda: under_way, "one is looking")
        assert honest.get("/api/transcriptions").is_success
        assert len(under_way) == 1
        go_on.set()
        assert {each.result().status_code for each in waiting} == {200}


def test_pages_of_one_owner_are_made_one_by_one_and_beside_the_event_loop(
    farm: ServedFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand names of one speaker, laid over three hundred segments, stopped the server for 23 seconds."""
    greedy, honest, worker = farm.user("greedy"), farm.user("honest"), make_worker(farm)
    places = {}
    for one in (greedy, honest):
        places[one] = f"/api/transcriptions/{submit(one)['id']}/segments"
        worker.work_off()
    laid = transcripts.laid
    with ThreadPoolExecutor(6) as pool:
        go_on, under_way = held_up(monkeypatch)
        waiting = [pool.submit(greedy.get, places[greedy]) for _ in range(6)]
        eventually(lambda: under_way, "one page is being made")
        monkeypatch.setattr(transcripts, "laid", laid)
        assert honest.get(places[honest]).is_success
        go_on.set()
        assert {each.result().status_code for each in waiting} == {200}
    assert len(under_way) == 1
    assert "served-farm" not in under_way


def test_speakers_are_named_anew_so_often_and_no_more(
    farm: ServedFarm, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "MOST_RENAMES", 2)
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    make_worker(farm).work_off()
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    for number, expected in enumerate((201, 201, 429)):
        body = {
            "based_on": number,
            "rename": {"speaker": None if number == 0 else f"n{number - 1}", "name": f"n{number}"},
        }
        assert farm.admin.post(f"{place}/edits", json=body).status_code == expected


def test_segments_name_results_that_are_gone(farm: ServedFarm, make_worker: MakeWorker) -> None:
    made = submit(farm.admin)
    make_worker(farm).work_off()
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    for file in (farm.data / "blobs" / "results" / made["id"]).iterdir():
        file.write_bytes(b"{")
    page = farm.admin.get(f"{place}/segments").json()
    assert [gap["position"] for gap in page["lost"]] == [0, 1, 2]


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_recordings_are_private_even_in_a_folder_that_was_open(start_farm: StartFarm, tmp_path: Path) -> None:
    blobs = tmp_path / "data" / "blobs"
    blobs.mkdir(parents=True)
    blobs.chmod(0o755)
    (tmp_path / "data").chmod(0o755)
    farm = start_farm()
    submit(farm.admin)
    assert blobs.stat().st_mode & 0o077 == 0
    assert (farm.data / "farm.db").stat().st_mode & 0o077 == 0
