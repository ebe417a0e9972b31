"""A database of either kind, with the farm's tables and nothing in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile

import pytest

from whisper_farm.store.database import Database


@contextmanager
def fresh_database(request: pytest.FixtureRequest, folder: Path, name: str) -> Iterator[Database]:
    """Of the kind that is the fixture's parameter; closed, and on the server dropped, at the end."""
    postgres = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    name = f"{name}_{os.getpid()}"
    if postgres is None:
        copyfile(request.getfixturevalue("sqlite_template"), folder / f"{name}.db")
        url = f"sqlite:///{folder / name}.db"
    else:
        url = postgres.create(name, template=request.getfixturevalue("postgres_template"))
    database = Database.open(url)
    try:
        yield database
    finally:
        database.close()
        if postgres is not None:
            postgres.drop(name)
