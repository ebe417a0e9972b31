"""SQL as a reader sees it: one text for both databases, and the type of the rows it finds.

A `Query[Row]` or a `Change` is a constant beside the function that uses it. Three things are written in one way and
mean the same on both databases:

- `:name` is a parameter; no text in quotes may look like one.
- `IN :names` is true for any of a list of texts, so that the text of the statement does not depend on its length.
- A `Json` value goes into a JSON column.

`:now` is always there: the time of the transaction. Where the databases need different words, a statement has a second
text for PostgreSQL. There a parameter that may be NULL needs a type: `CAST(:owner AS TEXT) IS NULL`. Rows are
dataclasses, filled by the names of the columns; few columns may be a tuple, and one a plain value. This module opens
no connection and begins no transaction.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

R = TypeVar("R", covariant=True)
Parameters = Mapping[str, Any]
_LIST = re.compile(r"\bIN (:\w+)")
_PARAMETER = re.compile(r"(?<!:):([a-z_]\w*)")
_PLAIN = (str, int, float, bool)
_AS_IT_IS = frozenset({*_PLAIN, type(None)})
_json = json.JSONEncoder(ensure_ascii=False).encode
_CONVERTERS: dict[Any, Callable[[Any], Any]] = {bool: bool, dict: json.loads, list: json.loads}


@dataclass(frozen=True, slots=True)
class Json:
    """A value for a JSON column: anything that `json` can write."""

    value: Any


class Change:
    """A statement whose answer is not needed."""

    def __init__(self, text: str, postgres: str | None = None) -> None:
        self.sqlite = _LIST.sub(r"IN (SELECT value FROM json_each(\1))", text)
        """As SQLite reads it; its parameters are `:name`."""
        self.postgres = _PARAMETER.sub(r"%(\1)s", _LIST.sub(r"= ANY(\1)", (postgres or text).replace("%", "%%")))
        """As psycopg reads it; its parameters are `%(name)s`."""

    def run(self, connection: Connection, sets: Sequence[Parameters]) -> int:
        """Execute it once for each of these sets of values, one at least; returns how many rows it changed.

        While several statements are on their way to PostgreSQL together, that number is not known, and -1.
        """
        bound = [self._bound(connection, each) for each in sets]
        cursor = connection.connection.cursor()
        try:
            if len(bound) == 1:
                execute(cursor.execute, *bound[0])
            else:
                execute(cursor.executemany, bound[0][0], [each for _, each in bound])
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _bound(self, connection: Connection, values: Parameters) -> tuple[str, Parameters]:
        if connection.dialect.name == "sqlite":
            return self.sqlite, {
                name: value if type(value) in _AS_IT_IS else _for_sqlite(value) for name, value in values.items()
            }
        return self.postgres, {name: _for_postgres(value) for name, value in values.items()}


class Query(Change, Generic[R]):
    """`Query[Row](text)` finds or returns rows: dataclasses, tuples, or plain values of a single column."""

    def __init__(self, text: str, postgres: str | None = None) -> None:
        super().__init__(text, postgres)
        self._makers: dict[str, Callable[[Sequence[Any]], R]] = {}

    def asked(self, connection: Connection, values: Parameters) -> DBAPICursor:
        """A cursor that it is executed with, for `fetched`."""
        cursor = connection.connection.cursor()
        execute(cursor.execute, *self._bound(connection, values))
        return cursor

    def fetched(self, cursor: DBAPICursor, dialect: str) -> list[R]:
        """All that it finds or returns."""
        try:
            make = self._makers.get(dialect) or self._maker(cursor, dialect)
            return [make(row) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def _maker(self, cursor: Any, dialect: str) -> Callable[[Sequence[Any]], R]:
        """Makes a row of what the driver gives; found out by the first execution."""
        row = typing.get_args(vars(self)["__orig_class__"])[0]  # Python keeps what stood in the brackets
        names = [column[0] for column in cursor.description]
        self._makers[dialect] = maker = _single(row) if row in _PLAIN else _filled(row, names, dialect)
        return maker


def _single(kind: Callable[..., R]) -> Callable[[Sequence[Any]], R]:
    def make(values: Sequence[Any]) -> R:
        (value,) = values
        return typing.cast(R, value) if value is None else kind(value)

    return make


def _filled(row: Any, names: Sequence[str], dialect: str) -> Callable[[Sequence[Any]], Any]:
    """Fills a dataclass by the names of its fields, a tuple by position.

    SQLite knows neither booleans nor JSON; psycopg gives both.
    """
    plain = typing.get_origin(row) is tuple
    hints = dict(zip(names, typing.get_args(row), strict=True)) if plain else typing.get_type_hints(row)
    fields = list(names) if plain else list(row.__match_args__)
    if sorted(names) != sorted(fields):
        raise TypeError(f"{row.__name__} has the fields {fields}; the statement gives {names}")
    order = [names.index(name) for name in fields]
    kinds = [_bare(hints[name]) for name in names]
    converters = [(at, _CONVERTERS[kind]) for at, kind in enumerate(kinds) if kind in _CONVERTERS]

    def make(values: Sequence[Any]) -> Any:
        given = list(values)
        for at, convert in converters if dialect == "sqlite" else ():
            if given[at] is not None:
                given[at] = convert(given[at])
        return tuple(given) if plain else row(*[given[at] for at in order])

    return make


def columns(row: type[Any]) -> str:
    """The names of a row's fields, for a SELECT. `SELECT *` would fail as soon as a newer release adds a column."""
    return ", ".join(row.__match_args__)


def insert(table: str, row: type[Any], *more: str) -> Change:
    """Add a row of that type, with more columns, whose values are given beside it."""
    names = (*row.__match_args__, *more)
    return Change(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})")


def keep(table: str, row: type[Any], key: str, *but: str) -> Change:
    """Add a row of that type, or bring the one with its key up to date, in all columns but those."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in row.__match_args__ if name not in (key, *but))
    return Change(f"{insert(table, row).sqlite} ON CONFLICT ({key}) DO UPDATE SET {changed}")


def execute(run: Callable[..., object], text: str, values: object) -> None:
    """Where every statement is executed; tests look on here."""
    run(text, values)


def _bare(kind: Any) -> Any:
    """The type of a field without `| None` and without its parameters."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    return typing.get_origin(kind) or kind


def _for_sqlite(value: Any) -> Any:
    if isinstance(value, Json):
        return _json(value.value)
    if isinstance(value, list | tuple | set | frozenset):
        return _json(list(value))
    return value


def _for_postgres(value: Any) -> Any:
    if isinstance(value, Json):
        from psycopg.types.json import Json as PostgresJson  # here, so that a farm on SQLite does not load psycopg

        return PostgresJson(value.value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return value
