"""The words in which `tables.py` says what a table has: columns by type, rules that hold in every row, and indexes.

`each` row fills its columns, only `some` do, or they begin at `zero`. The predicates of partial indexes are literal:
SQLite proves that an index fits when it *prepares* a statement, before any value is bound. So the queries must say
`state = 'queued'` in just these words, or they read whole tables.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Kind = TypeEngine[Any]
TEXT, INTEGER, BIGINT, BOOLEAN = sa.Text(), sa.Integer(), sa.BigInteger(), sa.Boolean()
REAL: Kind = sa.Double()
JSON_TEXT = sa.JSON(none_as_null=True)
Columns = list[sa.Column[Any]]
Rule = sa.CheckConstraint | sa.UniqueConstraint | sa.Index


def table(name: str, *parts: Columns | Rule, numbered: bool = False) -> sa.Table:
    """A table of these columns, constraints and indexes; `numbered` rows never get the number of a deleted one."""
    flat = [one for part in parts for one in (part if isinstance(part, list) else [part])]
    return sa.Table(name, metadata, *flat, sqlite_autoincrement=numbered)


def each(kind: Kind, names: str) -> Columns:
    """Columns that have a value in each row."""
    return [sa.Column(name, kind, nullable=False) for name in names.split()]


def some(kind: Kind, names: str) -> Columns:
    """Columns that may be null."""
    return [sa.Column(name, kind) for name in names.split()]


def zero(kind: Kind, names: str) -> Columns:
    """Columns that begin at zero, empty or false."""
    start = sa.false() if kind is BOOLEAN else sa.text("''") if kind is TEXT else "0"
    return [sa.Column(name, kind, nullable=False, server_default=start) for name in names.split()]


def key(name: str) -> Columns:
    """The key, as somebody else makes it."""
    return [sa.Column(name, TEXT, primary_key=True)]


def number() -> Columns:
    """The key, as the database counts it."""
    return [sa.Column("id", BIGINT.with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True)]


def single() -> list[Any]:
    """The key of a table with one row."""
    return [sa.Column("id", INTEGER, primary_key=True, autoincrement=False), holds("single", "id = 1")]


def of(name: str, parent: str, cascade: bool = True) -> Columns:
    """A reference to the key of another table; with `cascade` the row goes with its parent."""
    return [sa.Column(name, TEXT, sa.ForeignKey(parent, ondelete="CASCADE" if cascade else None), nullable=False)]


def one_of(column: str, *values: str) -> sa.CheckConstraint:
    """The column holds one of these words."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=f"{column}_known")


def holds(name: str, condition: str) -> sa.CheckConstraint:
    """An invariant of every row, named so that a violation says what went wrong."""
    return sa.CheckConstraint(condition, name=name)


def index(*columns: str) -> sa.Index:
    """An index over all rows."""
    return sa.Index(None, *columns)


def partial(name: str, predicate: str, *columns: str | sa.TextClause, unique: bool = False) -> sa.Index:
    """An index over the few rows that a hot query looks at."""
    where = sa.text(predicate)
    return sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
