"""Every statement of the farm is understood by both databases, and finds the columns its rows are declared with."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import psycopg
from psycopg import errors as pg

from whisper_farm import leases, store
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.statements import Change, Query

MISTAKES = (pg.SyntaxError, pg.UndefinedColumn, pg.UndefinedTable, pg.UndefinedFunction, pg.AmbiguousColumn)
"""What no value of a parameter could mend."""


def constants() -> dict[str, Change]:
    """All statements of the rooms that write SQL, by where they stand."""
    found: dict[str, Change] = {}
    for room in (store, leases):
        for info in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            for name, value in vars(importlib.import_module(info.name)).items():
                several = value.items() if isinstance(value, dict) else [("", value)]
                found |= {f"{info.name}.{name}{one}": each for one, each in several if isinstance(each, Change)}
    return found


def values(statement: Change) -> dict[str, Any]:
    """Some value for every parameter."""
    return dict.fromkeys(re.findall(r":(\w+)", statement.sqlite), 1)


def mistake(tx: Transaction, statement: Change) -> str:
    """What the database does not understand in a statement; nothing if it does."""
    if tx.dialect == "sqlite":
        tx.connection.exec_driver_sql(f"EXPLAIN {statement.sqlite}", values(statement))
        return ""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement.postgres)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement.postgres)
    driver = tx.connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.transaction():
            driver.execute(f"PREPARE one AS {numbered.replace('%%', '%')}".encode())
            driver.execute("DEALLOCATE one")
    except MISTAKES as error:
        return f"{statement.postgres}: {error}"
    except psycopg.Error:  # for want of the values' types
        return ""
    return ""


def test_both_databases_understand_every_statement(database: Database) -> None:
    found = constants()
    assert len(found) > 30
    wrong = {name: why for name, one in found.items() if (why := database.read(lambda tx, one=one: mistake(tx, one)))}
    assert wrong == {}


def test_what_is_selected_has_the_columns_of_its_row(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    for statement in constants().values():
        if isinstance(statement, Query) and statement.sqlite.split()[0] in ("SELECT", "WITH"):
            assert isinstance(database.read(lambda tx, one=statement: tx.rows(one, values(one))), list)
    database.close()


def test_no_statement_asks_for_every_column_because_a_newer_release_may_add_one() -> None:
    everything = re.compile(r"(SELECT|RETURNING|,)\s+(\w+\.)?\*", re.IGNORECASE)
    assert [name for name, one in constants().items() if everything.search(f"{one.sqlite} {one.postgres}")] == []
