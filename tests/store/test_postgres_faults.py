"""PostgreSQL restarted, silent, slow, contended or out of reach: a plain error in bounded time, then on as before."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import text
from support.postgres import PostgresServer

from whisper_farm.errors import StoreUnavailable
from whisper_farm.protocol.events import TranscriptionDone
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.events import emit, events_after
from whisper_farm.store.postgres import BoundedConnection
from whisper_farm.store.statements import Change

PATIENCE_SECONDS = 60.0


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    """A fresh PostgreSQL database with the farm's tables."""
    opened = Database.open(postgres_url)
    yield opened
    opened.close()


def note(tx: Transaction) -> None:
    emit(tx, TranscriptionDone())


def notes(tx: Transaction) -> int:
    return len(events_after(tx, 0))


def backend(tx: Transaction) -> int:
    return int(tx.connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_that_was_killed_is_an_error_and_then_ridden_out(
    postgres: Database, postgres_server: PostgresServer
) -> None:
    bell = threading.Semaphore(0)
    postgres.listen(bell.release)
    postgres.write(note)
    postgres_server.kill()
    try:
        for call in (postgres.write, postgres.beat, postgres.read):
            with pytest.raises(StoreUnavailable, match="cannot serve"):
                call(notes)
    finally:
        postgres_server.start()
    postgres.write(note)
    assert postgres.read(notes) == 2

    other = Database.open(postgres_server.url(postgres.place.rsplit("/", 1)[1]))
    try:
        while bell.acquire(timeout=0.3):
            pass
        until(lambda: other.write(note) is None and bell.acquire(timeout=0.2))
    finally:
        other.close()


def test_connections_that_broke_while_idle_are_replaced_unseen(
    postgres: Database, postgres_server: PostgresServer
) -> None:
    def hold(tx: Transaction) -> None:
        together.wait(PATIENCE_SECONDS)

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: postgres.read(hold), range(4)))
    postgres.write(note)
    postgres_server.stop()
    postgres_server.start()
    assert postgres.read(notes) == 1
    postgres.write(note)
    postgres.beat(notes)
    assert postgres.read(notes) == 2


def test_a_connection_lost_in_the_middle_undoes_the_work(postgres: Database, postgres_url: str) -> None:
    def lose_the_connection(tx: Transaction) -> None:
        note(tx)
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [backend(tx)])
        backend(tx)

    with pytest.raises(StoreUnavailable, match="cannot serve"):
        postgres.write(lose_the_connection)
    assert postgres.read(notes) == 0
    postgres.write(note)


def test_a_connection_lost_with_changes_on_their_way_undoes_the_work(postgres: Database, postgres_url: str) -> None:
    def lose_the_connection_before_the_commit(tx: Transaction) -> None:
        note(tx)
        tx.change(Change("SELECT 1"))
        mine = backend(tx)
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [mine])
            until(lambda: not other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [mine]).fetchall())

    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="cannot serve"):
            postgres.write(lose_the_connection_before_the_commit)
    assert postgres.read(notes) == 0
    postgres.write(note)
    assert postgres.read(notes) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be paused there")
def test_a_server_that_falls_silent_is_given_up(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []

    def silence(tx: Transaction) -> None:
        stopped.append(backend(tx))
        os.kill(stopped[0], signal.SIGSTOP)
        with monkeypatch.context() as impatient:  # with this one server, and no other that is slow
            impatient.setattr(BoundedConnection, "silence_seconds", 0.5)
            backend(tx)

    started = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="did not answer"):
            postgres.read(silence)
        assert time.monotonic() - started < PATIENCE_SECONDS
        assert postgres.read(backend) != stopped[0]
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_waiting_for_the_turn_to_write_is_bounded(postgres: Database, postgres_url: str) -> None:
    impatient = Database.open(f"{postgres_url}?options=-c%20lock_timeout%3D200ms")
    try:

        def meanwhile(tx: Transaction) -> None:
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                impatient.write(note)

        postgres.write(meanwhile)
        impatient.write(note)
    finally:
        impatient.close()


def test_a_statement_is_bounded(postgres_url: str) -> None:
    impatient = Database.open(f"{postgres_url}?options=-c%20statement_timeout%3D200ms")
    try:
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            impatient.read(lambda tx: tx.connection.execute(text("SELECT pg_sleep(30)")))
    finally:
        impatient.close()


def test_heartbeats_do_not_wait_for_writers(postgres: Database) -> None:
    def beat_meanwhile(tx: Transaction) -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(postgres.beat, notes).result(PATIENCE_SECONDS)

    assert postgres.write(beat_meanwhile) == 0


def test_many_waiting_writers_leave_connections_for_reads_and_heartbeats(postgres: Database) -> None:
    with ThreadPoolExecutor(31) as pool:

        def work(tx: Transaction) -> list[int]:
            waiting = [pool.submit(postgres.write, note) for _ in range(30)]
            answers = [postgres.read(notes), postgres.beat(notes)]
            assert not any(future.done() for future in waiting)
            return answers

        assert pool.submit(postgres.write, work).result(PATIENCE_SECONDS) == [0, 0]
    assert postgres.read(notes) == 30


def test_work_that_passes_over_a_failed_statement_is_not_called_done(postgres: Database) -> None:
    def careless(tx: Transaction) -> None:
        with pytest.raises(Exception, match="nowhere"):
            tx.connection.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(RuntimeError, match="went on as if it had not"):
        postgres.write(careless)


def test_an_error_names_the_server_but_not_the_password() -> None:
    database = Database.open("postgresql://farm:hush-hush@127.0.0.1:1/farm")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1") as caught:
        database.read(notes)
    assert "hush" not in str(caught.value)
    assert "hush" not in database.place
    database.close()
