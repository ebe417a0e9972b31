"""All background services of two coordinators at once, on one database and one folder: as if there were one of each."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update
from support.hand_farm import claim
from support.service_bench import SHA, TONES, Bench

from whisper_farm.coordinator.services.assembler import Assembler
from whisper_farm.coordinator.services.cleaner import Reaper, Retention, Sweeper
from whisper_farm.coordinator.services.service import Service
from whisper_farm.leases.append import append
from whisper_farm.leases.complete import Finished, complete
from whisper_farm.leases.fail import release
from whisper_farm.leases.transcriptions import NewTranscription, blob_keys_of, submit
from whisper_farm.leases.workers import register_worker
from whisper_farm.protocol.jobs import ChunkResult
from whisper_farm.protocol.worker import (
    AppendRequest,
    ClaimRequest,
    EngineOffer,
    NewChunk,
    RegisterRequest,
    ReleaseRequest,
)
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.events import events_after
from whisper_farm.store.folder import sweep
from whisper_farm.store.outer_tables import uploads
from whisper_farm.store.tables import events, transcriptions

LONG_AGO = 1000.0
HUNDRED_HOURS = 360_000
READY, OLD, KEPT, SILENT, ABANDONED = 8, 8, 4, 6, 5
ORPHANS, UNFINISHED, ANNOUNCED = 60, 20, 7
ROUNDS = 6
POLICY = Policy(max_attempts=1)
PATIENCE_SECONDS = 300


@pytest.fixture
def benches(database_url: str, tmp_path: Path) -> Iterator[list[Bench]]:
    """Two openings of one database and one folder, as two coordinators have; a third for who works on."""
    with ExitStack() as stack:
        made = []
        for _ in range(3):
            database = Database.open(database_url)
            stack.callback(database.close)
            made.append(Bench(database, tmp_path / "blobs"))
            stack.callback(lambda bench=made[-1]: asyncio.run(bench.store.close()))
        yield made


def services_of(bench: Bench) -> list[Service]:
    settings = bench.settings_with(retention_days=1)
    store, blobs = bench.store, bench.blobs
    return [
        Assembler(store, blobs),
        Reaper(store, POLICY),
        Retention(store, blobs, settings),
        Sweeper(store, blobs, settings),
    ]


def rounds(bench: Bench, together: threading.Barrier) -> Counter[str]:
    """Every service runs a few times beside the others; what they say that they did, in sum."""
    said: Counter[str] = Counter()

    async def all_at_once() -> None:
        services = services_of(bench)
        for _ in range(ROUNDS):
            with suppress(threading.BrokenBarrierError):
                await asyncio.to_thread(together.wait, PATIENCE_SECONDS)
            for report in await asyncio.gather(*(service.run_once() for service in services)):
                said.update(report)

    try:
        asyncio.run(all_at_once())
    finally:
        together.abort()  # the other need not wait for one that failed
    return said


def work_on(bench: Bench, over: threading.Event) -> set[str]:
    """Recordings come in, and the blobs of their chunks before the database knows of them; returns those."""
    written = set()
    while not over.is_set():
        source = bench.put(f"sources/new/{secrets.token_hex(8)}")
        new = NewTranscription("ann", "new.mp3", f"blob:{source}", 1, TONES)
        made = bench.database.write(lambda tx, new=new: submit(tx, new))
        written |= {source, bench.put(f"chunks/{made}/attempt/0.flac")}
    return written


def abandon(bench: Bench) -> None:
    """Workers that were here long ago, and have fallen silent over the chunks of a recording."""
    offer = EngineOffer(engine="tones", version="1", device="cpu", batch=4)
    write: Callable[..., Any] = lambda work: bench.database.write(work, now=LONG_AGO)  # noqa: E731
    for number in range(SILENT):
        told = {"worker_id": f"s{number}", "name": "s", "version": "1", "platform": "p", "slots": 1}
        hello = RegisterRequest(**told, engines=(offer,))
        write(lambda tx, hello=hello: register_worker(tx, hello, "ann", POLICY))
    write(lambda tx: submit(tx, NewTranscription("ann", "left.mp3", "file:/left.mp3", 1, TONES)))
    asked = ClaimRequest(worker_id="s0", request_id="cut", jobs={"chunk": 1})
    (job,) = write(lambda tx: claim(tx, asked, POLICY))
    facts = {"speech_seconds": 8, "size": 1, "sha256": SHA}
    chunks = [
        NewChunk(position=n, start_seconds=n * 10, end_seconds=n * 10 + 10, key=f"chunks/left/{n}", **facts)
        for n in range(ABANDONED)
    ]
    write(lambda tx: append(tx, AppendRequest(worker_id="s0", token=job.token, chunks=tuple(chunks)), POLICY))
    cut = ChunkResult(duration_seconds=ABANDONED * 10, chunks=ABANDONED)
    write(lambda tx: complete(tx, [Finished("s0", job.token, SHA, cut)], POLICY))
    for number in range(ABANDONED):
        asked = ClaimRequest(worker_id=f"s{number}", request_id=f"hear{number}", jobs={"transcribe": 1})
        assert write(lambda tx, asked=asked: claim(tx, asked, POLICY))


def litter(bench: Bench) -> None:
    """What nobody refers to, and is old: blobs, unfinished files, announcements of uploads."""
    for number in range(ORPHANS):
        prefix = ("sources/gone", "chunks/gone/attempt", "results/gone", "transcripts/gone")[number % 4]
        bench.put(f"{prefix}{number % 3}/{number}", age_seconds=HUNDRED_HOURS)
    for number in range(UNFINISHED):
        path = bench.folder / f"results/half{number % 5}/{number}.json#{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (LONG_AGO, LONG_AGO))
    rows = [
        {"id": f"u{n}", "owner": "ann", "name": "x", "size": 1, "key": f"sources/u{n}/x", "state": "open"}
        for n in range(ANNOUNCED)
    ]
    rows = [row | {"last_used_at": LONG_AGO} for row in rows]
    bench.database.write(lambda tx: tx.connection.execute(insert(uploads), rows))


def test_two_of_every_service_do_what_one_would(benches: list[Bench]) -> None:
    bench, _, working = benches
    old = [bench.recognised(chunks=3) for _ in range(OLD)]
    kept = [bench.recognised(chunks=3) for _ in range(KEPT)]
    assert bench.run(Assembler(bench.store, bench.blobs).run_once())["assembled"] == OLD + KEPT
    aged = update(transcriptions).where(transcriptions.c.id.in_(old)).values(finished_at=LONG_AGO)
    bench.database.write(lambda tx: tx.connection.execute(aged))
    ready = [bench.recognised(chunks=30) for _ in range(READY)]
    bench.database.write(lambda tx: release(tx, ReleaseRequest(worker_id="w", leaving=True), POLICY))
    abandon(bench)
    for name in bench.files():
        os.utime(bench.folder / name, (time.time() - HUNDRED_HOURS,) * 2)
    litter(bench)
    newest = select(func.count()).where(events.c.at < LONG_AGO + 1)
    old_events = bench.database.read(lambda tx: tx.connection.scalar(newest))

    together, over = threading.Barrier(2), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        works = pool.submit(work_on, working, over)
        runs = [pool.submit(rounds, one, together) for one in benches[:2]]
        try:
            said = runs[0].result(PATIENCE_SECONDS) + runs[1].result(PATIENCE_SECONDS)
        finally:
            over.set()
        written = works.result(PATIENCE_SECONDS)

    assert said.pop("blobs") >= ORPHANS, "a store does not say who of two removed a blob, so both may count it"
    assert said == Counter(
        assembled=READY, transcriptions=OLD, workers_gone=SILENT, jobs_set_aside=ABANDONED, events=old_events,
        uploads=ANNOUNCED, unfinished_files=UNFINISHED, workers=SILENT - ABANDONED,
    )  # fmt: skip
    assert bench.files() == written | bench.database.read(_referenced)
    assert {bench.row(made).state for made in (*kept, *ready)} == {"done"}
    told = Counter(
        (event.kind, event.transcription_id, event.data.get("worker_id"), event.data.get("position"))
        for event in bench.database.read(lambda tx: events_after(tx, 0, limit=100_000))
        if event.kind in ONCE
    )
    assert set(told.values()) == {1}
    kinds = Counter(kind for kind, *_ in told)
    assert kinds == {
        "transcription_done": OLD + KEPT + READY, "transcription_deleted": OLD, "transcription_failed": 1,
        "worker_gone": SILENT + 1, "job_set_aside": ABANDONED,
    }  # fmt: skip


def test_two_sweep_one_folder_beside_one_who_deletes(tmp_path: Path) -> None:
    """Whatever goes in the middle of it, files or folders: nobody fails, and every file is counted once."""
    for number in range(2000):
        path = tmp_path / f"folder{number % 100}" / f"{number}.json#{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (LONG_AGO, LONG_AGO))
    young = tmp_path / "folder0" / "young.json#1"
    young.write_bytes(b"x")
    together, over = threading.Barrier(3), threading.Event()

    def sweeping() -> int:
        together.wait(PATIENCE_SECONDS)
        return sweep(tmp_path, LONG_AGO + 1)

    def deleting() -> None:
        together.wait(PATIENCE_SECONDS)
        while not over.is_set():
            for folder in tmp_path.iterdir():
                with suppress(OSError):  # not empty yet
                    folder.rmdir()

    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(sweeping) for _ in range(2)]
        deletes = pool.submit(deleting)
        wait(both, PATIENCE_SECONDS)
        over.set()
        deletes.result(PATIENCE_SECONDS)
    assert sum(each.result() for each in both) == 2000
    assert list(tmp_path.rglob("*#*")) == [young]


ONCE = (
    *("transcription_done", "transcription_deleted", "transcription_failed", "transcription_incomplete"),
    *("worker_gone", "job_set_aside"),
)
"""What is told of a recording, a worker or a chunk one time only."""


def _referenced(tx: Transaction) -> set[str]:
    ids = tx.connection.scalars(select(transcriptions.c.id)).all()
    found = {key for made in ids for key in blob_keys_of(tx, made)}
    return {key for key in found if not key.startswith("chunks/")}
