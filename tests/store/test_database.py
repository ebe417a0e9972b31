"""One writer at a time, snapshots, wake-ups and honest errors, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from whisper_farm.errors import StoreUnavailable
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.statements import Change

PATIENCE_SECONDS = 60.0


@pytest.fixture
def counter(database: Database) -> Database:
    """A database with one counter at 0."""
    database.write(lambda tx: make_counter(tx))
    return database


@pytest.fixture
def second(database_url: str) -> Iterator[Database]:
    """Another opening of the same database, as another process has."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


def make_counter(tx: Transaction) -> None:
    tx.connection.execute(text("CREATE TABLE counter (n INTEGER NOT NULL)"))
    tx.connection.execute(text("INSERT INTO counter VALUES (0)"))


def value(tx: Transaction) -> int:
    return int(tx.connection.execute(text("SELECT n FROM counter")).scalar_one())


def put(tx: Transaction, n: int) -> None:
    tx.connection.execute(text("UPDATE counter SET n = :n"), {"n": n})


def add_one(tx: Transaction) -> int:
    """Read, then write what was read plus one: loses counts unless writers take turns."""
    n = value(tx) + 1
    put(tx, n)
    return n


def test_what_a_write_returns_is_returned_and_stays(counter: Database) -> None:
    assert counter.write(add_one) == 1
    assert counter.read(value) == 1
    assert counter.beat(add_one) == 2
    assert counter.read(value) == 2


def test_what_a_failed_write_did_is_undone(counter: Database) -> None:
    def fail(tx: Transaction) -> None:
        add_one(tx)
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        counter.write(fail)
    assert counter.read(value) == 0
    assert counter.write(add_one) == 1


def test_no_count_is_lost_when_many_threads_write_at_once(counter: Database, second: Database) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda k: (counter, second)[k % 2].write(add_one), range(200)))
    assert sorted(answers) == list(range(1, 201))


COUNT_UP = """
import sys
from sqlalchemy import text
from whisper_farm.store.database import Database
database = Database.open(sys.argv[1])
def add_one(tx):
    n = tx.connection.execute(text("SELECT n FROM counter")).scalar_one() + 1
    tx.connection.execute(text("UPDATE counter SET n = :n"), {"n": n})
for _ in range(100):
    database.write(add_one)
database.close()
"""


