"""The farm's state in one database: SQLite in a file, or PostgreSQL by URL, with one behaviour.

Promises: `write` runs one transaction at a time, over all processes on the database. It takes `now` from the database's
clock after its turn has come. So no two writers race, and events never run backwards. Times run backwards only if the
clock of the database's machine is set back.

`read` sees one consistent snapshot and can change nothing. `listen` tells of every commit that asked to wake others:
ours at once, another process's within 200 ms. What a database cannot do becomes `StoreUnavailable` with the reason. The
same call may then be made again, for broken connections are replaced.

It does not know the tables. Every call blocks: asynchronous callers use threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from whisper_farm.errors import NotFound, StoreUnavailable
from whisper_farm.store.backend import Access, Backend, Pending, Watch
from whisper_farm.store.statements import Change, Parameters, Query

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)
NOTHING: Parameters = {}
"""The parameters of a statement without any."""


class Transaction:
    """What `write`, `beat` and `read` hand to the work: a connection, and the one time that counts."""

    __slots__ = ("_backend", "_changes", "_connection", "_last_steps", "_writes", "dialect", "now", "outbox", "wakes")

    def __init__(self, backend: Backend, connection: Connection, now: float, writes: bool) -> None:
        self._backend, self._connection = backend, connection
        self._changes: list[Pending] = []
        self.now = now
        """Epoch seconds by the database's clock, or as the caller gave them."""
        self.dialect = backend.dialect
        """`sqlite` or `postgresql`."""
        self.outbox: list[dict[str, object]] = []
        """Rows to be written in one statement before the commit; `events.emit` fills it."""
        self.wakes = False
        self._writes = writes
        self._last_steps: list[Callable[[], None]] = []

    @property
    def connection(self) -> Connection:
        """A SQLAlchemy Core connection inside an open transaction, to read from; never commit it or keep it."""
        if self._changes:
            changes, self._changes = self._changes, []
            self._backend.send(self._connection, changes)
        return self._connection

    def rows(self, statement: Query[R], values: Parameters = NOTHING) -> list[R]:
        """What a statement finds or returns."""
        changes, self._changes = self._changes, []
        return self._backend.rows(self._connection, changes, statement, {"now": self.now, **values})

    def first(self, statement: Query[R], values: Parameters = NOTHING) -> R | None:
        """The first row that a statement finds, or None."""
        return next(iter(self.rows(statement, values)), None)

    def one(self, statement: Query[R], values: Parameters, what: str) -> R:
        """The first row that a statement finds; raises `NotFound` if there is no such `what`."""
        for row in self.rows(statement, values):
            return row
        raise NotFound(f"There is no {what}.")

    def change(self, statement: Change, values: Parameters | Sequence[Parameters] = NOTHING) -> None:
        """Run a statement whose answer is not needed, in time for the next one that is read, or for the commit.

        Those that come together go to the database together. What is in `values` must not be changed any more.
        """
        sets = [values] if isinstance(values, Mapping) else values
        if sets:
            self._changes.append((statement, [{"now": self.now, **each} for each in sets]))

    def changed(self, statement: Change, values: Parameters = NOTHING) -> int:
        """Run a statement at once; returns how many rows it changed."""
        return statement.run(self.connection, [{"now": self.now, **values}])

    def wake(self) -> None:
        """Call every listener, in every process, once this transaction is committed. Only inside `write`."""
        self._must_write()
        self.wakes = True

    def before_commit(self, step: Callable[[], None]) -> None:
        """Run `step` after the work and before the commit. Only inside `write`."""
        self._must_write()
        self._last_steps.append(step)

    def finish(self) -> None:
        """Run what `before_commit` collected."""
        for step in self._last_steps:
            step()
        self._last_steps.clear()

    def commit(self) -> None:
        """Finish and commit; `Database` calls this."""
        self.finish()
        self._backend.commit(self._connection, self._changes, self.wakes)

    def _must_write(self) -> None:
        if not self._writes:
            raise RuntimeError("events and wake-ups belong into Database.write: only there is their order certain")


