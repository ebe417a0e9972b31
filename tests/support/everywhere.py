"""The model and the databases side by side: every question goes to all, every answer and every row is compared."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, is_dataclass
from operator import attrgetter
from typing import Any, Protocol

from pydantic import BaseModel
from sqlalchemy import bindparam, delete, select

from support.always import Snapshot, check_step
from support.hand_farm import claim
from support.model import Attempt, Job, Model, Profile, Recording, Worker
from whisper_farm.errors import FarmError
from whisper_farm.leases.append import append
from whisper_farm.leases.attempts import heartbeat
from whisper_farm.leases.claim import Claimed
from whisper_farm.leases.complete import complete
from whisper_farm.leases.fail import fail, release
from whisper_farm.leases.lapse import reap
from whisper_farm.leases.rules import Mint
from whisper_farm.leases.transcriptions import assembled, cancel, next_to_assemble, results_of, retry, submit
from whisper_farm.leases.transcriptions import delete as forget
from whisper_farm.leases.waiting import next_due
from whisper_farm.leases.workers import dismiss, drain, register_worker
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.tables import attempts, events, farm, jobs, metadata, profiles, transcriptions, workers

Rows = dict[str, Sequence[Any]]
TABLES = {
    "transcriptions": (transcriptions, Recording, {"error_message", "folded_name"}),
    "jobs": (jobs, Job, {"error_message", "flow"}),
    "attempts": (attempts, Attempt, {"error_message", "facts", "doubted", "heard_revision"}),
    "profiles": (profiles, Profile, {"options"}),
    "workers": (
        workers,
        Worker,
        {"version", "platform", "slots", "engines", "machine", "hours", "token_id", "differed"},
    ),
}
"""Every table the queue changes, the model's word for its rows, and the columns that are not compared."""
COLUMNS = {name: [one for one in table.c if one.name not in hidden] for name, (table, _, hidden) in TABLES.items()}
READ = {
    name: (attrgetter(*(one.name for one in columns)), select(*columns).order_by(columns[0]))
    for name, columns in COLUMNS.items()
}
"""How to read all rows, as tuples in order of their keys: from the model, and from a database."""
_TURN = select(farm.c.turn)
_NEWS = (
    select(events.c.id, events.c.at, events.c.kind, events.c.transcription_id, events.c.owner, events.c.data)
    .where(events.c.id > bindparam("last"))
    .order_by(events.c.id)
)


class Numbered(Mint):
    """A mint that never surprises: ids and tokens count up, the jitter goes round."""

    def __init__(self) -> None:
        self._ids, self._tokens, self._jitters = itertools.count(1), itertools.count(1), itertools.count(1)

    def transcription_id(self) -> str:
        return f"t{next(self._ids):011}"

    def claim_token(self) -> str:
        return f"token-{next(self._tokens):014}"

    def jitter(self) -> float:
        return 0.5 + next(self._jitters) % 8 / 16


class Queue(Protocol):
    """What can be asked."""

    def ask(self, now: float, name: str, *told: Any) -> object: ...
    def rows(self) -> Rows: ...


class Modelled:
    """The queue as the model has it."""

    def __init__(self, policy: Policy) -> None:
        self.model = Model(policy, Numbered())

    def ask(self, now: float, name: str, *told: Any) -> object:
        self.model.now = now
        return getattr(self.model, name)(*told)

    def rows(self) -> Rows:
        found = {}
        for name, (read, _) in READ.items():
            rows = getattr(self.model, {"transcriptions": "recordings"}.get(name, name))
            found[name] = [read(rows[key]) for key in sorted(rows)]
        told, self.model.events = self.model.events, []
        return found | {"turn": [(self.model.turn,)] if self.model.turn is not None else [], "events": told}


