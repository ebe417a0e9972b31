"""How a database comes by the rows of every statement that real functions execute, told by the database itself.

`watched` hooks into SQLAlchemy and into our statements, so that the statements are those of the code, with their
values, at the moment they are executed. PostgreSQL explains and executes each in a savepoint first (`EXPLAIN (ANALYZE,
BUFFERS)`), planned for any values, as it plans for the farm; SQLite tells its plan, and the steps of its virtual
machine are counted.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, event

from whisper_farm.store import statements
from whisper_farm.store.tables import metadata

INDEXED = {str(index.name): table.name for table in metadata.sorted_tables for index in table.indexes}
INDEXED |= {f"pk_{table.name}": table.name for table in metadata.sorted_tables}
LIVE_ATTEMPTS = "live attempts"
OF_LIVE_ATTEMPTS = {"ix_attempts_one_live", "ix_attempts_lease", "ix_attempts_held"}
STEPS_AT_ONCE = 50
_EXPLAINED = re.compile(r"\s*(SELECT|UPDATE|DELETE|WITH)\b")
_PLACE = re.compile(r"%\((\w+)\)s")
_STEP = re.compile(
    r"(SCAN|SEARCH) (\S+)(?:.*? USING (?:AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?(?:INDEX (\S+)|(INTEGER)))?"
)
_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan", "Bitmap Heap Scan", "Tid Scan")


@dataclass(frozen=True)
class Access:
    """One step of a plan: a table, the index used, whether it was searched in (or walked through), rows looked at."""

    table: str
    index: str | None
    searched: bool
    rows: int = 0


@dataclass
class Seen:
    """One statement. `effort` is what it cost: blocks touched on PostgreSQL, steps of the machine on SQLite."""

    statement: str
    values: int
    plan: str
    accesses: list[Access] = field(default_factory=list)
    effort: int = 0

    def __repr__(self) -> str:
        return f"\n{self.statement}\n{self.plan}\neffort {self.effort}\n"


@contextmanager
def watched(connection: Connection) -> Iterator[list[Seen]]:
    """What is executed in the block."""
    driver = connection.connection.driver_connection
    seen: list[Seen] = []
    reader = _Lite(driver, seen) if isinstance(driver, sqlite3.Connection) else _Postgres(driver, seen)

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        if _EXPLAINED.match(statement):
            reader.read(statement, parameters[0] if many else parameters)

    def run(execute: Callable[[str, Any], object], text: str, values: Any) -> None:
        note(None, None, text, values, None, isinstance(values, list))
        execute(text, values)

    event.listen(connection, "before_cursor_execute", note)
    try:
        with mock.patch.object(statements, "execute", run):
            yield seen
    finally:
        event.remove(connection, "before_cursor_execute", note)
        reader.close()


class _Lite:
    def __init__(self, driver: sqlite3.Connection, seen: list[Seen]) -> None:
        self._driver, self._seen = driver, seen
        self._indexes = self._named()
        driver.set_progress_handler(self._count, STEPS_AT_ONCE)

    def close(self) -> None:
        self._driver.set_progress_handler(None, 0)

    def read(self, statement: str, parameters: Any) -> None:
        rows = self._driver.execute("EXPLAIN QUERY PLAN " + statement, parameters)
        steps = [str(row[-1]) for row in rows]
        accesses = [self._access(*found.groups()) for step in steps if (found := _STEP.match(step))]
        self._seen.append(Seen(statement, len(parameters), "\n".join(steps), accesses))

    def _access(self, how: str, name: str, index: str | None, by_number: str | None) -> Access:
        if index is None and not by_number:
            return Access(name, None, False)
        index = f"pk_{name}" if by_number else self._indexes.get(index or "", index)
        return Access(INDEXED.get(index or "", name), index, how == "SEARCH")

    def _count(self) -> int:
        if self._seen:
            self._seen[-1].effort += STEPS_AT_ONCE
        return 0

    def _named(self) -> dict[str, str]:
        """SQLite's own names of the indexes behind constraints, and the names that PostgreSQL knows them by."""
        named = {}
        for table in metadata.tables:
            for _, name, _, origin, _ in self._driver.execute(f"PRAGMA index_list({table})").fetchall():
                columns = [row[2] for row in self._driver.execute(f"PRAGMA index_info({name})")]
                named[name] = {"pk": f"pk_{table}", "u": f"uq_{table}_{'_'.join(map(str, columns))}"}.get(origin, name)
        return named


class _Postgres:
    def __init__(self, driver: Any, seen: list[Seen]) -> None:
        assert isinstance(driver, psycopg.Connection)
        self._driver, self._seen = driver, seen

    def close(self) -> None:
        """Nothing is left behind: every savepoint was rolled back."""

    def read(self, statement: str, parameters: Any) -> None:
        names = list(dict.fromkeys(_PLACE.findall(statement)))
        numbered = _PLACE.sub(lambda found: f"${names.index(found[1]) + 1}", statement).replace("%%", "%")
        run = self._driver.execute
        run("SAVEPOINT explained")
        run(f"PREPARE explained AS {numbered}")
        values = sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names)
        given = sql.SQL("({})").format(values) if names else sql.SQL("")
        explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained"
        (row,) = run(sql.SQL(explain) + given).fetchall()
        run("DEALLOCATE explained")
        run("ROLLBACK TO explained")
        plan = row[0][0]["Plan"]
        accesses = [one for node in _nodes(plan) if (one := _access(node))]
        effort = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self._seen.append(
            Seen(statement, sum(map(_values, parameters.values())), "\n".join(_told(plan)), accesses, effort)
        )


def _values(parameter: object) -> int:
    """How many values a parameter brings: a list, or rows as JSON, more than one."""
    several = parameter.obj if isinstance(parameter, Jsonb) else parameter
    return len(several) if isinstance(several, list) else 1


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _access(node: dict[str, Any]) -> Access | None:
    if node["Node Type"] not in _SCANS:
        return None
    index = node.get("Index Name")
    table = node.get("Relation Name") or INDEXED.get(index or "", "?")
    searched = "Index Cond" in node or "Recheck Cond" in node
    return Access(table, index, searched, _looked_at(node))


def _looked_at(node: dict[str, Any]) -> int:
    thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + thrown_away) * node["Actual Loops"])


def _told(plan: dict[str, Any], depth: int = 0) -> Iterator[str]:
    shown = ("Index Name", "Relation Name", "Index Cond", "Filter", "Rows Removed by Filter")
    facts = ", ".join(f"{name.lower()} {plan[name]}" for name in shown if name in plan)
    yield f"{'  ' * depth}{plan['Node Type']} {facts}: {plan['Actual Rows']} rows, {plan['Actual Loops']} times"
    for child in plan.get("Plans", ()):
        yield from _told(child, depth + 1)


def used(seen: Sequence[Seen]) -> set[str]:
    """The indexes that were searched in; `live attempts` stands for any that holds nothing else, searched or walked."""
    accesses = [one for each in seen for one in each.accesses if one.index]
    found = {one.index for one in accesses if one.searched and one.index}
    return found | ({LIVE_ATTEMPTS} if any(one.index in OF_LIVE_ATTEMPTS for one in accesses) else set())
