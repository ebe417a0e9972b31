"""Brings a database to the tables this release works with, and says whether this release may run on it.

Promises: an upgrade is one transaction, so a database is never left between two versions. Any number of processes may
start one at the same time. An upgrade never goes back, and never changes a database of a newer release. A new database
gets the tables of today at once. Alembic takes older ones there step by step, and is imported only for that.

Every database says which version its tables have, and which is the oldest version whose programs may run on them. So
a program knows what to do with a database that is newer than itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, inspect

from whisper_farm.errors import SchemaMismatch
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.statements import Change, Query

VERSION = 1
"""The version of the tables in `tables.py`: how many migrations there are."""
COMPATIBLE_FROM = 1
"""The oldest version whose programs may run on these tables.

It stays when a migration only adds tables, indexes, and columns that have a default or may be null. It becomes
`VERSION` with any other migration.
"""

LAST_STEP = "first_release_906bdd1f"
"""The newest migration, which a new database is told to have seen.

Until the first release the tables change without a migration. So the name holds a digest of them: tables of another
day are known by it.
"""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """What a database says about its tables."""

    version: int
    compatible_from: int
    last_step: str


STORED = Query[SchemaVersion]("""
    SELECT version, compatible_from, (SELECT version_num FROM alembic_version) AS last_step FROM schema_version
""")
FORGET = Change("DELETE FROM schema_version")
NOTE = Change("INSERT INTO schema_version (id, version, compatible_from) VALUES (1, :version, :compatible_from)")


def upgrade(database: Database) -> bool:
    """Make the tables, or bring older ones up to date; returns whether anything had to be done."""
    stored = database.read(lambda tx: _stored(tx, database.place))
    if stored is not None and _state(database.place, stored) != "older":
        return False
    return database.write(lambda tx: _migrate(tx, database.place))


WRITE = Change("UPDATE identity SET farm_id = farm_id")


def can_write(tx: Transaction) -> None:
    """Write something that changes nothing; raises what is wrong where that cannot be done."""
    tx.change(WRITE)


def check(database: Database) -> Literal["current", "newer"]:
    """Say whether the tables are those of this release, or newer ones on which it may run.

    Raises `SchemaMismatch`, with what to do, when this release may not run on them.
    """
    stored = database.read(lambda tx: _stored(tx, database.place))
    if stored is None:
        raise SchemaMismatch(f"The database {database.place} has no tables yet; run `whisper-farm db upgrade`.")
    state = _state(database.place, stored)
    if state == "older":
        raise SchemaMismatch(f"The database {database.place} is of an older release; run `whisper-farm db upgrade`.")
    return state


def _state(place: str, stored: SchemaVersion) -> Literal["older", "current", "newer"]:
    """How these tables stand to this release; raises `SchemaMismatch` if it is too old for them."""
    if stored.version < VERSION:
        return "older"
    if stored.version == VERSION and stored.last_step != LAST_STEP:
        raise _before_the_first_release(place)
    if stored.version == VERSION:
        return "current"
    if stored.compatible_from <= VERSION:
        return "newer"
    raise SchemaMismatch(
        f"The database {place} is of a newer release: its tables have version {stored.version} and need a program"
        f" that knows version {stored.compatible_from}; this one knows version {VERSION}. Install a newer release here."
    )


def _stored(tx: Transaction, place: str) -> SchemaVersion | None:
    tables = inspect(tx.connection)
    if tables.has_table("schema_version"):
        return tx.first(STORED)
    if tables.has_table("alembic_version"):
        raise _before_the_first_release(place)
    return None


def _before_the_first_release(place: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"The database {place} was made before the first release, with other tables, and cannot be upgraded. Move it"
        " away: the next start makes a new one, or says how."
    )


def _migrate(tx: Transaction, place: str) -> bool:
    stored = _stored(tx, place)
    if stored is None:
        _make(tx)
    elif _state(place, stored) != "older":  # another process was faster
        return False
    else:
        take_steps(tx)
    tx.change(FORGET)
    tx.change(NOTE, {"version": VERSION, "compatible_from": COMPATIBLE_FROM})
    return True


def _make(tx: Transaction) -> None:
    from whisper_farm.store.tables import metadata

    metadata.create_all(tx.connection, checkfirst=False)
    steps = Table(
        "alembic_version",
        MetaData(),
        Column("version_num", String(32)),
        PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
    )
    steps.create(tx.connection)
    tx.connection.execute(steps.insert().values(version_num=LAST_STEP))


def take_steps(tx: Transaction) -> None:
    """Take every step that this database has not seen."""
    from alembic import command

    from whisper_farm.store.migrations import alembic_config

    command.upgrade(alembic_config(tx.connection), "head")
