"""The SQLite side of `Database`: a file in WAL mode, one writing connection, several reading ones.

Every write begins with BEGIN IMMEDIATE, so a second process waits its turn instead of failing half-way. The threads
of this process take turns before that, in order of asking: SQLite itself favours whoever has just written.

A commit that wakes others counts up SQLite's `user_version` in the file's header, in the same transaction. Other
processes look at that number twenty times a second. So they learn of exactly those commits and of no others.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from whisper_farm.errors import NoSpace, StorageError, StoreUnavailable
from whisper_farm.store.backend import Access, Backend, Pending, Watch

BUSY_SECONDS = 10.0
"""How long a write waits for its turn."""
POLL_SECONDS = 0.05
READERS = 8
WAL_LIMIT_BYTES = 64 << 20
CANNOT_SERVE = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in ["BUSY", "CANTOPEN", "CORRUPT", "IOERR", "LOCKED", "NOMEM", "NOTADB", "PERM", "PROTOCOL", "READONLY"]
)
"""What is wrong with the file or its surroundings, not with a statement."""


class SqliteBackend(Backend):
    dialect = "sqlite"

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise StoreUnavailable("SQLite needs a file here: sqlite:///PATH. A database in memory cannot be shared.")
        self.file = Path(url.database).absolute()
        self.place = str(self.file)
        self._make_file()
        writer, reader = self._engine(connections=1), self._engine(connections=READERS)
        event.listen(reader, "connect", _only_read)
        self.engines = {"write": writer, "beat": writer, "read": reader}
        self._turns = FairLock()
        self.seen_wake = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until the threads that asked before have written."""
        if not self._turns.take(BUSY_SECONDS):
            raise StoreUnavailable(f"The database {self.place} is too busy; try again.")
        try:
            yield
        finally:
            self._turns.give()

    def begin(self, connection: Connection, access: Access) -> float:
        """SQLite is a library, and its clock that of the machine it runs on."""
        connection.begin()
        _driver(connection).execute("BEGIN" if access == "read" else "BEGIN IMMEDIATE")
        return time.time()

    def commit(self, connection: Connection, changes: Sequence[Pending], wakes: bool) -> None:
        """Commit with these last changes, counting up the wake number if asked to."""
        self.send(connection, changes)
        if not wakes:
            connection.commit()
            return
        wake = (wake_number(_driver(connection)) + 1) % (1 << 31)
        _driver(connection).execute(f"PRAGMA user_version = {wake}")
        connection.commit()
        self.seen_wake = wake

    def fault(self, error: BaseException) -> StorageError | None:
        """The code of the error tells."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return NoSpace(f"No space is left for the database {self.place}.")
        if code not in CANNOT_SERVE:
            return None
        return StoreUnavailable(f"The database {self.place} cannot be used: {error}.")

    def watch(self, callback: Callable[[], None]) -> SqliteWatch:
        return SqliteWatch(self, callback)

    def _make_file(self) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreUnavailable(f"The database {self.place} cannot be opened: {error.strerror}.") from error

    def _engine(self, connections: int) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=self.place),
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            pool_size=connections,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
        )
        event.listen(engine, "connect", _prepare)
        return engine


class FairLock:
    """A lock that is handed on in the order of asking, so that no thread can keep it from the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def take(self, seconds: float) -> bool:
        """Wait for the turn; False when it did not come in time."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(seconds):
            return True
        with self._lock:
            if mine.is_set():  # it came at the last moment
                return True
            self._waiting.remove(mine)
        return False

    def give(self) -> None:
        """Hand the turn to whoever has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class SqliteWatch(Watch):
    """Looks at the wake number until stopped."""

    def __init__(self, backend: SqliteBackend, callback: Callable[[], None]) -> None:
        self._backend = backend
        self._connection = sqlite3.connect(backend.file, timeout=0, isolation_level=None, check_same_thread=False)
        backend.seen_wake = self._look()
        super().__init__("sqlite-watch", callback, end_seconds=5)

    def _run(self) -> None:
        with closing(self._connection):
            while not self._stop.wait(POLL_SECONDS):
                wake = self._look()
                if wake != self._backend.seen_wake:
                    self._backend.seen_wake = wake
                    self._callback()

    def _look(self) -> int:
        try:
            return wake_number(self._connection)
        except sqlite3.Error:  # locked or out of reach for the moment: the next look will tell
            return self._backend.seen_wake


def wake_number(connection: sqlite3.Connection) -> int:
    """How many commits have asked to wake others."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _prepare(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    """Leave transactions to us, and set what every connection needs."""
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait its turn for this one, so two processes starting at once must retry."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _only_read(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA query_only = ON")
