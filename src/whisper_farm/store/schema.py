"""Brings a database to the tables this release works with, and refuses to run on any others.

Promises: an upgrade is one transaction, so a database is never left between two versions, and any number of
processes may start one at the same time. It never goes back, and never changes a database of a newer release.
Alembic, which does the work, is only imported when there is some.
"""

from __future__ import annotations

from sqlalchemy import inspect

from whisper_farm.errors import SchemaMismatch
from whisper_farm.store.database import Database, Transaction

HEAD = "first_tables"
"""The newest migration: the file of that name in `migrations/versions/`."""


def upgrade(database: Database) -> bool:
    """Make the tables, or bring older ones up to date; returns whether anything had to be done."""
    if database.read(_version) == HEAD:
        return False
    database.write(_migrate)
    return True


def check(database: Database) -> None:
    """Raise `SchemaMismatch`, saying what to do, unless the tables are those of this release."""
    version = database.read(_version)
    if version == HEAD:
        return
    if version is None:
        raise SchemaMismatch(f"The database {database.place} has no tables yet; run `whisper-farm db upgrade`.")
    if _is_known(version):
        raise SchemaMismatch(f"The database {database.place} is of an older release; run `whisper-farm db upgrade`.")
    raise _newer(database.place, version)


def _version(tx: Transaction) -> str | None:
    if not inspect(tx.connection).has_table("alembic_version"):
        return None
    version: str | None = tx.connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return version


def _migrate(tx: Transaction) -> None:
    from alembic import command

    from whisper_farm.store.migrations import alembic_config

    version = _version(tx)
    if version is not None and not _is_known(version):
        raise _newer(tx.connection.engine.url.render_as_string(), version)
    command.upgrade(alembic_config(tx.connection), "head")


def _is_known(version: str) -> bool:
    from alembic.script import ScriptDirectory

    from whisper_farm.store.migrations import alembic_config

    return any(script.revision == version for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def _newer(place: str, version: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"The database {place} is of a newer release (its tables are `{version}`, this program knows up to `{HEAD}`);"
        " install that release here."
    )
