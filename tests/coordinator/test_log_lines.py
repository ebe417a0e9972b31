"""A line of the log says which recording, job or worker it is about, under a name that can be searched for."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from support.hand_worker import HandWorker, Json, MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually
from support.submitting import submit

from whisper_farm.coordinator.services.assembler import Assembler
from whisper_farm.coordinator.services.cleaner import Reaper, Retention, Sweeper
from whisper_farm.coordinator.services.service import Report, Service, run_service
from whisper_farm.log import set_up_logging
from whisper_farm.protocol.events import EventKind
from whisper_farm.settings import Policy

Log = Callable[..., list[Json]]
WORK = ("register", "claim", "append", "complete", "fail", "release", "request")


@pytest.fixture
def restored_loggers() -> Iterator[None]:
    """Loggers are afterwards as they were."""
    kept = {name: logging.getLogger(name) for name in ("whisper_farm", "uvicorn.error")}
    before = {name: (one.handlers[:], one.level, one.propagate) for name, one in kept.items()}
    yield
    for handler in kept["whisper_farm"].handlers:
        handler.close()
    for name, (handlers, level, propagate) in before.items():
        kept[name].handlers[:], kept[name].propagate = handlers, propagate
        kept[name].setLevel(level)


@pytest.fixture
def log(restored_loggers: None, monkeypatch: pytest.MonkeyPatch) -> Log:
    """The lines printed so far with these fields, as an operator's collector reads them."""
    printed = io.StringIO()

    def lines(**fields: object) -> list[Json]:
        for handler in logging.getLogger("whisper_farm").handlers:
            handler.flush()
        found = [json.loads(line) for line in printed.getvalue().splitlines()]
        return [line for line in found if fields == {name: line.get(name) for name in fields}]

    with monkeypatch.context() as here:
        here.setattr(sys, "stderr", printed)
        set_up_logging("json")
    return lines


def test_what_workers_do_is_told_with_worker_and_jobs_and_without_tokens(
    log: Log, farm: ServedFarm, make_worker: MakeWorker
) -> None:
    worker = make_worker(farm, "w-1")
    made = submit(farm.admin)["id"]
    cutting = worker.begin(4)
    (hearing,) = worker.claim(1)
    completion = worker.completion(hearing, worker.heard(hearing))
    answer = worker.told("complete", completions=[completion], claim=worker.claim_body(2))
    failed, released = answer["claims"]
    worker.finish(hearing, text=" something else")
    failure = {"code": "recogniser_crashed", "message": "it died"}
    worker.told("fail", failures=[{"token": token, **failure} for token in (failed["token"], "f" * 32)])
    worker.told("release", tokens=[released["token"]])
    (told,) = log(action="register")
    assert told["worker_id"] == "w-1"
    assert [line["jobs"] for line in log(action="claim", worker_id="w-1")] == [[cutting["job_id"]], [hearing["job_id"]]]
    assert [line["claimed"] for line in log(action="complete", worker_id="w-1") if line["claimed"]] == [
        [failed["job_id"], released["job_id"]]
    ]
    assert len(log(action="append", transcription_id=made, first=0, count=4)) == 1
    for action, job, ends in (
        ("complete", hearing, [(1, []), (0, ["result_conflict"])]),
        ("fail", failed, [(1, ["lease_lost"])]),
        ("release", released, [(1, [])]),
    ):
        said = log(action=action, worker_id="w-1", jobs=[job["job_id"]])
        assert [(line["accepted"], line["refused"]) for line in said] == ends, action
    for line in log():
        assert {"event", "action", "level", "timestamp"} <= line.keys(), line
        assert line["action"] not in WORK or line["duration_ms"] > 0, line
    asked = {line["route"] for line in log(action="request")}
    assert "/api/work/uploads/{token}/{position}" in asked, "what has no line of its own is told as a request"
    assert not asked & {f"/api/work/{call}" for call in ("claim", "append", "complete", "fail", "release")}
    everything = json.dumps(log())
    for secret in (farm.token, *(claim["token"] for claim in (cutting, hearing, failed, released))):
        assert secret not in everything


def test_what_people_do_is_told_with_what_they_did_it_to(log: Log, farm: ServedFarm) -> None:
    ann = farm.user("ann")
    upload = ann.post("/api/uploads", json={"name": "a", "size": 3}).json()["upload_id"]
    ann.put(f"/api/uploads/{upload}", content=b"abc")
    made = ann.post("/api/transcriptions", json={"name": "a", "upload_id": upload}).json()["id"]
    token = ann.get("/api/tokens").json()["tokens"][0]["id"]
    farm.admin.delete(f"/api/tokens/{token}")
    assert len(log(action="upload", upload_id=upload, size=3)) == 1
    assert len(log(action="submit", transcription_id=made, owner="ann", new=True)) == 1
    assert len(log(action="token_created", token_id=token, owner="ann", scope="user")) == 1
    assert len(log(action="token_revoked", token_id=token)) == 1
    (request,) = log(action="request", route="/api/uploads/{upload_id}")
    assert (request["upload_id"], request["owner"], request["status"]) == (upload, "ann", 204)
    (revoked,) = eventually(lambda: log(action="request", route="/api/tokens/{token_id}"), "the line of the request")
    assert (revoked["method"], revoked["token_id"], revoked["owner"], revoked["scope"]) == (
        "DELETE", token, "admin", "admin",
    )  # fmt: skip
    mine = [one["id"] for one in farm.admin.get("/api/tokens").json()["tokens"] if one["owner"] == "admin"]
    assert revoked["by"] in mine, "which token it was done with"
    for action in ("upload", "submit", "token_created", "token_revoked", "request"):
        assert all(line["duration_ms"] > 0 for line in log(action=action)), action


