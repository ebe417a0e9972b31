"""Many rows or values as one parameter of a statement, so that its text is the same however many there are.

A statement of its own for each row costs PostgreSQL several times as much, for it makes all CHECK constraints of the
table ready anew for each; a statement with a parameter for each value is rendered, parsed and planned anew for every
number of them. Rows go in as JSON, which both databases unfold into a table, `given`. They must hold no fractions:
SQLite may read those a hair off. What all rows share is a parameter of its own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, Insert, Table, Text, bindparam, insert, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction


class unfolded(GenericFunction[Any]):  # noqa: N801
    """A JSON array as a table with one column, `value`."""

    inherit_cache = True


class field(GenericFunction[Any]):  # noqa: N801
    """One entry of a JSON object, as a value of a type."""

    inherit_cache = True


class is_among(GenericFunction[bool]):  # noqa: N801
    """Whether a text is in a list of texts."""

    inherit_cache = True


ROWS = unfolded(bindparam("rows", type_=JSONB().with_variant(JSON(), "sqlite"))).table_valued("value", name="given")
"""The statement's parameter `rows`, as a table."""


def given(column: Column[Any]) -> ColumnElement[Any]:
    """What each row of the statement's parameter `rows` says for that column."""
    return field(ROWS.c.value, literal_column(f"'{column.name}'"), type_=column.type)


def insert_given(table: Table, *names: str, **shared: ColumnElement[Any]) -> Insert:
    """Insert the parameter `rows`, in order: these columns of each, and what all of them share."""
    values = [given(table.c[name]) for name in names]
    return insert(table).from_select([*names, *shared], select(*values, *shared.values()).select_from(ROWS))


def among(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Whether the column's text is one of the list that the statement's parameter of that name holds."""
    return is_among(column, bindparam(name, type_=ARRAY(Text()).with_variant(JSON(), "sqlite")))


@compiles(unfolded, "sqlite")
def _unfolded_by_sqlite(element: unfolded, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_each{compiler.process(element.clause_expr, **how)}"


@compiles(unfolded, "postgresql")
def _unfolded_by_postgres(element: unfolded, compiler: SQLCompiler, **how: Any) -> str:
    return f"jsonb_array_elements{compiler.process(element.clause_expr, **how)}"


@compiles(field, "sqlite")
def _field_by_sqlite(element: field, compiler: SQLCompiler, **how: Any) -> str:
    value, name = (compiler.process(clause, **how) for clause in element.clauses)
    return f"json_extract({value}, '$.' || {name})"


@compiles(field, "postgresql")
def _field_by_postgres(element: field, compiler: SQLCompiler, **how: Any) -> str:
    value, name = (compiler.process(clause, **how) for clause in element.clauses)
    return f"CAST({value} ->> {name} AS {compiler.dialect.type_compiler_instance.process(element.type)})"


@compiles(is_among, "sqlite")
def _among_by_sqlite(element: is_among, compiler: SQLCompiler, **how: Any) -> str:
    column, values = (compiler.process(clause, **how) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(is_among, "postgresql")
def _among_by_postgres(element: is_among, compiler: SQLCompiler, **how: Any) -> str:
    column, values = (compiler.process(clause, **how) for clause in element.clauses)
    return f"{column} = ANY({values})"
