"""`whisper-farm db upgrade`: bring a server's database to the tables of this release."""

from __future__ import annotations

import click

from whisper_farm.cli.whisper_flags import Command


@click.group(short_help="Look after the server's database.")
def db() -> None:
    """Look after the server's database."""


@db.command(cls=Command)
@click.option("--database", metavar="URL", help="postgresql://… or sqlite:///PATH; else WHISPER_FARM_DATABASE.")
@click.option("--data", metavar="FOLDER", help="The server's data folder, where no database is named.")
def upgrade(database: str | None, data: str | None) -> None:
    """Bring the database to the tables of this release. Stop the servers of older releases first.

    On SQLite a server does this by itself when it starts; on PostgreSQL it is left to you.
    """
    from whisper_farm.cli.serve import server_settings
    from whisper_farm.store import schema
    from whisper_farm.store.database import Database

    settings = server_settings(database=database, data=data)
    opened = Database.open(settings.database or settings.data / "farm.db")
    try:
        schema.upgrade(opened)
        release = "this release" if schema.check(opened) == "current" else "a newer release, which this one may use"
        print(f"{opened.place} has the tables of {release}.")
    finally:
        opened.close()
