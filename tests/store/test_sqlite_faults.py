"""SQLite files that are locked, full, no database or in strange places: a plain error in bounded time."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from whisper_farm.errors import NoSpace, StoreUnavailable
from whisper_farm.store import sqlite
from whisper_farm.store.database import Database, Transaction


def make_pile(tx: Transaction) -> None:
    tx.connection.execute(text("CREATE TABLE pile (n INTEGER, stuff TEXT)"))


def add(tx: Transaction) -> None:
    tx.connection.execute(text("INSERT INTO pile VALUES (1, hex(randomblob(2000)))"))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a database will be that loses patience soon."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.3)
    return tmp_path / "farm.db"


@pytest.fixture
def pile(file: Path) -> Iterator[Database]:
    """That database, with one table."""
    opened = Database.open(file)
    opened.write(make_pile)
    yield opened
    opened.close()


def test_a_file_another_process_writes_to_for_too_long_is_busy(pile: Database, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        pile.write(add)
    other.execute("COMMIT")
    other.close()
    pile.write(add)


def test_waiting_for_a_writer_of_the_same_process_is_bounded(pile: Database) -> None:
    def meanwhile(tx: Transaction) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(StoreUnavailable, match="too busy"):
            pool.submit(pile.write, add).result(60)

    pile.write(meanwhile)
    pile.write(add)


def test_a_thread_that_writes_all_the_time_keeps_no_other_from_writing(tmp_path: Path) -> None:
    shared = Database.open(tmp_path / "farm.db")
    shared.write(make_pile)
    enough, begun = threading.Event(), threading.Event()

    def greedy() -> None:
        while not enough.is_set():
            shared.write(add)
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(greedy)
        try:
            assert begun.wait(10)
            for _ in range(20):
                shared.write(add)
        finally:
            enough.set()
            writing.result(60)
    shared.close()


def test_a_full_disk_is_named(pile: Database) -> None:
    def fill(tx: Transaction) -> None:
        tx.connection.exec_driver_sql("PRAGMA max_page_count = 10")
        for _ in range(100):
            add(tx)

    with pytest.raises(NoSpace, match=r"farm\.db"):
        pile.write(fill)
    assert pile.read(lambda tx: tx.connection.scalar(text("SELECT count(*) FROM pile"))) == 0


def test_a_file_that_is_no_database_is_named(file: Path) -> None:
    file.write_text("dear diary, " * 1000)
    database = Database.open(file)
    with pytest.raises(StoreUnavailable, match=r"farm\.db.*not a database"):
        database.write(make_pile)
    database.close()


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        Database.open(tmp_path)


@pytest.mark.parametrize("name", ["über uns/Ärger?mode=memory&x=1%20.db", "it's/ümlaut #1.db"])
@pytest.mark.skipif(os.name == "nt", reason="such names do not exist there")
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    database = Database.open(file)
    database.write(make_pile)
    database.close()
    assert file.stat().st_size > 0
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]


@pytest.mark.skipif(os.name == "nt", reason="there are no such modes there")
def test_the_file_is_for_its_owner_only(pile: Database, file: Path) -> None:
    pile.write(add)
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}


def test_the_settings_hold_on_every_connection(pile: Database) -> None:
    def settings(tx: Transaction) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert pile.write(settings) == ["wal", 1, 1, 300]
    assert pile.read(settings) == ["wal", 1, 1, 300]
