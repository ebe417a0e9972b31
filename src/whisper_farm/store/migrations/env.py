"""Alembic runs this: on the connection it is given, inside the transaction that is already open there."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from whisper_farm.store.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
