"""`whisper-farm db`: a server's database is brought to the tables of this release, copied, and brought back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whisper_farm.cli.whisper_flags import Command

if TYPE_CHECKING:
    from whisper_farm.store.database import Database


@click.group()
def db() -> None:
    """Look after the server's database."""


def database_flags(command: Callable[..., object]) -> Callable[..., object]:
    """The flags that name the database."""
    data_help = "The server's data folder, where no database is named."
    command = click.option("--data", metavar="FOLDER", help=data_help)(command)
    database_help = "postgresql://… or sqlite:///PATH; else WHISPER_FARM_DATABASE."
    return click.option("--database", metavar="URL", help=database_help)(command)


@contextmanager
def opened_database(database: str | None, data: str | None, there: bool = False) -> Iterator[Database]:
    """The database that the flags or the environment name; it must be `there`, or is made."""
    from whisper_farm.cli.serve import server_settings, settings_of_farm
    from whisper_farm.store.database import Database

    settings = (settings_of_farm if there else server_settings)(database=database, data=data)
    opened = Database.open(settings.database or settings.data / "farm.db")
    try:
        yield opened
    finally:
        opened.close()


@db.command(cls=Command)
@database_flags
def upgrade(database: str | None, data: str | None) -> None:
    """Bring the database to the tables of this release. Stop the servers of older releases first.

    On SQLite a server does this by itself when it starts; on PostgreSQL it is left to you.
    """
    from whisper_farm.store import schema

    with opened_database(database, data) as opened:
        schema.upgrade(opened)
        release = "this release" if schema.check(opened) == "current" else "a newer release, which this one may use"
        print(f"{opened.place} has the tables of {release}.")


@db.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@database_flags
def backup(file: Path, database: str | None, data: str | None) -> None:
    """Copy the database to FILE, while servers run. The blob store is not in it: copy that after the database."""
    from whisper_farm.store.backup import back_up

    with opened_database(database, data, there=True) as opened:
        back_up(opened, file.absolute())
        print(
            f"{opened.place} is copied to {file}. It holds hashes of tokens and the names of recordings: keep it safe."
        )


@db.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@database_flags
def restore(file: Path, database: str | None, data: str | None) -> None:
    """Bring back a copy that `backup` made. Stop the farm's servers first. What is there now is copied before."""
    from whisper_farm.store.backup import restore as bring_back

    with opened_database(database, data) as opened:
        before = bring_back(opened, file.absolute())
        print(f"{opened.place} is what {file} was. What was there before is in {before}.")
