"""Workers as clients and administrators see them, and how rows of workers long gone are removed.

How workers register, claim and leave is the business of `leases/`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query


@dataclass(frozen=True, slots=True)
class PresentWorker:
    """What a worker does, and how many jobs it holds. `machine` is what it said of the machine that it runs on."""

    id: str
    state: Literal["live", "draining", "dismissed", "gone"]
    paused: bool
    slots: int
    engines: list[dict[str, Any]]
    machine: dict[str, Any] | None
    last_seen_at: float
    audio_seconds: float
    work_seconds: float
    jobs: int

    @property
    def launch_id(self) -> str | None:
        """The launch that brought it here; None if nobody launched it."""
        return None if self.machine is None else self.machine["launch_id"]

    @property
    def speed(self) -> float | None:
        """Audio-seconds a second of recognition in one slot, over its life; None before its first result."""
        return self.audio_seconds / self.work_seconds if self.work_seconds > 0 else None


@dataclass(frozen=True, slots=True)
class WorkerRow(PresentWorker):
    """A worker as people see it."""

    name: str
    version: str
    platform: str
    label: str
    compared: int
    differed: int
    hours: str | None
    wanted_hours: str | None
    cuts: bool

    @property
    def resting(self) -> bool:
        """Whether it offers nothing: it is outside of its working hours."""
        return not self.engines and not self.cuts


COLUMNS = """
    SELECT id, name, version, platform, label, hours, cuts, slots, engines, machine, state, paused, last_seen_at,
           audio_seconds, work_seconds, compared, differed,
           (SELECT hours FROM working_hours WHERE working_hours.name = workers.name) AS wanted_hours,
           (SELECT count(*) FROM attempts WHERE attempts.worker_id = workers.id AND attempts.state = 'live') AS jobs
      FROM workers
"""
PRESENT = Query[WorkerRow](f"{COLUMNS} WHERE state <> 'gone' OR last_seen_at >= :gone_since ORDER BY name, id")
FIND = Query[WorkerRow](f"{COLUMNS} WHERE id = :id")
TOKEN = Query[str]("SELECT token_id FROM workers WHERE id = :id")
FORGETTABLE = """
    state = 'gone' AND last_seen_at < :before
    AND NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.worker_id = workers.id)
"""
LONG_GONE = Query[str](f"SELECT id FROM workers WHERE {FORGETTABLE} LIMIT :limit")
FORGET = Change(f"DELETE FROM workers WHERE id IN :ids AND {FORGETTABLE}")


def list_workers(tx: Transaction, gone_since: float = float("inf")) -> list[WorkerRow]:
    """The workers that are there, and those that went since that time; by name."""
    return tx.rows(PRESENT, {"gone_since": gone_since})


def unlabelled_workers(tx: Transaction, gone_since: float) -> list[PresentWorker]:
    """Those of them without a label, which the machines of the fleet are started for."""
    return [one for one in list_workers(tx, gone_since) if not one.label]


def find_worker(tx: Transaction, worker_id: str) -> WorkerRow:
    """One worker; raises `NotFound`."""
    return tx.one(FIND, {"id": worker_id}, f"worker {worker_id}")


def token_of_worker(tx: Transaction, worker_id: str) -> str | None:
    """The token that a worker was registered with; None if there is no such worker."""
    return tx.first(TOKEN, {"id": worker_id})


def long_gone(tx: Transaction, before: float, limit: int) -> list[str]:
    """Workers that went before that time and that no attempt names: an attempt is evidence, and shows the name."""
    return tx.rows(LONG_GONE, {"before": before, "limit": limit})


def forget_workers(tx: Transaction, ids: Collection[str], before: float) -> int:
    """Remove those of these workers that are still long gone; returns how many."""
    return tx.changed(FORGET, {"ids": list(ids), "before": before})
