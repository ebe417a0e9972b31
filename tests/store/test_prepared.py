"""Statements made ready once say just what SQLAlchemy says when it executes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from sqlalchemy import JSON, Boolean, Column, Double, Integer, MetaData, Table, Text, bindparam, insert, select, update

from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("good", Boolean),
    Column("share", Double),
    Column("told", JSON(none_as_null=True)),
)
NAMES = [column.name for column in things.columns]
MAKE = Prepared(insert(things).values({name: bindparam(name) for name in NAMES}))
ALL = select(things).order_by(things.c.id)
words = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
plain = some.none() | some.booleans() | some.integers(-(2**31), 2**31) | words
rows = some.lists(
    some.fixed_dictionaries(
        {
            "name": some.none() | words,
            "good": some.none() | some.booleans(),
            "share": some.none() | some.floats(allow_nan=False, allow_infinity=False),
            "told": some.none() | some.dictionaries(words, plain, max_size=3) | some.lists(plain, max_size=3),
        }
    ),
    max_size=4,
)


class Undone(Exception):
    """Raised to leave the table as it was."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[list[Database]]:
    """Both databases, with the table."""
    file = tmp_path_factory.mktemp("prepared") / "things.db"
    both = [Database.open(file), Database.open(postgres_server.create("prepared"))]
    for database in both:
        database.write(lambda tx: things.create(tx.connection))
    yield both
    for database in both:
        database.close()


@settings(deadline=None, max_examples=40)
@given(written=rows)
def test_what_goes_in_comes_out_as_if_sqlalchemy_had_done_it(
    room: list[Database], written: list[dict[str, Any]]
) -> None:
    numbered = [row | {"id": number} for number, row in enumerate(written)]

    def work(tx: Transaction) -> None:
        tx.change(MAKE, numbered)
        ours, theirs = tx.rows(Prepared(ALL), {}), tx.connection.execute(ALL).all()
        assert [row._asdict() for row in ours] == [dict(row._mapping) for row in theirs] == numbered
        assert [type(value) for row in ours for value in row] == [type(value) for row in theirs for value in row]
        raise Undone

    for database in room:
        with pytest.raises(Undone):
            database.write(work)


def test_what_a_change_returns_and_what_is_not_found(room: list[Database]) -> None:
    rename = update(things).where(among(things.c.name, "names")).values(name="new").returning(things.c.id)

    def work(tx: Transaction) -> None:
        assert tx.first(Prepared(ALL), {}) is None
        tx.change(MAKE, {"id": 1, "name": "old", "good": True, "share": 0.5, "told": [1]})
        assert [row.id for row in tx.rows(Prepared(rename), {"names": ["old", "older"]})] == [1]
        assert tx.first(Prepared(ALL), {}).name == "new"
        raise Undone

    for database in room:
        with pytest.raises(Undone):
            database.write(work)


def test_what_only_sqlalchemy_can_execute_is_refused(room: list[Database]) -> None:
    with_default = Table("other", MetaData(), Column("id", Integer), Column("made", Text, default=lambda: "now"))
    for clause in (select(things).where(things.c.id.in_([1, 2])), insert(with_default).values(id=1)):
        for database in room:
            with pytest.raises(TypeError, match="SQLAlchemy"):
                database.read(lambda tx, clause=clause: tx.rows(Prepared(clause), {}))  # type: ignore[misc]
