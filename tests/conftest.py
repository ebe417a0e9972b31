"""Databases for every room's tests: `database` runs a test twice, on SQLite and on PostgreSQL."""

from __future__ import annotations

from postgres import (
    database,
    database_url,
    postgres_server,
    postgres_template,
    postgres_url,
    sqlite_template,
    sqlite_url,
)

__all__ = [
    "database",
    "database_url",
    "postgres_server",
    "postgres_template",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]
