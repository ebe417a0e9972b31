"""What every room's tests may stand on: `database` runs a test twice, on SQLite and on PostgreSQL; a `bucket`."""

from __future__ import annotations

from support.object_store import bucket, moto_url
from support.postgres import (
    database,
    database_url,
    postgres_server,
    postgres_template,
    postgres_url,
    sqlite_template,
    sqlite_url,
)

__all__ = [
    "bucket",
    "database",
    "database_url",
    "moto_url",
    "postgres_server",
    "postgres_template",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]
