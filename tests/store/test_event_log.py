"""The event log loses nothing, orders everything, and says when a reader was away for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from whisper_farm.protocol.events import JobReleased, JobSetAside, TranscriptionDone
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.events import Event, emit, events_after, missed, newest_event, retire_events

PATIENCE_SECONDS = 60.0
LOST = JobSetAside(code="lease_lost", message="größer 🎙", job_kind="transcribe", position=3, start=0.1, end=0.7)


@pytest.fixture
def second(database_url: str) -> Iterator[Database]:
    """Another opening of the same database, as another process has."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


def numbers(found: list[Event]) -> list[int]:
    return [event.data["position"] for event in found]


def emit_numbers(*wanted: int) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        for n in wanted:
            emit(tx, JobReleased(position=n))

    return work


def test_an_event_is_what_was_emitted(database: Database) -> None:
    def work(tx: Transaction) -> None:
        emit(tx, LOST, "t1", "ann")
        emit(tx, TranscriptionDone())

    database.write(work, now=100.25)
    first, second = database.read(lambda tx: events_after(tx, 0))
    assert (first.kind, first.transcription_id, first.owner, first.at) == ("job_set_aside", "t1", "ann", 100.25)
    assert first.data == LOST.model_dump(exclude={"kind"})
    assert (second.kind, second.transcription_id, second.owner, second.data) == ("transcription_done", None, None, {})
    assert second.id == first.id + 1


def test_events_go_with_their_transaction(database: Database) -> None:
    def fail(tx: Transaction) -> None:
        emit(tx, JobReleased(position=1))
        raise KeyError

    with pytest.raises(KeyError):
        database.write(fail)
    database.write(emit_numbers(2))
    assert numbers(database.read(lambda tx: events_after(tx, 0))) == [2]


def test_only_write_can_emit(database: Database) -> None:
    for call in (database.beat, database.read):
        with pytest.raises(RuntimeError, match=r"Database\.write"):
            call(lambda tx: emit(tx, TranscriptionDone()))


def test_a_reader_resumes_by_the_last_id(database: Database) -> None:
    for n in range(10):
        database.write(emit_numbers(n))
    seen: list[int] = []
    last = 0
    while page := database.read(partial(events_after, last_id=last, limit=3)):
        assert len(page) <= 3
        seen += numbers(page)
        last = page[-1].id
    assert seen == list(range(10))


def test_events_are_told_apart_by_transcription_and_owner(database: Database) -> None:
    def work(tx: Transaction) -> None:
        for n, (transcription, owner) in enumerate([("a", "ann"), ("b", "bob"), ("c", "ann"), ("a", "ann")]):
            emit(tx, JobReleased(position=n), transcription, owner)

    database.write(work)
    assert numbers(database.read(lambda tx: events_after(tx, 0, transcription_id="a"))) == [0, 3]
    assert numbers(database.read(lambda tx: events_after(tx, 0, owner="ann"))) == [0, 2, 3]
    assert numbers(database.read(lambda tx: events_after(tx, 0, transcription_id="b", owner="ann"))) == []


def test_a_follower_misses_no_event_of_many_writers_at_once(database: Database, second: Database) -> None:
    """Ids that became visible out of order would let a follower step over one."""
    bell = threading.Semaphore(0)
    second.listen(bell.release)
    seen: list[int] = []

    def follow() -> None:
        last = 0
        while len(seen) < 120:
            for event in second.read(partial(events_after, last_id=last)):
                seen.append(event.data["position"])
                last = event.id
            if len(seen) < 120:
                assert bell.acquire(timeout=PATIENCE_SECONDS)

    def write(n: int) -> None:
        (database, second)[n % 2].write(emit_numbers(2 * n, 2 * n + 1))

    with ThreadPoolExecutor(9) as pool:
        follower = pool.submit(follow)
        list(pool.map(write, range(60)))
        follower.result(PATIENCE_SECONDS)
    assert sorted(seen) == list(range(120))


def test_old_events_are_retired_but_never_the_newest(database: Database) -> None:
    for n in range(5):
        database.write(emit_numbers(n), now=100.0 + n)
    assert database.write(lambda tx: retire_events(tx, before=102.0)) == 2
    assert numbers(database.read(lambda tx: events_after(tx, 0))) == [2, 3, 4]
    assert database.write(lambda tx: retire_events(tx, before=1000.0, limit=1)) == 1
    assert database.write(lambda tx: retire_events(tx, before=1000.0)) == 1
    assert database.write(lambda tx: retire_events(tx, before=1000.0)) == 0
    assert numbers(database.read(lambda tx: events_after(tx, 0))) == [4]


def test_a_reader_away_for_too_long_is_told(database: Database) -> None:
    assert database.read(newest_event) == 0
    assert not database.read(lambda tx: missed(tx, 0))
    assert database.read(lambda tx: missed(tx, 7))
    for n in range(5):
        database.write(emit_numbers(n), now=100.0 + n)
    newest = database.read(newest_event)
    assert not database.read(lambda tx: missed(tx, 0))
    database.write(lambda tx: retire_events(tx, before=1000.0))
    assert [event.id for event in database.read(lambda tx: events_after(tx, 0))] == [newest]
    assert database.read(lambda tx: missed(tx, newest - 2))
    assert not database.read(lambda tx: missed(tx, newest - 1))
    assert not database.read(lambda tx: missed(tx, newest))
    assert database.read(lambda tx: missed(tx, newest + 1))


def test_ids_are_never_used_twice(database: Database) -> None:
    database.write(emit_numbers(1, 2, 3))
    newest = database.read(newest_event)
    database.write(lambda tx: tx.connection.exec_driver_sql("DELETE FROM events"))
    database.write(emit_numbers(4))
    assert database.read(newest_event) == newest + 1
