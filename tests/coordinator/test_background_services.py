"""The services: each does its own thing once, twice or from two coordinators alike, and may die at any point."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError
from sqlalchemy import insert, select, update
from support.service_bench import TONES, Bench

from whisper_farm.coordinator.editing import Texts
from whisper_farm.coordinator.layers.auth import Caller
from whisper_farm.coordinator.services import assembler as assembler_module
from whisper_farm.coordinator.services import cleaner as retention_module
from whisper_farm.coordinator.services.assembler import Assembler
from whisper_farm.coordinator.services.cleaner import DAY_SECONDS, Retention, Sweeper
from whisper_farm.coordinator.services.service import Report, Services, run_service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import StoreUnavailable, WrongState
from whisper_farm.leases.transcriptions import NewTranscription, cancel, delete, rebuild, retry, submit
from whisper_farm.protocol.edits import NewEdit
from whisper_farm.protocol.events import EventKind
from whisper_farm.settings import ServerSettings
from whisper_farm.store import blobs as blobs_module
from whisper_farm.store import incoming
from whisper_farm.store.blobs import BlobFacts, Blobs
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.events import events_after
from whisper_farm.store.limits import change_limits
from whisper_farm.store.outer_tables import uploads
from whisper_farm.store.search import find_said
from whisper_farm.store.tables import jobs, transcriptions, workers
from whisper_farm.store.transcriptions import TranscriptionRow
from whisper_farm.store.uploads import PartRow, UploadRow, add_part, announce, find_upload, stored
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.transcript import length_of


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Iterator[Bench]:
    """On SQLite and on PostgreSQL, in turn."""
    bench = Bench(database, tmp_path / "blobs")
    yield bench
    asyncio.run(bench.store.close())


@pytest.fixture
def lite_bench(sqlite_url: str, tmp_path: Path) -> Iterator[Bench]:
    """On SQLite only, where the database makes no difference."""
    database = Database.open(sqlite_url)
    bench = Bench(database, tmp_path / "blobs")
    yield bench
    asyncio.run(bench.store.close())
    database.close()


def kinds(bench: Bench) -> list[str]:
    return [event.kind for event in bench.database.read(lambda tx: events_after(tx, 0, limit=10_000))]


def test_results_become_one_transcript_in_order_past_nine_and_ninety_nine(bench: Bench) -> None:
    made = bench.recognised(chunks=120)
    report = bench.run(Assembler(bench.store, bench.blobs).run_once())
    assert (report["assembled"], report["postponed"]) == (1, 0)
    row = bench.row(made)
    assert row.state == "done"
    document = (bench.folder / str(row.transcript_key)).read_bytes()
    assert len(document) == row.transcript_size
    transcript = from_json(json.loads(document))
    assert [segment.text for segment in transcript.segments] == [f" word{n} word1" for n in range(120)]
    assert [word.text for word in transcript.segments[-1].words] == [" word119", " word1"]
    assert transcript.coverage.complete
    assert transcript.coverage.covered == 1200


def test_assembling_twice_at_once_changes_nothing_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench.recognised(chunks=5)
    assemblers = [Assembler(bench.store, bench.blobs) for _ in range(3)]

    async def all_at_once() -> None:
        await asyncio.gather(*(assembler.assemble(made) for assembler in assemblers))

    monkeypatch.setattr(assembler_module, "NOTED_AT_ONCE", 2)
    bench.run(all_at_once())
    assert found(bench, *(f"word{n}" for n in range(2, 5))) == [1, 1, 1]
    kept = {name for name in bench.files() if name.startswith("transcripts/")}
    assert kept == {bench.row(made).transcript_key}
    assert kinds(bench).count("transcription_done") == 1
    assert bench.run(assemblers[0].run_once())["assembled"] == 0


def holding(bench: Bench, before: int, then: Callable[[], Coroutine[Any, Any, None]]) -> Assembler:
    """An assembler that waits for something else before its write of that number."""
    store, writes = StoreThreads(bench.database), itertools.count(1)
    write = store.write

    async def held(work: Any) -> Any:
        if next(writes) == before:
            await then()
        return await write(work)

    store.write = held  # type: ignore[method-assign]
    return Assembler(store, bench.blobs)


async def corrected(bench: Bench, row: TranscriptionRow) -> bool:
    """Whether `word3` could be corrected."""
    change = NewEdit.model_validate({"based_on": 0, "replace": {"text": "word3", "by": "corrected"}})
    try:
        await Texts(bench.store, bench.blobs).edit(row, Caller("t", "ann", "user"), change)
    except WrongState:
        return False
    return True


def found(bench: Bench, *words: str) -> list[int]:
    return [len(bench.database.read(lambda tx, one=one: find_said(tx, one, "ann", 50))) for one in words]


def test_what_is_corrected_while_it_is_put_together_again_is_found_as_it_is(bench: Bench) -> None:
    made = bench.recognised(chunks=5)
    bench.run(Assembler(bench.store, bench.blobs).run_once())
    row = bench.row(made)
    bench.database.write(lambda tx: rebuild(tx, made))
    taken = list[bool]()

    async def correct() -> None:
        taken.append(await corrected(bench, row))

    bench.run(holding(bench, 1, correct).run_once())
    if not taken[0]:
        assert bench.run(corrected(bench, bench.row(made)))
    assert found(bench, "word3", "corrected", "word4") == [0, 1, 1]


def test_an_assembler_that_is_late_leaves_the_search_as_others_have_made_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembler_module, "NOTED_AT_ONCE", 2)
    made = bench.recognised(chunks=5)

    async def others() -> None:
        assert await Assembler(bench.store, bench.blobs).assemble(made)
        assert await corrected(bench, bench.row(made))

    assert not bench.run(holding(bench, 2, others).assemble(made))
    assert found(bench, "word3", "corrected", "word0", "word4") == [0, 1, 1, 1]
    assert {name for name in bench.files() if name.startswith("transcripts/")} == {bench.row(made).transcript_key}


def test_what_is_deleted_while_it_is_assembled_leaves_no_transcript(bench: Bench) -> None:
    made = bench.recognised(chunks=3)
    put = bench.blobs.put_stream

    async def put_and_lose(*told: Any) -> BlobFacts:
        facts = await put(*told)
        await bench.store.write(lambda tx: (cancel(tx, made), delete(tx, made)))
        return facts

    bench.blobs.put_stream = put_and_lose  # type: ignore[method-assign]
    assert bench.run(Assembler(bench.store, bench.blobs).run_once())["assembled"] == 0
    assert not [name for name in bench.files() if name.startswith("transcripts/")]


def test_an_assembler_that_dies_half_way_leaves_it_to_the_next(
    lite_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = lite_bench
    made = bench.recognised(chunks=30)
    real = Blobs.get
    asked: list[str] = []

    async def dying(blobs: Blobs, key: str, limit: int | None = None) -> bytes:
        asked.append(key)
        if len(asked) > 15:
            raise StoreUnavailable
        return await real(blobs, key, limit)

    with monkeypatch.context() as dying_store:
        dying_store.setattr(Blobs, "get", dying)
        assert bench.run(Assembler(bench.store, bench.blobs).run_once())["postponed"] == 1
    assert bench.row(made).state == "assembling"
    assert not [name for name in bench.files() if name.startswith("transcripts/")]
    assert bench.run(Assembler(bench.store, bench.blobs).run_once())["assembled"] == 1


@pytest.mark.parametrize("left", [None, b"", b"{", b'{"segments": 5}'], ids=["gone", "empty", "broken", "wrong"])
def test_a_damaged_result_holds_up_nothing_and_a_retry_recognises_it_again(
    lite_bench: Bench, left: bytes | None
) -> None:
    made, other = lite_bench.recognised(chunks=3), lite_bench.recognised(chunks=1)
    (damaged,) = [name for name in lite_bench.files() if name.startswith(f"results/{made}/1.")]
    if left is None:
        (lite_bench.folder / damaged).unlink()
    else:
        (lite_bench.folder / damaged).write_bytes(left)
    report = lite_bench.run(Assembler(lite_bench.store, lite_bench.blobs).run_once())
    assert (report["assembled"], report["postponed"]) == (2, 0)
    assert [lite_bench.row(name).state for name in (made, other)] == ["incomplete", "done"]
    document = json.loads((lite_bench.folder / str(lite_bench.row(made).transcript_key)).read_bytes())
    assert document["coverage"]["missing"][0]["reason"].startswith("blob_missing")
    assert lite_bench.database.write(lambda tx: retry(tx, made)).chunks_done == 2
    queued = select(jobs.c.position).where(jobs.c.transcription_id == made, jobs.c.state == "queued")
    assert lite_bench.database.read(lambda tx: list(tx.connection.scalars(queued))) == [1]


@pytest.mark.parametrize(
    ("skip", "damaged", "declared", "covered"),
    [
        (frozenset(), (), None, 60),
        (frozenset(), ((12, 31),), None, 41),
        (frozenset({1, 3}), ((12, 31), (35, 36.5), (44, 44.5)), 90, 30),
        (frozenset({0, 1, 2, 3, 4}), ((0, 60),), 90, 0),
    ],
)
def test_what_is_covered_and_what_is_missing_make_up_the_duration(
    lite_bench: Bench, skip: frozenset[int], damaged: tuple[Any, ...], declared: float | None, covered: float
) -> None:
    made = lite_bench.recognised(
        chunks=6, skip=skip, damaged_packets=4, damaged_seconds=damaged, declared_seconds=declared
    )
    lite_bench.run(Assembler(lite_bench.store, lite_bench.blobs).run_once())
    row = lite_bench.row(made)
    coverage = from_json(json.loads((lite_bench.folder / str(row.transcript_key)).read_bytes())).coverage
    assert coverage.covered == pytest.approx(covered)
    missing = length_of((stretch.start, stretch.end) for stretch in coverage.missing)
    assert coverage.covered + missing == pytest.approx(coverage.duration)
    assert coverage.duration == (declared or 60)
    assert row.state == ("incomplete" if missing else "done")


def test_one_transcript_that_must_wait_holds_up_no_other(lite_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = lite_bench.recognised(chunks=2)
    fine = lite_bench.recognised(chunks=2)
    real = Blobs.get

    async def failing(blobs: Blobs, key: str, limit: int | None = None) -> bytes:
        if stuck in key:
            raise StoreUnavailable
        return await real(blobs, key, limit)

    monkeypatch.setattr(Blobs, "get", failing)
    report = lite_bench.run(Assembler(lite_bench.store, lite_bench.blobs).run_once())
    assert (report["assembled"], report["postponed"]) == (1, 1)
    assert [lite_bench.row(made).state for made in (stuck, fine)] == ["assembling", "done"]


def test_assembling_long_recordings_takes_no_more_memory(lite_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "READ_BYTES", 1 << 16)  # what the store itself holds, whatever the length
    monkeypatch.setattr(incoming, "PIECE_BYTES", 1 << 14)
    monkeypatch.setattr(assembler_module, "MAX_TRANSCRIPT_BYTES", 1 << 28)
    bench = lite_bench

    def peak(made: str) -> int:
        tracemalloc.start()
        try:
            bench.run(Assembler(bench.store, bench.blobs).assemble(made))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = bench.recognised(chunks=40, words=80), bench.recognised(chunks=160, words=80)
    peak(bench.recognised(chunks=2))  # whatever is loaded and cached once
    small, large = peak(short), peak(long)
    more = (bench.row(long).transcript_size or 0) - (bench.row(short).transcript_size or 0)
    assert more > 800_000
    assert large - small < more / 2, (small, large, more)


def test_orphans_are_swept_and_nothing_else(bench: Bench) -> None:
    hour = 3600
    made = bench.recognised(chunks=3)
    bench.run(Assembler(bench.store, bench.blobs).run_once())
    wanted = bench.files()
    for name in wanted:
        os.utime(bench.folder / name, (time.time() - 100 * hour,) * 2)
    for number in range(3):  # their rows name them
        bench.put(f"chunks/{made}/a/{number}.flac", age_seconds=100 * hour)
    wanted = bench.files()
    bench.put("sources/nobody/1", age_seconds=25 * hour)
    bench.put(f"chunks/{made}/zombie/0.flac", age_seconds=25 * hour)
    bench.put("results/gone/0.a.b.json", age_seconds=25 * hour)
    bench.put(f"transcripts/{made}/second.json", age_seconds=25 * hour)
    young = bench.put(f"results/{made}/7.a.b.json", age_seconds=23 * hour)
    strange = bench.put("other/things/of/somebody", age_seconds=1000 * hour)
    sweeper = Sweeper(bench.store, bench.blobs, bench.settings)
    assert bench.run(sweeper.run_once())["blobs"] == 4
    assert bench.files() == wanted | {young, strange}
    assert bench.run(sweeper.run_once())["blobs"] == 0


def test_an_upload_is_kept_for_as_long_as_parts_come(bench: Bench) -> None:
    hour, now = 3600, time.time()
    upload = UploadRow("u", "ann", "long.wav", 4, "sources/u/whole")

    def at(hours_ago: float, work: Callable[[Transaction], Any]) -> None:
        bench.database.write(work, now=now - hours_ago * hour)

    def part(number: int) -> Callable[[Transaction], Any]:
        return lambda tx: add_part(tx, upload, PartRow(f"sources/u/{number}", "u", number, 1))

    at(72, lambda tx: announce(tx, upload))
    for number, hours_ago in enumerate((71, 48, 2)):
        at(hours_ago, part(number))
        bench.put(f"sources/u/{number}", age_seconds=hours_ago * hour)
    sweeper = Sweeper(bench.store, bench.blobs, bench.settings)
    assert (report := bench.run(sweeper.run_once()))["uploads"] == report["blobs"] == 0
    assert len(bench.files()) == 3
    bench.database.write(lambda tx: tx.connection.execute(update(uploads).values(last_used_at=now - 25 * hour)))
    assert (report := bench.run(sweeper.run_once()))["uploads"] == 1
    assert report["blobs"] == 2, "the third is young"


def test_what_is_on_its_way_is_not_swept_however_young_orphans_may_be(lite_bench: Bench) -> None:
    bench = lite_bench
    for too_few in (0, 0.9):
        with pytest.raises(ValidationError, match="orphan_hours"):
            ServerSettings(data=bench.folder, orphan_hours=too_few)
    upload = {"id": "u", "owner": "ann", "name": "a", "size": 1, "key": "sources/u/1", "state": "open"}
    upload["last_used_at"] = time.time() - 3500
    bench.database.write(lambda tx: tx.connection.execute(insert(uploads), upload))
    names = ("sources/u/2", "chunks/made/attempt/0.flac", "results/made/0.a.b.json", "transcripts/made/1.json")
    coming = {bench.put(name, age_seconds=3500) for name in names}
    bench.put("chunks/deleted/attempt/0.flac", age_seconds=3700)
    sweeper = Sweeper(bench.store, bench.blobs, ServerSettings(data=bench.folder, orphan_hours=1, trash_hours=0))
    report = bench.run(sweeper.run_once())
    assert (report["blobs"], report["uploads"]) == (1, 0)
    assert bench.files() == coming


def test_what_was_sent_beyond_the_size_that_was_announced_is_removed_when_its_address_has_run_out(bench: Bench) -> None:
    def announced(upload_id: str, size: int, age_seconds: float) -> str:
        key = f"sources/{upload_id}/1"
        bench.database.write(lambda tx: announce(tx, UploadRow(upload_id, "ann", "talk.mp3", size, key)))
        return bench.put(key, data=b"four", age_seconds=age_seconds)

    sent = [announced("whole", 4, 3700), announced("short", 5, 3700), announced("just-now", 3, 3500)]
    submitted = announced("submitted", 3, 3700)
    upload = bench.database.read(lambda tx: find_upload(tx, "submitted", "ann"))
    bench.database.write(lambda tx: stored(tx, upload, upload.key, None))
    announced("overfull", 3, 3700)
    assert bench.run(Sweeper(bench.store, bench.blobs, bench.settings).run_once())["blobs"] == 1
    assert bench.files() == {*sent, submitted}


def test_old_events_and_transcriptions_are_let_go(bench: Bench) -> None:
    made = bench.recognised(chunks=2)
    bench.run(Assembler(bench.store, bench.blobs).run_once())
    keep = Retention(bench.store, bench.blobs, bench.settings_with(retention_days=1))
    assert bench.run(keep.run_once())["transcriptions"] == 0
    assert bench.row(made).state == "done"
    let_go = Retention(bench.store, bench.blobs, bench.settings_with(retention_days=0, event_days=1e-9))
    unfinished = bench.database.write(lambda tx: submit(tx, NewTranscription("ann", "b", "file:/b", 1, TONES)))
    first, second = bench.run(let_go.run_once()), bench.run(let_go.run_once())
    assert (first["transcriptions"], second["transcriptions"]) == (1, 0)
    assert first["events"] > 5
    assert bench.row(unfinished).state == "queued"
    assert not [name for name in bench.files() if made in name or name.startswith("sources/")]


@pytest.mark.parametrize("why", ["tried again", "kept from now on"])
def test_what_is_not_old_any_more_when_its_turn_comes_stays(bench: Bench, why: str) -> None:
    made = bench.recognised(chunks=2)
    bench.run(Assembler(bench.store, bench.blobs).run_once())
    bench.database.write(lambda tx: tx.connection.execute(update(transcriptions).values(finished_at=1)))
    keep, read = Retention(bench.store, bench.blobs, bench.settings_with(retention_days=1)), bench.store.read

    async def read_and_wait(work: Any) -> Any:
        found = await read(work)
        if found == [made]:
            if why == "tried again":
                await bench.store.write(lambda tx: rebuild(tx, made))
                await Assembler(StoreThreads(bench.database), bench.blobs).run_once()
            else:
                await bench.store.write(lambda tx: change_limits(tx, bench.settings, {"retention_days": 3e4}, "root"))
        return found

    bench.store.read = read_and_wait  # type: ignore[method-assign]
    assert bench.run(keep.run_once())["transcriptions"] == 0
    assert bench.row(made).state == "done"


def test_workers_long_gone_are_forgotten_once_no_attempt_names_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "WORKERS_BATCH", 2)
    bench.recognised(chunks=1)
    bench.run(Assembler(bench.store, bench.blobs).run_once())
    write: Callable[..., Any] = lambda statement, *rows: bench.database.write(  # noqa: E731
        lambda tx: tx.connection.execute(statement, *rows)
    )
    one = bench.database.read(lambda tx: dict(tx.connection.execute(select(workers)).mappings().one()))
    gone = {"state": "gone", "last_seen_at": one["last_seen_at"] - 31 * DAY_SECONDS}
    lately, silent = gone | {"last_seen_at": one["last_seen_at"] - 29 * DAY_SECONDS}, gone | {"state": "live"}
    others = {"idle-1": gone, "idle-2": gone, "idle-3": gone, "lately": lately, "silent": silent}
    write(update(workers).values(gone))
    write(insert(workers), [one | facts | {"id": name} for name, facts in others.items()])

    def names() -> set[str]:
        return set(bench.database.read(lambda tx: tx.connection.scalars(select(workers.c.id)).all()))

    keep = Retention(bench.store, bench.blobs, bench.settings)
    reports = [bench.run(keep.run_once()) for _ in range(3)]
    assert [(report["workers"], report.more) for report in reports] == [(2, True), (1, False), (0, False)]
    assert names() == {one["id"], "lately", "silent"}
    let_go = Retention(bench.store, bench.blobs, bench.settings_with(retention_days=0))
    report = bench.run(let_go.run_once())
    assert (report["transcriptions"], report["workers"]) == (1, 1)
    assert names() == {"lately", "silent"}


class Scripted:
    """A service that does what the test says, run after run."""

    name: ClassVar[str] = "scripted"
    woken_by: ClassVar[frozenset[EventKind]] = frozenset({"worker_gone"})

    def __init__(
        self, script: Callable[[int], Coroutine[Any, Any, bool]], period_seconds: float, timeout_seconds: float
    ) -> None:
        self.period_seconds = period_seconds
        self.timeout_seconds = timeout_seconds
        self.runs = 0
        self._script = script

    async def run_once(self) -> Report:
        self.runs += 1
        return Report(more=await self._script(self.runs))


def test_a_run_that_fails_or_hangs_is_followed_by_the_next() -> None:
    stop = asyncio.Event()

    async def script(run: int) -> bool:
        if run == 1:
            raise ValueError("broken")
        if run == 2:
            await asyncio.sleep(100)
        if run == 4:
            stop.set()
        return run == 3

    async def scenario() -> int:
        service = Scripted(script, 0.01, 0.1)
        await asyncio.wait_for(run_service(service, stop, asyncio.Event()), 20)
        return service.runs

    assert asyncio.run(scenario()) == 4


def test_a_service_wakes_at_the_events_it_names_and_stops_in_the_middle() -> None:
    async def scenario() -> int:
        stop, ran = asyncio.Event(), asyncio.Event()

        async def script(run: int) -> bool:
            ran.set()
            if run == 2:
                await asyncio.sleep(100)
            return False

        service = Scripted(script, 1000, 1000)
        services = Services([service])
        running = asyncio.create_task(services.run(stop))
        await asyncio.wait_for(ran.wait(), 10)
        ran.clear()
        services.notice(["job_done", "worker_joined"])
        await asyncio.sleep(0)
        assert service.runs == 1
        services.notice(["job_done", "worker_gone"])
        await asyncio.wait_for(ran.wait(), 10)
        stop.set()
        await asyncio.wait_for(running, 60)
        return service.runs

    assert asyncio.run(scenario()) == 2
