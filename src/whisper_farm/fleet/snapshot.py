"""What one round knows, and the words for what it decides: the same for the loop, the simulation and a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from whisper_farm.fleet.pools import Fleet
from whisper_farm.store.machines import MachineRow, NeedRow, PoolRow
from whisper_farm.store.workers import PresentWorker

Action = Literal["create", "ask", "start", "drain", "dismiss", "expect", "stop", "destroy", "close"]
CALLS: frozenset[Action] = frozenset({"create", "ask", "start", "stop", "destroy"})
"""What a provider has to be asked for; the rest is a matter of the books and of the queue."""
ALIVE = ("live", "draining", "dismissed")
"""States of a worker that is there."""
COMING = ("intended", "accepted", "started")
SERVING = ("working",)
LEAVING = ("draining", "stopping")
"""States of a machine that will serve, serves, or ends in good order."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to do now, and why."""

    action: Action
    pool: str
    launch_id: str
    why: str
    region: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many machines a pool should have, and why, with the numbers that led there."""

    pool: str
    wanted: int
    why: str
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    """All that is known at one moment. `listed_at` says when each provider was last heard."""

    now: float
    fleet: Fleet
    machines: dict[str, MachineRow]
    pools: dict[str, PoolRow]
    needs: list[NeedRow]
    workers: list[PresentWorker]
    listed_at: Mapping[str, float]
    spent: Mapping[str, float]
    """What machines that are gone have cost, by pool."""
    ended_today: list[MachineRow] = field(default_factory=list)


def about(row: MachineRow, action: Action, why: str, region: str = "") -> Decision:
    """A decision about this machine."""
    return Decision(action, row.pool, row.launch_id, why, region or row.region)
