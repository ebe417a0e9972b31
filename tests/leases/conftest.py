"""`farm`: the queue on an empty database, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import delete
from support.fresh_database import fresh_database
from support.hand_farm import Farm

from whisper_farm.store.database import Database
from whisper_farm.store.tables import metadata


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def kept_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all tests of this room: making one takes longer than most of them."""
    with fresh_database(request, tmp_path_factory.mktemp("leases"), "leases") as database:
        yield database


@pytest.fixture
def farm(kept_database: Database) -> Iterator[Farm]:
    """A farm with the default policy and a clock the test moves."""
    yield Farm(kept_database)
    kept_database.write(lambda tx: [tx.connection.execute(delete(table)) for table in reversed(metadata.sorted_tables)])