class Stored:
    """The queue as a database has it, emptied first."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self.database = database
        self.calls = _calls(policy, Numbered())
        database.write(lambda tx: [tx.connection.execute(delete(one)) for one in reversed(metadata.sorted_tables)])
        self.last_event = 0

    def ask(self, now: float, name: str, *told: Any) -> object:
        run = {"heartbeat": self.database.beat, "next_due": self.database.read}.get(name, self.database.write)
        return run(lambda tx: self.calls[name](tx, *told), now)

    def rows(self) -> Rows:
        return self.database.read(self._rows)

    def _rows(self, tx: Transaction) -> Rows:
        run = tx.connection.execute
        found: Rows = {name: run(query).all() for name, (_, query) in READ.items()}
        found["turn"] = run(_TURN).all()
        news = run(_NEWS, {"last": self.last_event}).all()
        self.last_event = news[-1][0] if news else self.last_event
        return found | {"events": [(*row[1:-1], _silent(row[-1])) for row in news]}


def _silent(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "message"}


def _told(claimed: Claimed) -> dict[str, Any]:
    """A claim with its options as they are pinned, instead of the columns they come of."""
    told = asdict(claimed) | {"options": claimed.options, "expected_language": claimed.expected_language}
    return {name: value for name, value in told.items() if name not in ("asked", "language", "revision")}


def _calls(policy: Policy, mint: Mint) -> dict[str, Callable[..., object]]:
    return {
        "submit": lambda tx, new: submit(tx, new, mint),
        "register": lambda tx, request, owner: register_worker(tx, request, owner, policy),
        "drain": drain,
        "dismiss": dismiss,
        "claim": lambda tx, request: [_told(one) for one in claim(tx, request, policy, mint)],
        "next_due": next_due,
        "heartbeat": lambda tx, request: heartbeat(tx, request, policy),
        "append": lambda tx, request: append(tx, request, policy),
        "complete": lambda tx, completions: complete(tx, completions, policy, mint),
        "fail": lambda tx, request: fail(tx, request, policy, mint),
        "release": lambda tx, request: release(tx, request, policy),
        "cancel": cancel,
        "retry": retry,
        "delete": forget,
        "next_to_assemble": next_to_assemble,
        "assembled": assembled,
        "results_of": results_of,
        "reap": lambda tx: reap(tx, policy),
    }


def plain(value: Any) -> Any:
    """Answers and rows in one shape: no classes, no texts for people, no last bits of floats."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key not in ("message", "error_message")}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


class Everywhere:
    """Asks all, compares all, watches over what must always be true, and counts what has happened."""

    def __init__(self, databases: Sequence[Database], policy: Policy, happened: Counter[str]) -> None:
        modelled = Modelled(policy)
        self.model = modelled.model
        self.queues: dict[str, Queue] = {"the model": modelled}
        self.queues |= {database.dialect: Stored(database, policy) for database in databases}
        self.policy, self.happened, self.now = policy, happened, 1_000_000.0
        self.rows: dict[str, dict[str, Any]] = {}
        self.before: Snapshot = {name: {} for name in TABLES}
        self.before = self._snapshot()

    def ask(self, name: str, *told: Any) -> Any:
        """The answer of all of them, or the refusal as `{"refused": CODE}`."""
        answers = {who: self._answer(queue, name, told) for who, queue in self.queues.items()}
        answer = answers["the model"]
        for who, other in answers.items():
            assert other == answer, f"{name}{told}: {who} answers {other}, the model {answer}"
        refused = isinstance(answer, dict) and "refused" in answer
        self.happened[f"{name} refused: {answer['refused']}" if refused else name] += 1
        after = self._snapshot()
        assert not refused or after == self.before | {"events": ()}, f"{name} was refused and changed something"
        check_step(name, self.before, after, self.policy.max_attempts)
        self._count(after)
        self.before = after
        return answer

    def _answer(self, queue: Queue, name: str, told: Sequence[Any]) -> Any:
        try:
            return plain(queue.ask(self.now, name, *told))
        except FarmError as error:
            return {"refused": error.code}

    def _snapshot(self) -> Snapshot:
        """The rows of a database by their keys, after all have been found equal."""
        found = {who: queue.rows() for who, queue in self.queues.items()}
        for who, rows in found.items():
            for part, mine in found["the model"].items():
                assert rows[part] == mine, f"{part}: {who} has {rows[part]}, the model {mine}"
        rows = found[next(reversed(found))]
        snapshot: Snapshot = {name: self._named(name, rows[name]) for name in TABLES}
        told = ("at", "kind", "transcription_id", "owner", "data")
        snapshot["events"] = tuple(dict(zip(told, event, strict=True)) for event in rows["events"])
        snapshot["turn"] = rows["turn"][0][0] if rows["turn"] else 0
        return snapshot

    def _named(self, table: str, rows: Sequence[Any]) -> dict[str, Any]:
        """The rows as dictionaries; one that has not changed is the same dictionary as before."""
        old, known, names = self.rows.get(table, {}), self.before[table], [one.name for one in COLUMNS[table]]
        self.rows[table] = {row[0]: row for row in rows}
        return {row[0]: known[row[0]] if row == old.get(row[0]) else dict(zip(names, row, strict=True)) for row in rows}

    def _count(self, after: Snapshot) -> None:
        self.happened.update(f"event {event['kind']}" for event in after["events"])
        for token, one in after["attempts"].items():
            before = self.before["attempts"].get(token)
            if before is not one and (before is None or before["state"] != one["state"]):
                self.happened[f"{'hedge' if one['hedge'] else 'attempt'} {one['state']}"] += 1


def check_columns() -> None:
    """The model has a word for every column, but for those that are named as hidden."""
    for table, row, hidden in TABLES.values():
        assert {one.name for one in fields(row)} - hidden == {one.name for one in table.c} - hidden
