"""Copies of a SQLite database: made while servers run, and brought back.

A copy is consistent: SQLite's own backup reads one state of the whole file. Bringing one back is one transaction on the
database that is there, so it is there whole or not at all. PostgreSQL has its own programs for both.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from whisper_farm.errors import StorageError
from whisper_farm.store.database import Database
from whisper_farm.store.schema import check
from whisper_farm.store.tables import SAID

BUSY_SECONDS = 30.0
ALONE_SECONDS = 1.0


def back_up(database: Database, to: Path) -> None:
    """Write a copy of the database to a new file that only its owner can read."""
    source = _file(database)
    part = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
    try:
        if to.exists():
            raise StorageError(f"{to} is there already; give another name.")
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(source, part)
        part.rename(to)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"The database {source} cannot be copied to {to}: {error}.") from error
    finally:
        for left in (part, *part.parent.glob(f"{part.name}-*")):
            left.unlink(missing_ok=True)


def restore(database: Database, copy: Path) -> Path:
    """Bring a copy back, where nobody else uses the database; returns where what it replaces was copied to before.

    The database is closed.
    """
    if not copy.is_file():
        raise StorageError(f"{copy} is no file; `whisper-farm db backup` makes one.")
    _must_be_whole(copy)
    opened = Database.open(copy)
    try:
        check(opened)
    finally:
        opened.close()
    place = _file(database)
    before = place.with_name(f"{place.name}.before-restore-{secrets.token_hex(4)}")
    database.close()
    _must_be_alone(place)
    back_up(database, before)
    try:
        _copy(copy, place)
    except sqlite3.Error as error:
        raise StorageError(f"{copy} cannot be brought back to {place}: {error}.") from error
    return before


def _must_be_whole(copy: Path) -> None:
    """Raise `StorageError` for a file that is damaged, or that would do by itself what a farm's does not."""
    try:
        with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as read:
            (wrong,) = read.execute("PRAGMA integrity_check(1)").fetchone()
            acts = {sql for (sql,) in read.execute("SELECT sql FROM sqlite_schema WHERE type IN ('trigger', 'view')")}
    except (sqlite3.Error, UnicodeError) as error:
        raise StorageError(f"{copy} is no whole copy of a database: {error}.") from error
    if wrong != "ok" or not acts <= SAID.keys():
        raise StorageError(f"{copy} is no whole copy of a farm's database: it is damaged, or was changed.")


def _must_be_alone(place: Path) -> None:
    """Raise `StorageError` while a server, or another command, has the database open."""
    with contextlib.closing(sqlite3.connect(place, timeout=ALONE_SECONDS, isolation_level=None)) as mine:
        try:
            mine.execute("PRAGMA locking_mode = EXCLUSIVE")
            mine.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise StorageError(
                f"{place} cannot be replaced while it is used: stop the farm's servers first."
            ) from error


def _copy(source: Path, target: Path) -> None:
    with contextlib.ExitStack() as stack:
        read = stack.enter_context(contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)))
        write = stack.enter_context(contextlib.closing(sqlite3.connect(target, timeout=BUSY_SECONDS)))
        read.backup(write, pages=-1)


def _file(database: Database) -> Path:
    if database.dialect != "sqlite":
        raise StorageError(
            f"{database.place} is a PostgreSQL database: copy it with `pg_dump --format=custom`, and bring it back with"
            " `pg_restore`."
        )
    return Path(database.place)
