"""The words in which `tables.py` says what a table has: columns by type, rules that hold in every row, and indexes.

`each` row fills its columns, only `some` do, or they begin at `zero`. The predicates of partial indexes are literal:
SQLite proves that an index fits when it *prepares* a statement, before any value is bound. So the queries must say
`state = 'queued'` in just these words, or they read whole tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Kind = TypeEngine[Any]
TEXT, INTEGER, BIGINT, BOOLEAN = Text(), Integer(), BigInteger(), Boolean()
REAL: Kind = Double()
JSON_TEXT = JSON(none_as_null=True)
Columns = list[Column[Any]]
Rule = CheckConstraint | UniqueConstraint | Index


def table(name: str, *parts: Columns | Rule, numbered: bool = False) -> Table:
    """A table of these columns, constraints and indexes; `numbered` rows never get the number of a deleted one."""
    flat = [one for part in parts for one in (part if isinstance(part, list) else [part])]
    return Table(name, metadata, *flat, sqlite_autoincrement=numbered)


def each(kind: Kind, names: str) -> Columns:
    """Columns that have a value in each row."""
    return [Column(name, kind, nullable=False) for name in names.split()]


def some(kind: Kind, names: str) -> Columns:
    """Columns that may be null."""
    return [Column(name, kind) for name in names.split()]


def zero(kind: Kind, names: str) -> Columns:
    """Columns that begin at zero, empty or false."""
    start = false() if kind is BOOLEAN else text("''") if kind is TEXT else "0"
    return [Column(name, kind, nullable=False, server_default=start) for name in names.split()]


def key(name: str) -> Columns:
    """The key, as somebody else makes it."""
    return [Column(name, TEXT, primary_key=True)]


def number() -> Columns:
    """The key, as the database counts it."""
    return [Column("id", BIGINT.with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)]


def single() -> list[Any]:
    """The key of a table with one row."""
    return [Column("id", INTEGER, primary_key=True, autoincrement=False), holds("single", "id = 1")]


def of(name: str, parent: str, cascade: bool = True) -> Columns:
    """A reference to the key of another table; with `cascade` the row goes with its parent."""
    return [Column(name, TEXT, ForeignKey(parent, ondelete="CASCADE" if cascade else None), nullable=False)]


def one_of(column: str, *values: str) -> CheckConstraint:
    """The column holds one of these words."""
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=f"{column}_known")


def holds(name: str, condition: str) -> CheckConstraint:
    """An invariant of every row, named so that a violation says what went wrong."""
    return CheckConstraint(condition, name=name)


def index(*columns: str) -> Index:
    """An index over all rows."""
    return Index(None, *columns)


def partial(name: str, predicate: str, *columns: str | TextClause, unique: bool = False) -> Index:
    """An index over the few rows that a hot query looks at."""
    where = text(predicate)
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
