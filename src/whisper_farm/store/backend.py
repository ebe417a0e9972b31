"""What SQLite and PostgreSQL have in common: the form of a backend, and of the changes it is given.

`database.py` speaks to a backend and knows neither database. `sqlite.py` and `postgres.py` are the two backends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, Engine

from whisper_farm.errors import StorageError
from whisper_farm.store.statements import Change, Parameters

Pending = tuple[Change, Sequence[Parameters]]
"""A statement, and the sets of parameters to run it with."""


class Watch(Protocol):
    """A thread that calls back when another process asked to wake us."""

    def stop(self) -> None:
        """End the thread."""


class Backend(Protocol):
    """What differs between SQLite and PostgreSQL.

    Writers, heartbeats (`beater`) and readers have connections of their own, or share them.
    """

    dialect: str
    """`sqlite` or `postgresql`."""
    place: str
    """Where the database is, without a password."""
    writer: Engine
    beater: Engine
    reader: Engine

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn to write among the threads of this process, before a connection is taken."""
        ...

    def begin_write(self, connection: Connection, now: float | None) -> float:
        """Begin while nobody else writes; returns the time, `now` if given."""
        ...

    def begin_beat(self, connection: Connection, now: float | None) -> float:
        """Begin a short write without waiting for a turn, where the database can do that."""
        ...

    def begin_read(self, connection: Connection, now: float | None) -> float:
        """Begin with one snapshot for all that is read."""
        ...

    def send(self, connection: Connection, changes: Sequence[Pending]) -> None:
        """Run these statements."""
        ...

    def commit(self, connection: Connection, changes: Sequence[Pending], wakes: bool) -> None:
        """Run these last statements and commit; with `wakes`, tell the other processes."""
        ...

    def noticed(self, connection: Connection) -> AbstractContextManager[None]:
        """Mark the connection as lost if an error in the block has cost it."""
        ...

    def fault(self, error: Exception) -> StorageError | None:
        """The storage error behind a driver's; None when it is a mistake in a statement, or something else."""
        ...

    def watch(self, callback: Callable[[], None]) -> Watch:
        """Start to listen for other processes' wake-ups."""
        ...


def execute(connection: Connection, changes: Sequence[Pending]) -> None:
    """Run these statements, one after the other."""
    for statement, values in changes:
        statement.run(connection, values)