class Database:
    """One open database. Safe to use from any number of threads; close it when done."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._listeners: dict[object, Callable[[], None]] = {}
        self._watch: Watch | None = None
        self._closed = False
        self.dialect = backend.dialect
        """`sqlite` or `postgresql`."""
        self.place = backend.place
        """Where it is, without the password, for people to read."""

    @classmethod
    def open(cls, place: str | Path) -> Database:
        """Open `sqlite:///PATH`, `postgresql://…` or the path of a SQLite file, made with its folder if missing.

        A server is connected to by the first call, not here.
        """
        url = URL.create("sqlite", database=str(place)) if isinstance(place, Path) else _parsed(place)
        if url.get_backend_name() == "sqlite":
            from whisper_farm.store.sqlite import SqliteBackend

            return cls(SqliteBackend(url))
        if url.get_backend_name() in ("postgresql", "postgres"):
            from whisper_farm.store.postgres import PostgresBackend

            return cls(PostgresBackend(url))
        raise StoreUnavailable(f"A database is sqlite:///PATH or postgresql://…, not {url.drivername}://…")

    def write(self, work: Callable[[Transaction], T], now: float | None = None) -> T:
        """Run `work` in a transaction of its own while nobody else writes; commit, then wake who listens.

        Anything `work` raises rolls everything back. `now` replaces the database's clock (tests).
        """
        return self._run("write", work, now)

    def beat(self, work: Callable[[Transaction], T], now: float | None = None) -> T:
        """A short write that waits for no turn where the database can do that (PostgreSQL): for heartbeats.

        It must touch only rows that belong to its caller, and can emit no events.
        """
        return self._run("beat", work, now)

    def read(self, work: Callable[[Transaction], T], now: float | None = None) -> T:
        """Run `work` on one consistent snapshot; it can change nothing."""
        return self._run("read", work, now)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, from any thread, after commits that called `Transaction.wake`; returns how to stop that.

        It must be quick and may be called without cause (after a connection was lost, say), never too rarely.
        """
        key = object()
        with self._lock:
            self._listeners[key] = callback
            if self._watch is None and not self._closed:
                self._watch = self._backend.watch(self._tell)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.pop(key, None)

        return unsubscribe

    def close(self) -> None:
        """Stop listening and close every connection. Calls made afterwards are refused."""
        with self._lock:
            watch, self._watch = self._watch, None
            self._listeners.clear()
            self._closed = True
        if watch is not None:
            watch.stop()
        for engine in self._backend.engines.values():
            engine.dispose()

    def _run(self, access: Access, work: Callable[[Transaction], T], now: float | None) -> T:
        if self._closed:
            raise StoreUnavailable(f"The database {self.place} has been closed.")
        alone = self._backend.engines[access] is self._backend.engines["write"]
        with self._translated(), self._backend.turn() if alone else nullcontext():
            connection, clock = self._begun(access)
            with connection, self._backend.noticed(connection):
                tx = Transaction(self._backend, connection, clock if now is None else now, access == "write")
                answer = work(tx)
                tx.commit()
        if tx.wakes:
            self._tell()
        return answer

    def _begun(self, access: Access) -> tuple[Connection, float]:
        """A connection whose transaction has begun. A broken one is replaced once: nothing was done on it yet."""
        for retry in (True, False):
            connection = self._backend.engines[access].connect()
            try:
                with self._backend.noticed(connection):
                    return connection, self._backend.begin(connection, access)
            except BaseException:
                lost = connection.invalidated
                connection.close()
                if not (retry and lost):
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"The database {self.place} is too busy; try again.") from error
        except Exception as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if cause is not None and (fault := self._backend.fault(cause)):
                raise fault from error
            raise

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners.values())
        for listener in listeners:
            try:
                listener()
            except Exception:
                log.exception("a listener of the database failed")


def _parsed(place: str) -> URL:
    try:
        return make_url(place)
    except ArgumentError as error:
        raise StoreUnavailable("A database is sqlite:///PATH or postgresql://USER@HOST/NAME.") from error