def test_no_count_is_lost_when_two_processes_write_at_once(counter: Database, database_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", COUNT_UP, database_url]) as child:
        until(lambda: counter.read(value) > 0)
        for _ in range(100):
            counter.write(add_one)
        assert child.wait(PATIENCE_SECONDS) == 0
    assert counter.read(value) == 200


def test_a_read_sees_one_moment_only(counter: Database) -> None:
    def read_around_a_write(tx: Transaction) -> tuple[int, int]:
        before = value(tx)
        counter.write(add_one)
        return before, value(tx)

    assert counter.read(read_around_a_write) == (0, 0)
    assert counter.read(value) == 1


def test_a_read_can_change_nothing(counter: Database) -> None:
    with pytest.raises(Exception, match=r"read-?only"):
        counter.read(add_one)
    assert counter.read(value) == 0


def test_readers_are_not_held_up_by_a_writer(counter: Database, second: Database) -> None:
    def write_while_others_read(tx: Transaction) -> tuple[int, int]:
        add_one(tx)
        with ThreadPoolExecutor(2) as pool:
            reads = [pool.submit(each.read, value) for each in (counter, second)]
            return reads[0].result(PATIENCE_SECONDS), reads[1].result(PATIENCE_SECONDS)

    assert counter.write(write_while_others_read) == (0, 0)


def test_time_is_the_databases_and_never_runs_backwards(counter: Database, second: Database) -> None:
    def stamp(tx: Transaction) -> tuple[int, float]:
        return add_one(tx), tx.now

    with ThreadPoolExecutor(8) as pool:
        stamps = list(pool.map(lambda k: (counter, second)[k % 2].write(stamp), range(100)))
    times = [now for _, now in sorted(stamps)]
    assert times == sorted(times)
    assert abs(times[-1] - time.time()) < PATIENCE_SECONDS
    assert abs(counter.read(lambda tx: tx.now) - time.time()) < PATIENCE_SECONDS


def test_a_given_time_replaces_the_clock(counter: Database) -> None:
    for call in (counter.write, counter.beat, counter.read):
        assert call(lambda tx: tx.now, now=1234.5) == 1234.5


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def heard(database: Database) -> tuple[threading.Semaphore, Callable[[], None]]:
    """A semaphore released at every wake-up, and how to stop listening."""
    bell = threading.Semaphore(0)
    return bell, database.listen(bell.release)


def settle(bell: threading.Semaphore, database: Database) -> None:
    """Wait until a listener of another process hears, and forget what it heard.

    Silence is several in a row: a machine that pauses takes one of them away, and with it the time to hear.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not bell.acquire(timeout=0.3):
        database.write(Transaction.wake)
        assert time.monotonic() < deadline
    while any(bell.acquire(timeout=0.05) for _ in range(6)):
        pass


def test_listeners_in_the_process_hear_of_a_commit_at_once(counter: Database) -> None:
    bell, _ = heard(counter)
    counter.write(Transaction.wake)
    assert bell.acquire(blocking=False)


def test_listeners_elsewhere_hear_of_a_commit_within_200_ms(counter: Database, second: Database) -> None:
    bell, _ = heard(second)
    settle(bell, counter)
    delays = []
    for _ in range(5):
        counter.write(Transaction.wake)
        started = time.monotonic()
        assert bell.acquire(timeout=PATIENCE_SECONDS)
        delays.append(time.monotonic() - started)
    assert min(delays) < 0.2


def test_a_commit_that_wakes_nobody_wakes_nobody(counter: Database, second: Database) -> None:
    near, _ = heard(counter)
    far, _ = heard(second)
    settle(far, counter)
    settle(near, second)
    settle(far, counter)
    while near.acquire(blocking=False):
        pass
    counter.write(add_one)
    counter.beat(add_one)
    counter.write(Transaction.wake)
    assert far.acquire(timeout=PATIENCE_SECONDS)
    assert not far.acquire(timeout=0.2)
    assert near.acquire(blocking=False)
    assert not near.acquire(blocking=False)


def test_a_write_that_fails_wakes_nobody(counter: Database, second: Database) -> None:
    bell, _ = heard(counter)
    settle(bell, second)

    def fail(tx: Transaction) -> None:
        tx.wake()
        raise KeyError

    with pytest.raises(KeyError):
        counter.write(fail)
    assert not bell.acquire(timeout=0.15)


def test_who_unsubscribed_hears_no_more_and_a_broken_listener_harms_nobody(counter: Database, second: Database) -> None:
    def broken() -> None:
        raise ValueError("a listener's own trouble")

    gone, unsubscribe = heard(counter)
    settle(gone, second)  # the watch calls without cause when it begins
    counter.listen(broken)
    bell, _ = heard(counter)
    unsubscribe()
    counter.write(Transaction.wake)
    assert bell.acquire(blocking=False)
    assert not gone.acquire(blocking=False)


def test_only_write_may_wake(counter: Database) -> None:
    for call in (counter.beat, counter.read):
        with pytest.raises(RuntimeError, match=r"Database\.write"):
            call(Transaction.wake)


def test_steps_before_the_commit_belong_to_the_transaction(counter: Database) -> None:
    def work(tx: Transaction) -> None:
        tx.before_commit(lambda: put(tx, 7))
        tx.before_commit(lambda: put(tx, value(tx) + 1))

    counter.write(work)
    assert counter.read(value) == 8


def test_changes_are_made_in_order_and_before_whatever_is_read(counter: Database) -> None:
    double, one_more = Change("UPDATE counter SET n = n * 2"), Change("UPDATE counter SET n = n + :by")

    def work(tx: Transaction) -> tuple[int, int]:
        tx.change(one_more, {"by": 3})
        tx.change(double)
        before = value(tx)
        tx.before_commit(lambda: tx.change(double))
        tx.change(one_more, [{"by": 1}, {"by": 2}])
        return before, value(tx)

    assert counter.write(work) == (6, 9)
    assert counter.read(value) == 18
    assert counter.beat(lambda tx: tx.change(double)) is None
    assert counter.read(value) == 36


def test_a_change_made_at_once_tells_how_many_rows_it_changed(counter: Database) -> None:
    one_more = Change("UPDATE counter SET n = n + 1 WHERE n < :limit")

    def work(tx: Transaction) -> list[int]:
        tx.change(Change("INSERT INTO counter VALUES (5)"))
        return [tx.changed(one_more, {"limit": limit}) for limit in (9, 3, 0)]

    assert counter.write(work) == [2, 1, 0]


@pytest.mark.parametrize("after", [0, 2], ids=["the last", "others after it"])
def test_a_change_that_fails_at_the_commit_undoes_all_and_harms_nobody_else(counter: Database, after: int) -> None:
    def work(tx: Transaction) -> None:
        for statement in ("UPDATE counter SET n = 5", "UPDATE counter SET n = NULL"):
            tx.change(Change(statement))
        for n in range(after):
            tx.change(Change(f"UPDATE counter SET n = {n}"))

    with pytest.raises(Exception, match=r"(?i)not.null") as caught:
        counter.write(work)
    assert not isinstance(caught.value, StoreUnavailable)
    assert counter.read(value) == 0
    assert counter.write(add_one) == 1


def test_a_mistake_in_a_statement_stays_what_it_is(counter: Database) -> None:
    with pytest.raises(Exception, match="nowhere") as caught:
        counter.read(lambda tx: tx.connection.execute(text("SELECT * FROM nowhere")))
    assert not isinstance(caught.value, StoreUnavailable)


def test_a_closed_database_says_so_and_its_threads_are_gone(counter: Database) -> None:
    heard(counter)
    counter.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        counter.read(value)
    assert not [thread.name for thread in threading.enumerate() if thread.name.endswith("-watch")]
    counter.close()


@pytest.mark.parametrize("place", ["mysql://host/name", "sqlite://", "not a database", "sqlite:///:memory:"])
def test_a_place_that_is_no_database_is_refused(place: str) -> None:
    with pytest.raises(StoreUnavailable, match="sqlite:///PATH"):
        Database.open(place)
