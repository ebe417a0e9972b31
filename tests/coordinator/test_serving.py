"""Starting and stopping: addresses, the first token, what goes wrong at start, and two coordinators on one farm."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import httpx
import pytest
from support.hand_worker import HandWorker
from support.served_farm import ServedFarm, StartFarm, eventually, serve
from support.submitting import submit

from whisper_farm.coordinator.server import listening_socket
from whisper_farm.errors import FarmError, SchemaMismatch, StorageError, StoreUnavailable
from whisper_farm.log import COORDINATOR
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.database import Database


def served(data: Path, log: int | IO[bytes] = subprocess.DEVNULL) -> tuple[subprocess.Popen[str], str]:
    """The server as a process of its own, and its address."""
    command = [sys.executable, "-m", "whisper_farm", "serve", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def test_the_first_start_makes_one_admin_and_writes_its_token_once(start_farm: StartFarm, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'new' / 'farm.db'}"
    first = start_farm(database=place)
    token, written_at = first.token, (first.data / "admin-token").stat().st_mtime_ns
    if os.name == "posix":
        assert (first.data / "admin-token").stat().st_mode & 0o777 == 0o600
    assert first.admin.get("/api/server").json()["scope"] == "admin"
    first.stop()
    second = start_farm(database=place)
    assert (second.token, (second.data / "admin-token").stat().st_mtime_ns) == (token, written_at)
    assert second.admin.get("/api/server").is_success


def test_it_listens_on_loopback_alone_unless_told(farm: ServedFarm) -> None:
    url = httpx.URL(farm.url)
    assert url.host == "127.0.0.1"
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, as the system says it
            socket.create_connection((own, url.port or 80), timeout=2)


def test_a_port_that_is_taken_is_told_by_its_number(farm: ServedFarm, tmp_path: Path) -> None:
    port = httpx.URL(farm.url).port or 0
    settings = ServerSettings(port=port, data=tmp_path / "other")
    with pytest.raises(FarmError, match=rf"{port}.* Choose another with --port"):
        serve(settings, Policy(), lambda url: None, threading.Event())
    with pytest.raises(FarmError, match="no address"):
        serve(ServerSettings(host="no such host", data=tmp_path / "o"), Policy(), lambda url: None, threading.Event())


def test_an_address_that_is_not_this_machines_is_not_blamed_on_the_port(tmp_path: Path) -> None:
    settings = ServerSettings(host="203.0.113.9", port=0, data=tmp_path / "other")
    with pytest.raises(FarmError, match="Choose another with --host"):
        serve(settings, Policy(), lambda url: None, threading.Event())


def test_answers_never_wait_for_the_acknowledgement_of_their_head() -> None:
    async def accepted() -> int:
        seen = asyncio.get_running_loop().create_future()
        listener = listening_socket("127.0.0.1", 0)
        serving = await asyncio.start_server(lambda _, writer: seen.set_result(writer), sock=listener)
        async with serving, asyncio.timeout(10):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            peer = await seen
            without_delay: int = peer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for each in (writer, peer):
                each.close()
        return without_delay

    assert asyncio.run(accepted())


def test_what_is_wrong_with_the_stores_is_told_before_anything_listens(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "file").touch()

    def start(**given: object) -> None:
        settings = ServerSettings(port=0, **{"data": tmp_path / "data", "database": sqlite_url, **given})  # type: ignore[arg-type] # names chosen by the test
        serve(settings, Policy(), lambda url: None, threading.Event())

    with pytest.raises(StorageError, match="data folder"):
        start(data=tmp_path / "file" / "below")
    with pytest.raises(StoreUnavailable):
        start(blobs=str(tmp_path / "file" / "blobs"))
    with pytest.raises(StoreUnavailable):
        start(database="mysql://localhost/farm")


def test_an_old_schema_on_postgresql_stops_the_server_with_the_remedy(
    postgres_server: object, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url")
    database = Database.open(url)
    database.write(
        lambda tx: tx.connection.exec_driver_sql("UPDATE schema_version SET version = 0, compatible_from = 0")
    )
    database.close()
    settings = ServerSettings(port=0, data=tmp_path, database=url)
    with pytest.raises(SchemaMismatch, match="db upgrade"):
        serve(settings, Policy(), lambda url: None, threading.Event())


def test_stopping_takes_no_longer_than_two_seconds_whatever_waits(farm: ServedFarm, worker: HandWorker) -> None:
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(worker.claim(1, wait=60)))
    waiting.start()
    eventually(lambda: len(farm.coordinator.long_polls) == 1)
    with farm.admin.stream("GET", "/api/events") as stream:
        assert next(stream.iter_lines()).startswith("retry")
        seconds = farm.stop()
    waiting.join(10)
    assert answers == [[]]
    assert seconds < 3  # two, and one for a machine that does other things, too
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("farm-")]


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX")
def test_a_signal_stops_it_in_good_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process, url = served(tmp_path / "data", log)
    try:
        assert url.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.communicate()


def test_a_farm_survives_the_murder_of_its_coordinator(tmp_path: Path, start_farm: StartFarm) -> None:
    process, url = served(tmp_path / "data")
    try:
        token = (tmp_path / "data" / "admin-token").read_text().strip()
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, verify=False) as client:
            made = submit(client)
        worker = HandWorker(url, token)
        worker.register()
        cutting = worker.begin(2)
        (hearing,) = worker.claim(1)
        worker.close()
    finally:
        process.kill()
        process.communicate()
    farm = start_farm(database=None)
    again = HandWorker(farm.url, farm.token)
    again.complete([again.cut_done(cutting, 2)])
    again.finish(hearing)
    again.work_off()
    again.close()
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "done")
    text = farm.admin.get(f"{place}/transcript", params={"format": "txt"}).text
    assert text.split() == ["word0", "word1"]


def test_any_of_two_coordinators_can_be_spoken_to_at_any_step(
    start_farm: StartFarm, postgres_url: str, tmp_path: Path
) -> None:
    shared = {"database": postgres_url, "blobs": str(tmp_path / "shared")}
    farms = [start_farm(**shared), start_farm(**shared)]
    token = farms[0].token
    workers = [HandWorker(farm.url, token, "w") for farm in farms]
    made = submit(farms[0].admin)
    one, other = workers
    one.register()
    (cutting,) = other.claim(0, chunk=1)
    chunk = one.upload(cutting, 0)
    other.told("append", token=cutting["token"], chunks=[chunk])
    one.complete([one.cut_done(cutting, 1)])
    (hearing,) = other.claim(1)
    assert one.transfer(hearing["task"]["transfer"]).content == b"sound of chunk 0"
    assert one.finish(hearing) == other.finish(hearing)
    admin = farms[1].client(token)
    eventually(lambda: admin.get(f"/api/transcriptions/{made['id']}").json()["state"] == "done")
    for worker in workers:
        worker.close()


def test_nothing_is_printed_unless_somebody_set_up_logging(farm: ServedFarm, capfd: pytest.CaptureFixture[str]) -> None:
    assert logging.getLogger(COORDINATOR).getEffectiveLevel() > logging.INFO
    submit(farm.admin)
    farm.admin.get("/api/nothing")
    assert capfd.readouterr() == ("", "")
