"""Migrations make exactly the tables the program thinks it has, once, whoever starts at the same time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from support.postgres import PostgresServer

from whisper_farm.errors import SchemaMismatch
from whisper_farm.store import schema
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.migrations import alembic_config
from whisper_farm.store.tables import metadata

Make = Callable[[], str]
STEPS = "alembic_version"


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes the URL of one empty database after another."""
    names: list[str] = []

    def one() -> str:
        names.append(f"empty_{uuid.uuid4().hex}")
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path / names[-1]}.db"
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url: str = server.create(names[-1])
        return url

    yield one
    if request.param == "postgresql":
        for name in names:
            request.getfixturevalue("postgres_server").drop(name)


@pytest.fixture
def empty(make: Make) -> Iterator[Database]:
    """A database without tables."""
    database = Database.open(make())
    yield database
    database.close()


SQLITE_OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite_%'"
POSTGRES_OBJECTS = """
SELECT 'column', table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, is_nullable,
       column_default, is_identity) FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
       FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


def described(tx: Transaction) -> dict[str, str]:
    """Every table, column, constraint and index the database has, by name, as the database itself writes it."""
    query = SQLITE_OBJECTS if tx.dialect == "sqlite" else POSTGRES_OBJECTS
    rows = tx.connection.execute(text(query)).all()
    return {f"{kind} {name}": definition for kind, name, definition in rows if "alembic_version" not in name}


def sorted_lines(objects: dict[str, str]) -> dict[str, list[str]]:
    """Constraints of a table may stand in any order."""
    return {name: sorted(line.strip(" ,") for line in sql.splitlines()) for name, sql in objects.items()}


def test_migrations_make_what_the_tables_say(make: Make) -> None:
    migrated, made = Database.open(make()), Database.open(make())
    try:
        migrated.write(schema.take_steps)
        schema.upgrade(made)
        by_steps, at_once = migrated.read(described), made.read(described)
        assert by_steps.keys() == at_once.keys()
        assert sorted_lines(by_steps) == sorted_lines(at_once)
    finally:
        migrated.close()
        made.close()


def test_alembic_finds_nothing_left_to_migrate(empty: Database) -> None:
    schema.upgrade(empty)
    by_expression = {"ix_jobs_queued", "ix_jobs_heads"}  # Alembic cannot compare these on SQLite; the test above does

    def differences(tx: Transaction) -> list[object]:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_object": lambda _object, name, *_: name not in by_expression and not name.startswith("said"),
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*expression-based index.*")
            return list(compare_metadata(MigrationContext.configure(tx.connection, opts=options), metadata))

    assert empty.read(differences) == []


def seen_steps(tx: Transaction) -> tuple[list[str], list[str], object]:
    """Which steps the database has seen, and the table that says so."""
    columns = [
        f"{each['name']} {each['type']} {each['nullable']}" for each in inspect(tx.connection).get_columns(STEPS)
    ]
    seen = list(tx.connection.execute(text(f"SELECT version_num FROM {STEPS}")).scalars())
    return seen, columns, inspect(tx.connection).get_pk_constraint(STEPS)


def test_a_new_database_has_seen_every_step_as_if_they_had_been_taken(make: Make) -> None:
    migrated, made = Database.open(make()), Database.open(make())
    try:
        migrated.write(schema.take_steps)
        schema.upgrade(made)
        assert made.read(seen_steps) == migrated.read(seen_steps)
        made.write(schema.take_steps)  # there is none left
        assert made.read(seen_steps)[0] == [schema.LAST_STEP]
    finally:
        migrated.close()
        made.close()


def test_a_new_database_is_made_without_what_takes_older_ones_along(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom whisper_farm.store import schema\n"
        "from whisper_farm.store.database import Database\n"
        "print(schema.upgrade(Database.open(Path(sys.argv[1]))), 'alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "farm.db")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "True False\n"


def test_the_version_counts_the_migrations() -> None:
    steps = ScriptDirectory.from_config(alembic_config())
    assert steps.get_heads() == [schema.LAST_STEP]
    assert len(list(steps.walk_revisions())) == schema.VERSION
    assert 1 <= schema.COMPATIBLE_FROM <= schema.VERSION


def test_an_upgrade_is_done_once(empty: Database) -> None:
    assert schema.upgrade(empty) is True
    assert schema.upgrade(empty) is False
    assert schema.check(empty) == "current"


START = """
import sys, alembic.command
from whisper_farm.store import schema
from whisper_farm.store.database import Database
database = Database.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
schema.upgrade(database)
schema.check(database)
database.close()
"""


def test_processes_that_start_at_once_upgrade_one_database_without_harm(empty: Database) -> None:
    url = empty.place if empty.dialect == "postgresql" else f"sqlite:///{empty.place}"
    command = [sys.executable, "-c", START, url]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(1) as pool:
            here = pool.submit(schema.upgrade, empty)
            child.communicate("go\n", timeout=60)
            here.result(60)
        assert child.returncode == 0
    schema.check(empty)


def test_a_database_without_tables_says_what_to_run(empty: Database) -> None:
    with pytest.raises(SchemaMismatch, match="no tables yet; run `whisper-farm db upgrade`"):
        schema.check(empty)


def of_release(database: Database, version: int, compatible_from: int) -> None:
    """Make the database say that its tables are those of that release."""
    said = {"version": version, "compatible_from": compatible_from}
    change = "UPDATE schema_version SET version = :version, compatible_from = :compatible_from"
    database.write(lambda tx: tx.connection.execute(text(change), said))


def test_a_database_of_a_newer_release_is_left_alone(empty: Database) -> None:
    schema.upgrade(empty)
    of_release(empty, version=99, compatible_from=98)
    before = empty.read(described)
    for call in (schema.check, schema.upgrade):
        with pytest.raises(SchemaMismatch, match=r"newer release.*version 99 .*knows version 98; this one .* 1\."):
            call(empty)
    assert empty.read(described) == before


def test_a_newer_database_that_is_compatible_is_used_and_not_changed(empty: Database) -> None:
    schema.upgrade(empty)
    of_release(empty, version=99, compatible_from=schema.VERSION)
    before = empty.read(described)
    assert schema.check(empty) == "newer"
    assert schema.upgrade(empty) is False
    assert schema.check(empty) == "newer"
    assert empty.read(described) == before


def test_a_database_of_an_older_release_says_what_to_run(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.upgrade(empty)
    monkeypatch.setattr(schema, "VERSION", 2)
    with pytest.raises(SchemaMismatch, match="older release; run `whisper-farm db upgrade`"):
        schema.check(empty)
    assert schema.upgrade(empty) is True
    assert schema.check(empty) == "current"


def test_a_database_from_before_the_first_release_is_named(empty: Database) -> None:
    empty.write(lambda tx: tx.connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))")))
    for call in (schema.check, schema.upgrade):
        with pytest.raises(SchemaMismatch, match=r"before the first release.*Move it away"):
            call(empty)


def test_a_database_with_the_tables_of_another_day_before_the_first_release_is_named(empty: Database) -> None:
    schema.upgrade(empty)
    empty.write(lambda tx: tx.connection.execute(text("UPDATE alembic_version SET version_num = 'first_release_old'")))
    for call in (schema.check, schema.upgrade):
        with pytest.raises(SchemaMismatch, match=r"before the first release.*Move it away"):
            call(empty)


def test_the_last_step_says_which_tables_it_made(tmp_path: Path) -> None:
    """Delete this with the first release."""
    database = Database.open(tmp_path / "farm.db")
    schema.upgrade(database)
    lines = sorted_lines(database.read(described))
    database.close()
    digest = hashlib.sha256(repr(sorted(lines.items())).encode()).hexdigest()[:8]
    assert f"first_release_{digest}" == schema.LAST_STEP, "the tables have changed: so must schema.LAST_STEP"


def test_an_upgrade_that_fails_half_way_leaves_nothing_behind(empty: Database) -> None:
    empty.write(lambda tx: tx.connection.execute(text("CREATE TABLE tokens (id INTEGER)")))
    with pytest.raises(Exception, match="already exists"):
        schema.upgrade(empty)
    assert [name for name in empty.read(described) if name.startswith("table") or "." in name] in (
        ["table tokens"],
        ["column tokens.id"],
    )


def test_the_migrations_travel_with_the_package() -> None:
    steps = {Path(step.path).name for step in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    assert {path.name for path in Path(schema.__file__).with_name("migrations").rglob("*.py")} >= {"env.py", *steps}
