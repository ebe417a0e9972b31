"""The PostgreSQL side of `Database`: psycopg 3, pooled, for any number of coordinators.

Writers take turns by one advisory transaction lock. PostgreSQL hands it on in order of asking and frees it with the
commit. A way to the server and back takes longer than most statements, so there are few. BEGIN, the lock and the clock,
which is read after it, go together. So do changes, with the commit and its NOTIFY (`Transaction.change`). No wait is
without bound: connecting, locks, statements, silence of the server.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from whisper_farm.errors import NoSpace, StorageError, StoreUnavailable
from whisper_farm.store.backend import Access, Backend, Pending, Watch
from whisper_farm.store.statements import Parameters, Query

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)

FARM_LOCK = 0x57_48_49_53_50_45_52
"""One farm a database: this advisory lock is its turn to write."""
CHANNEL = "whisper_farm"
TURN_SECONDS = 10
STATEMENT_SECONDS = 30
SILENCE_SECONDS = 45.0
"""A server that says nothing for this long, though the connection stands, is given up."""
WRITERS = 2
"""One works, one already queues for the lock; more would only hold connections."""
OTHERS = 8
POOL_SECONDS = 10
LISTEN_SLICE_SECONDS = 0.25
RECONNECT_SECONDS = (0.05, 2.0)
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::double precision"
BEGIN: dict[Access, str] = {
    "write": f"BEGIN; SELECT pg_advisory_xact_lock({FARM_LOCK}); {CLOCK}",
    "beat": f"BEGIN; {CLOCK}",
    "read": f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {CLOCK}",
}
PLANNER = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
    " -c plan_cache_mode=force_generic_plan"
)
"""Every statement of the farm looks up a few rows by an index, whatever its values are.

Plans are kept with the connection, and made when tables were small or their statistics old. Without this, one made on
an empty farm reads a full one from end to end. To plan anew for each value would cost more than most statements.
"""
CONNECT: dict[str, str | int] = {
    "application_name": "whisper-farm",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={TURN_SECONDS}s"
    f" -c idle_in_transaction_session_timeout={STATEMENT_SECONDS}s {PLANNER}",
}
"""Connection parameters, where the URL does not give its own."""
BEGUN_BY_US = {"autocommit": True}
"""So that psycopg does not send a BEGIN of its own; it still sends COMMIT and ROLLBACK when told to."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that does not wait for ever for a server that has stopped talking."""

    silence_seconds = SILENCE_SECONDS

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, but not past `silence_seconds`; the connection is of no use after that."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + self.silence_seconds
        try:
            state = next(gen)
            while True:
                ready = yield state
                if time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise pg.OperationalError(f"the server did not answer for {self.silence_seconds:g} seconds")
                state = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer


class PostgresBackend(Backend):
    """One PostgreSQL database. The server's lock is the turn to write, for every process."""

    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self.place = url.set(password=None).render_as_string()
        self._connect_args = {name: value for name, value in CONNECT.items() if name not in url.query}
        self._identity = secrets.token_hex(8)
        others = self._engine(OTHERS)
        self.engines = {"write": self._engine(WRITERS), "beat": others, "read": others}

    def begin(self, connection: Connection, access: Access) -> float:
        """Begin, take the turn, and tell the time after it has come, in one round trip; SQLAlchemy sees none of it."""
        connection.begin()
        with _driver(connection).cursor() as cursor:
            cursor.execute(BEGIN[access].encode())
            while cursor.nextset():
                pass
            return float(cursor.fetchall()[0][0])

    def send(self, connection: Connection, changes: Sequence[Pending]) -> None:
        """Run these statements, several of them in one round trip."""
        with _driver(connection).pipeline() if len(changes) > 1 else nullcontext():
            super().send(connection, changes)

    def rows(
        self, connection: Connection, changes: Sequence[Pending], statement: Query[R], values: Parameters
    ) -> list[R]:
        """What it finds or returns after those changes, in one round trip."""
        with _driver(connection).pipeline() if changes else nullcontext():
            super().send(connection, changes)
            cursor = statement.asked(connection, values)
        return statement.fetched(cursor, self.dialect)

    def commit(self, connection: Connection, changes: Sequence[Pending], wakes: bool) -> None:
        """Commit with these last changes, and with the NOTIFY if asked for one, in one round trip."""
        if _driver(connection).info.transaction_status == TransactionStatus.INERROR:
            # PostgreSQL would answer COMMIT by undoing everything, and call it a success.
            raise RuntimeError("a statement failed in this transaction, and the work went on as if it had not")
        if changes or wakes:
            with _driver(connection).pipeline():
                super().send(connection, changes)
                if wakes:
                    connection.exec_driver_sql(f"SELECT pg_notify('{CHANNEL}', '{self._identity}')")
                _driver(connection).commit()
        connection.commit()  # SQLAlchemy must not take for committed what has just failed: it would not undo it

    @contextmanager
    def noticed(self, connection: Connection) -> Iterator[None]:
        """Tell SQLAlchemy if errors that did not pass through it have cost the connection."""
        driver = _driver(connection)
        try:
            yield
        except psycopg.Error as error:
            if driver.closed and not connection.invalidated:
                connection.invalidate(error)
            raise

    def fault(self, error: BaseException) -> StorageError | None:
        """The class of the error tells."""
        if isinstance(error, pg.DiskFull):
            return NoSpace(f"No space is left for the database {self.place}.")
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | pg.ReadOnlySqlTransaction):
            reason = " ".join(str(error).split())
            return StoreUnavailable(f"The database {self.place} cannot serve: {reason}")
        return None

    def watch(self, callback: Callable[[], None]) -> PostgresWatch:
        return PostgresWatch(self.engines["beat"], self._identity, callback)

    def _engine(self, connections: int) -> Engine:
        engine = create_engine(
            self._url,
            connect_args=self._connect_args | BEGUN_BY_US,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_use_lifo=True,
        )
        event.listen(engine, "do_connect", _connected)
        return engine


class PostgresWatch(Watch):
    """Listens on a connection of its own until stopped. Reconnects, and then calls back: it may have missed some."""

    def __init__(self, engine: Engine, identity: str, callback: Callable[[], None]) -> None:
        self._engine, self._identity = engine, identity
        super().__init__("postgres-watch", callback, end_seconds=SILENCE_SECONDS)

    def _run(self) -> None:
        pause, longest = RECONNECT_SECONDS
        while not self._stop.is_set():
            try:
                with self._connection() as connection:
                    pause = RECONNECT_SECONDS[0]
                    self._listen(connection)
            except (psycopg.Error, SQLAlchemyError, OSError) as error:
                log.warning("the database's notifications are interrupted: %s", error)
                self._stop.wait(pause)
                pause = min(pause * 2, longest)

    def _connection(self) -> psycopg.Connection[Any]:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        assert isinstance(connection, psycopg.Connection)
        return connection

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        self._callback()
        while not self._stop.is_set():
            notices = list(connection.notifies(timeout=LISTEN_SLICE_SECONDS, stop_after=1))
            if any(notice.payload != self._identity for notice in notices):
                self._callback()


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _connected(
    _dialect: Dialect, _record: ConnectionPoolEntry, args: list[Any], parameters: dict[str, Any]
) -> BoundedConnection:
    return BoundedConnection.connect(*args, **parameters)