def test_the_time_of_a_claim_counts_from_its_arrival_so_its_wait_is_part_of_it(
    log: Log, farm: ServedFarm, worker: HandWorker
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.claim, 0, 1, 20)
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
        began = time.perf_counter()
        for _ in range(5):
            assert farm.admin.get("/api/transcriptions").is_success
        asked = eventually(lambda: len(found := log(action="request", method="GET")) == 5 and found, "their lines")
        waited_ms = (time.perf_counter() - began) * 1000
        submit(farm.admin)
        assert len(waiting.result(60)) == 1
    (claimed,) = log(action="claim")
    assert claimed["duration_ms"] > waited_ms - 1
    assert 0 < sum(line["duration_ms"] for line in asked) <= waited_ms + 1


@contextmanager
def running(farm: ServedFarm, service: Service) -> Iterator[None]:
    """The service, often, beside those that the farm runs itself."""
    service.period_seconds = 0.01
    stop = asyncio.Event()

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(run_service(service, stop, asyncio.Event()))

    async def end() -> None:
        stop.set()
        await task

    task = farm.on_loop(begin)
    yield
    farm.on_loop(end)


def test_services_tell_what_they_did_and_nothing_when_there_was_nothing(
    log: Log, farm: ServedFarm, worker: HandWorker
) -> None:
    submit(farm.admin)
    worker.work_off(chunks=2)
    stray = farm.data / "blobs/chunks/nobody/attempt/0.flac"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    os.utime(stray, (time.time() - 10_000,) * 2)
    store, blobs = farm.coordinator.store, farm.coordinator.blobs
    eager = farm.settings.model_copy(update={"retention_days": 0, "orphan_hours": 2, "trash_hours": 0})
    services: list[tuple[Service, dict[str, int]]] = [
        (Assembler(store, blobs), {"assembled": 1}),
        (Reaper(store, Policy(lease_seconds=0.01)), {"workers_gone": 1}),
        (Sweeper(store, blobs, eager), {"blobs": 1}),
        (Retention(store, blobs, eager), {"transcriptions": 1}),
    ]
    for service, did in services:
        asked = {"action": f"{service.name}_run", "service": service.name, **did}
        with running(farm, service):
            line = eventually(lambda asked=asked: log(**asked), f"the {service.name}'s line")[0]
            assert line["duration_ms"] > 0
            assert line["level"] == "info"
    runs: list[int] = []

    async def nothing_to_do(run: int) -> Report:
        runs.append(run)
        return Report()

    with running(farm, Scripted("idle", nothing_to_do)):
        eventually(lambda: len(runs) > 3, "some runs")
    assert log(action="idle_run") == []
    assert len(log(service="sweeper")) == 1


class Scripted:
    """A service that does what the test says."""

    name: ClassVar[str]
    woken_by: ClassVar[frozenset[EventKind]] = frozenset()

    def __init__(
        self, name: str, script: Callable[[int], Coroutine[Any, Any, Report]], timeout_seconds: float = 60
    ) -> None:
        self.name = name  # type: ignore[misc]
        self.period_seconds = 0.01
        self.timeout_seconds = timeout_seconds
        self.runs = 0
        self._script = script

    async def run_once(self) -> Report:
        self.runs += 1
        return await self._script(self.runs)


def test_a_service_that_fails_or_hangs_is_told_of_by_its_name(log: Log, farm: ServedFarm) -> None:
    async def broken(run: int) -> Report:
        raise ValueError("no such luck")

    async def hanging(run: int) -> Report:
        await asyncio.Event().wait()
        return Report()

    with running(farm, Scripted("broken", broken)), running(farm, Scripted("hanging", hanging, timeout_seconds=0.01)):
        failed = eventually(lambda: log(action="broken_run"), "the failure")[0]
        late = eventually(lambda: log(action="hanging_run"), "the time-out")[0]
    assert (failed["service"], failed["level"]) == ("broken", "error")
    assert "ValueError: no such luck" in failed["exception"]
    assert (late["service"], late["level"], late["timeout_seconds"]) == ("hanging", "warning", 0.01)


def test_a_transcript_that_must_wait_is_told_of_by_its_id(log: Log, farm: ServedFarm, worker: HandWorker) -> None:
    (farm.data / "blobs/transcripts").write_bytes(b"a file where the folder should be")
    made = submit(farm.admin)["id"]
    worker.work_off(chunks=1)
    line = eventually(lambda: log(action="assemble", transcription_id=made), "the line")[0]
    assert line["level"] in ("warning", "error")
    assert eventually(lambda: log(action="assembler_run", service="assembler"), "the run")[0]["postponed"] == 1


class HeldTerminal(io.StringIO):
    """An error stream that takes nothing until it is let go: a terminal that is held, a pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        assert self.let_go.wait(60)
        return super().write(text)


def test_a_terminal_that_is_held_costs_lines_and_no_answer(
    restored_loggers: None, start_farm: StartFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldTerminal()
    with monkeypatch.context() as here:
        here.setattr(sys, "stderr", held)
        set_up_logging("json")
    try:
        farm = start_farm()
        farm.admin.timeout = 30
        for number in range(3):
            assert farm.admin.get(f"/api/transcriptions/{number}").status_code == 404
    finally:
        held.let_go.set()
    assert eventually(lambda: held.getvalue().count("/api/transcriptions/{transcription_id}") == 3, "the lines")
