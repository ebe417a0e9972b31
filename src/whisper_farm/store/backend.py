"""What SQLite and PostgreSQL have in common: the form of a backend, and of a watch for other processes' wake-ups.

`database.py` speaks to a backend and knows neither database. `sqlite.py` and `postgres.py` are the two backends.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine

from whisper_farm.errors import StorageError
from whisper_farm.store.statements import Change, Parameters, Query

R = TypeVar("R")
Access = Literal["write", "beat", "read"]
Pending = tuple[Change, Sequence[Parameters]]
"""A statement, and the sets of parameters to run it with."""


class Watch(ABC):
    """A thread that calls back when another process asked to wake us."""

    def __init__(self, name: str, callback: Callable[[], None], end_seconds: float) -> None:
        self._callback, self._end_seconds = callback, end_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=self._end_seconds)

    @abstractmethod
    def _run(self) -> None:
        """Watch until told to stop."""


class Backend(ABC):
    """What differs between SQLite and PostgreSQL."""

    dialect: str
    """`sqlite` or `postgresql`."""
    place: str
    """Where the database is, without a password."""
    engines: dict[Access, Engine]
    """Connections for writers, heartbeats and readers; some may share theirs."""

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn to write among the threads of this process, before a connection is taken."""
        return nullcontext()

    @abstractmethod
    def begin(self, connection: Connection, access: Access) -> float:
        """Begin a transaction, and tell the time.

        To `write`, while nobody else does; to `beat`, without waiting for a turn where the database can do that; to
        `read`, with one snapshot for all that is read.
        """

    def send(self, connection: Connection, changes: Sequence[Pending]) -> None:
        """Run these statements."""
        for statement, sets in changes:
            statement.run(connection, sets)

    def rows(
        self, connection: Connection, changes: Sequence[Pending], statement: Query[R], values: Parameters
    ) -> list[R]:
        """What this statement finds or returns after those changes."""
        self.send(connection, changes)
        return statement.fetched(statement.asked(connection, values), self.dialect)

    @abstractmethod
    def commit(self, connection: Connection, changes: Sequence[Pending], wakes: bool) -> None:
        """Run these last statements and commit; with `wakes`, tell the other processes."""

    def noticed(self, connection: Connection) -> AbstractContextManager[None]:
        """Mark the connection as lost if an error in the block has cost it."""
        return nullcontext()

    @abstractmethod
    def fault(self, error: BaseException) -> StorageError | None:
        """The storage error behind a driver's; None when it is a mistake in a statement, or something else."""

    @abstractmethod
    def watch(self, callback: Callable[[], None]) -> Watch:
        """Start to listen for other processes' wake-ups."""
