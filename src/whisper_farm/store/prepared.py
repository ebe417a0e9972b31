"""Statements that are run again and again, made ready once.

SQLAlchemy looks up, checks and wraps every statement anew each time it is executed, which costs several times what
SQLite needs to run one. `Prepared` keeps what it finds out: the text for each database, and how values go in and come
out. Columns with defaults made in Python, lists unfolded into the text (`in_` with a parameter) and the like are
SQLAlchemy's own; such statements are executed by it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.dialects import sqlite

Clause = Select[*tuple[Any, ...]] | Insert | Update | Delete
Parameters = Mapping[str, Any]
Convert = Callable[[Any], Any]
_NAMED = sqlite.dialect(paramstyle="named")


class Prepared:
    """A statement of SQLAlchemy Core whose text does not depend on its values. Rows come back as named tuples."""

    __slots__ = ("_clause", "_forms")

    def __init__(self, clause: Clause) -> None:
        self._clause = clause
        self._forms: dict[str, _Form] = {}

    def rows(self, connection: Connection, values: Parameters) -> list[Any]:
        """Execute it, and fetch all that it finds or returns."""
        form = self._form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            run(cursor.execute, form.text, form.bound(values))
            return form.read(cursor.fetchall())
        finally:
            cursor.close()

    def run(self, connection: Connection, values: Parameters | Sequence[Parameters]) -> None:
        """Execute it once, or once for each set of values."""
        form = self._form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            if isinstance(values, Mapping):
                run(cursor.execute, form.text, form.bound(values))
            elif len(values) == 1:
                run(cursor.execute, form.text, form.bound(values[0]))
            elif values:
                run(cursor.executemany, form.text, [form.bound(each) for each in values])
        finally:
            cursor.close()

    def _form(self, dialect: Dialect) -> _Form:
        form = self._forms.get(dialect.name)
        if form is None:
            self._forms[dialect.name] = form = _Form(self._clause, dialect)
        return form


class _Form:
    """The statement as one database wants it."""

    def __init__(self, clause: Clause, dialect: Dialect) -> None:
        compiled = clause.compile(dialect=_NAMED if dialect.name == "sqlite" else dialect)
        self.text = str(compiled)
        if "POSTCOMPILE" in self.text or compiled.insert_prefetch or compiled.update_prefetch:
            raise TypeError(f"this statement has to be executed by SQLAlchemy: {self.text}")
        converters = {name: _way_in(bind.type, dialect) for name, bind in compiled.binds.items()}
        self._converters = {name: convert for name, convert in converters.items() if convert is not None}
        given = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}
        self._fixed = {name: self._converted(name, value) for name, value in given.items()}
        columns = list(clause.exported_columns)
        row = namedtuple("Row", [column.key or "" for column in columns], rename=True)  # type: ignore[misc]
        self._make: Callable[[Sequence[Any]], Any] = row._make
        # psycopg gives values as they are meant; SQLite knows neither booleans nor JSON
        ways_out = [_way_out(column.type, dialect) if dialect.name == "sqlite" else None for column in columns]
        self._ways_out = [(number, convert) for number, convert in enumerate(ways_out) if convert is not None]

    def bound(self, values: Parameters) -> Parameters:
        """All parameters, as the driver takes them."""
        return self._fixed | {name: self._converted(name, value) for name, value in values.items()}

    def read(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Rows of the driver as named tuples."""
        if not self._ways_out:
            return list(map(self._make, rows))
        found = []
        for row in rows:
            values = list(row)
            for number, convert in self._ways_out:
                values[number] = convert(values[number])
            found.append(self._make(values))
        return found

    def _converted(self, name: str, value: Any) -> Any:
        convert = self._converters.get(name)
        return value if convert is None else convert(value)


def run(execute: Callable[[str, Any], object], text: str, values: object) -> None:
    """Where every prepared statement is executed."""
    execute(text, values)


def _way_in(kind: Any, dialect: Dialect) -> Convert | None:
    convert: Convert | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return convert


def _way_out(kind: Any, dialect: Dialect) -> Convert | None:
    convert: Convert | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    return convert
