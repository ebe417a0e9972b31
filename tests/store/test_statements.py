"""SQL of ours means the same on both databases, and rows have the types they are declared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.statements import Change, Json, Query


@dataclass(frozen=True, slots=True)
class Thing:
    """One row."""

    id: int
    name: str | None
    good: bool | None
    share: float | None
    told: dict[str, Any] | None
    listed: list[Any] | None


MAKE = Change("INSERT INTO things VALUES (:id, :name, :good, :share, :told, :listed)")
ALL = Query[Thing]("SELECT * FROM things ORDER BY id")
NAMED = Query[int]("SELECT id FROM things WHERE name IN :names AND name NOT LIKE '%1' ORDER BY id")
words = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
plain = some.none() | some.booleans() | some.integers(-(2**31), 2**31) | words
rows = some.lists(
    some.tuples(
        some.none() | words,
        some.none() | some.booleans(),
        some.none() | some.floats(allow_nan=False, allow_infinity=False),
        some.none() | some.dictionaries(words, plain, max_size=3),
        some.none() | some.lists(plain, max_size=3),
    ),
    max_size=4,
)


class Undone(Exception):
    """Raised to leave the table as it was."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[list[Database]]:
    """Both databases, with the table."""
    table = "CREATE TABLE things (id INTEGER, name TEXT, good BOOLEAN, share DOUBLE PRECISION, told JSON, listed JSON)"
    file = tmp_path_factory.mktemp("statements") / "things.db"
    databases = [Database.open(file), Database.open(postgres_server.create("statements"))]
    for database in databases:
        database.write(lambda tx: tx.change(Change(table), {}))
    yield databases
    for database in databases:
        database.close()
    postgres_server.drop("statements")


def _undone(database: Database, work: Any) -> Any:
    found: list[Any] = []

    def run(tx: Transaction) -> None:
        found.append(work(tx))
        raise Undone

    with pytest.raises(Undone):
        database.write(run)
    return found[0]


@settings(max_examples=40)
@given(rows=rows)
def test_what_goes_in_comes_out_with_its_type(both: list[Database], rows: list[Any]) -> None:
    things = [Thing(number, *row) for number, row in enumerate(rows)]

    def work(tx: Transaction) -> tuple[list[Thing], list[int]]:
        tx.change(MAKE, [_values(thing) for thing in things])
        return tx.rows(ALL, {}), tx.rows(NAMED, {"names": [thing.name for thing in things if thing.name]})

    for database in both:
        found, named = _undone(database, work)
        assert found == things
        assert [type(one.good) for one in found] == [type(one.good) for one in things]
        assert named == [one.id for one in things if one.name and not one.name.endswith("1")]


def test_a_row_must_have_the_columns_it_is_declared_with(both: list[Database]) -> None:
    wrong = Query[Thing]("SELECT id, name FROM things")
    for database in both:
        with pytest.raises(TypeError, match="Thing has the fields"):
            database.read(lambda tx: tx.rows(wrong, {}))


def test_nothing_to_change_is_no_statement_and_no_row_is_none(both: list[Database]) -> None:
    for database in both:
        database.write(lambda tx: tx.change(MAKE, []))
        assert database.read(lambda tx: tx.first(ALL, {})) is None
        assert database.read(lambda tx: tx.first(Query[float]("SELECT max(share) AS most FROM things"), {})) is None


def _values(thing: Thing) -> dict[str, Any]:
    told = None if thing.told is None else Json(thing.told)
    listed = None if thing.listed is None else Json(thing.listed)
    kept = {"id": thing.id, "name": thing.name, "good": thing.good, "share": thing.share}
    return kept | {"told": told, "listed": listed}
