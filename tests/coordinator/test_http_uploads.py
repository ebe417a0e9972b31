"""An upload arrives in parts: a lost connection or a restarted server costs one part, and nothing is mixed up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType

import httpx
import pytest
from support.served_farm import ServedFarm, StartFarm, eventually, files_in, refused

from whisper_farm.client.uploads import PART_BYTES
from whisper_farm.coordinator import submissions
from whisper_farm.coordinator.routes import uploads
from whisper_farm.errors import StoreUnavailable
from whisper_farm.settings import ServerSettings
from whisper_farm.store.blobs import BlobFacts
from whisper_farm.store.database import Transaction
from whisper_farm.store.uploads import PartRow, UploadRow, must_follow

PARTS = [os.urandom(900_000), os.urandom(5), os.urandom(300_000)]
WHOLE = b"".join(PARTS)


def announced(client: httpx.Client, size: int = len(WHOLE)) -> str:
    answer = client.post("/api/uploads", json={"name": "talk.mp3", "size": size}).json()
    assert answer["transfer"]["method"] == "PATCH"
    return str(answer["transfer"]["url"])


def send(client: httpx.Client, place: str, offset: int, part: bytes) -> httpx.Response:
    return client.patch(place, params={"offset": offset}, content=part)


def blobs(farm: ServedFarm) -> list[bytes]:
    found = []
    for path in files_in(farm.data / "blobs" / "sources"):
        with suppress(FileNotFoundError):  # what is being removed is gone
            found.append(path.read_bytes())
    return found


def submitted(client: httpx.Client, place: str, **given: str) -> httpx.Response:
    return client.post("/api/transcriptions", json={"name": "x", "upload_id": place.rpartition("/")[2], **given})


def test_parts_become_one_recording(either_farm: ServedFarm) -> None:
    farm = either_farm
    place, offset = announced(farm.admin), 0
    for part in PARTS:
        assert refused(submitted(farm.admin, place)) == (409, "wrong_state")
        assert send(farm.admin, place, offset, part).json() == {"received_bytes": offset + len(part)}
        offset += len(part)
    assert blobs(farm) == [WHOLE]
    assert send(farm.admin, place, 0, b"").json() == {"received_bytes": len(WHOLE)}
    assert submitted(farm.admin, place, sha256=hashlib.sha256(WHOLE).hexdigest()).status_code == 201


def test_who_has_lost_count_is_told_where_to_go_on(either_farm: ServedFarm) -> None:
    farm = either_farm
    place = announced(farm.admin)
    send(farm.admin, place, 0, PARTS[0])
    for offset in (0, 1, len(PARTS[0]) + 1, len(WHOLE)):
        answer = send(farm.admin, place, offset, b"wrong")
        assert refused(answer) == (409, "wrong_state")
        assert answer.json()["error"]["details"] == {"received_bytes": len(PARTS[0])}
    send(farm.admin, place, len(PARTS[0]), WHOLE[len(PARTS[0]) :])
    assert blobs(farm) == [WHOLE]


def test_the_largest_file_that_a_server_takes_has_no_more_parts_than_it_takes() -> None:
    largest = ServerSettings().max_upload_bytes
    upload = UploadRow("u", "ann", "long.mkv", largest, "sources/u")
    parts = [PartRow("k", "u", first, min(PART_BYTES, largest - first)) for first in range(0, largest, PART_BYTES)]
    must_follow(upload, parts[:-1], parts[-1].first)


def test_a_part_that_breaks_off_leaves_nothing_and_is_sent_again(farm: ServedFarm) -> None:
    place = announced(farm.admin)

    def broken() -> Iterator[bytes]:
        yield PARTS[0][:500_000]
        raise ConnectionError

    with suppress(ConnectionError):
        farm.admin.patch(place, content=broken(), headers={"Content-Length": str(len(PARTS[0]))})
    assert send(farm.admin, place, 0, WHOLE).json() == {"received_bytes": len(WHOLE)}
    eventually(lambda: blobs(farm) == [WHOLE], "the recording alone is left")


def test_a_restarted_server_goes_on_where_the_last_one_was(start_farm: StartFarm) -> None:
    first = start_farm()
    place = announced(first.admin)
    send(first.admin, place, 0, PARTS[0])
    first.stop()
    second = start_farm()
    answer = send(second.admin, place, 0, b"")
    assert answer.json()["error"]["details"] == {"received_bytes": len(PARTS[0])}
    assert send(second.admin, place, len(PARTS[0]), WHOLE[len(PARTS[0]) :]).is_success
    assert blobs(second) == [WHOLE]


def test_the_same_part_sent_twice_at_once_counts_once(either_farm: ServedFarm) -> None:
    farm = either_farm
    place, both = announced(farm.admin), threading.Barrier(2)
    clients = [farm.client(farm.token) for _ in range(2)]

    def at_once(client: httpx.Client) -> int:
        both.wait(60)
        return send(client, place, 0, PARTS[0]).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(at_once, clients)) == [200, 409]
    assert send(farm.admin, place, len(PARTS[0]), WHOLE[len(PARTS[0]) :]).is_success
    assert blobs(farm) == [WHOLE]


def test_who_asks_again_while_the_parts_become_one_file_hears_that_they_have(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, again = announced(farm.admin), farm.client(farm.token)
    send(farm.admin, place, 0, PARTS[0])
    read, asked = farm.coordinator.blobs.get_range, list[httpx.Response]()

    async def read_late(key: str, *more: int) -> AsyncIterator[bytes]:
        monkeypatch.undo()
        asked.append(await asyncio.to_thread(send, again, place, len(WHOLE), b""))
        return await read(key, *more)

    monkeypatch.setattr(farm.coordinator.blobs, "get_range", read_late)
    answer = send(farm.admin, place, len(PARTS[0]), WHOLE[len(PARTS[0]) :])
    assert [one.json() for one in (*asked, answer)] == [{"received_bytes": len(WHOLE)}] * 2
    assert submitted(farm.admin, place).status_code == 201


def once_stored(farm: ServedFarm, patch: pytest.MonkeyPatch, size: int, then: Callable[[], object]) -> None:
    """Do something else when a blob of that size is there, and before anybody hears of it."""
    put = farm.coordinator.blobs.put_stream

    async def put_and_wait(key: str, source: AsyncIterator[bytes], limit: int) -> BlobFacts:
        facts = await put(key, source, limit)
        if facts.size == size:
            patch.undo()
            await asyncio.to_thread(then)
        return facts

    patch.setattr(farm.coordinator.blobs, "put_stream", put_and_wait)


@pytest.mark.parametrize("submits", [False, True])
def test_two_who_make_one_file_of_the_parts_leave_one(
    either_farm: ServedFarm, monkeypatch: pytest.MonkeyPatch, submits: bool
) -> None:
    farm, answers = either_farm, list[int]()
    place, again = announced(farm.admin), farm.client(farm.token)
    send(farm.admin, place, 0, PARTS[0])

    def ask_again() -> None:
        answers.append(send(again, place, len(WHOLE), b"").status_code)
        if submits:
            answers.append(submitted(again, place).status_code)

    once_stored(farm, monkeypatch, len(WHOLE), ask_again)
    answers.append(send(farm.admin, place, len(PARTS[0]), WHOLE[len(PARTS[0]) :]).status_code)
    assert answers == ([200, 201, 200] if submits else [200, 200])
    assert blobs(farm) == [WHOLE]
    assert submitted(farm.admin, place).status_code == 201


def test_an_upload_that_is_deleted_while_its_parts_become_one_file_leaves_nothing(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, again = announced(farm.admin), farm.client(farm.token)
    send(farm.admin, place, 0, PARTS[0])
    once_stored(farm, monkeypatch, len(WHOLE), lambda: again.delete(place))
    assert refused(send(farm.admin, place, len(PARTS[0]), WHOLE[len(PARTS[0]) :])) == (404, "not_found")
    assert blobs(farm) == []


def test_who_sends_all_of_it_after_some_parts_leaves_one_file(farm: ServedFarm) -> None:
    place = announced(farm.admin)
    send(farm.admin, place, 0, PARTS[0])
    assert farm.admin.put(place, content=WHOLE).status_code == 204
    assert blobs(farm) == [WHOLE]


def test_no_more_is_taken_than_was_announced_and_nobody_adds_to_the_upload_of_another(farm: ServedFarm) -> None:
    place = announced(farm.admin, 10)
    assert refused(send(farm.admin, place, 0, b"x" * 11)) == (413, "too_large")
    assert refused(send(farm.user("bob"), place, 0, b"x" * 10)) == (404, "not_found")
    for offset in (-1, 1 << 45):
        assert refused(send(farm.admin, place, offset, b"x"))[0] == 422
    assert send(farm.admin, place, 0, b"x" * 10).is_success
    assert blobs(farm) == [b"x" * 10]


def answers_too_late(farm: ServedFarm, patch: pytest.MonkeyPatch, asking: ModuleType) -> None:
    """The database does what that module asks for, which does not hear of it in time."""
    write = farm.coordinator.store.write

    async def late(work: Callable[[Transaction], object]) -> object:
        done = await write(work)
        if work.__module__ == asking.__name__:
            raise StoreUnavailable
        return done

    patch.setattr(farm.coordinator.store, "write", late)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_file_stays_though_the_database_answers_too_late(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    place = announced(farm.admin)
    with monkeypatch.context() as patch:
        answers_too_late(farm, patch, uploads)
        assert refused(farm.admin.request(method, place, content=WHOLE)) == (503, "store_unavailable")
    assert send(farm.admin, place, len(WHOLE), b"").json() == {"received_bytes": len(WHOLE)}
    assert submitted(farm.admin, place).status_code == 201
    assert blobs(farm) == [WHOLE]


def test_a_recording_sent_in_one_call_stays_though_the_database_answers_too_late(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        answers_too_late(farm, patch, submissions)
        answer = farm.admin.post("/v1/audio/transcriptions", files={"file": ("talk.mp3", WHOLE)})
        assert answer.status_code == 503
    assert len(farm.admin.get("/api/transcriptions").json()["transcriptions"]) == 1
    assert blobs(farm) == [WHOLE]
