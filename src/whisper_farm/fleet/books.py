"""The books of one round: how rows change by what is decided, and by what providers answer. See `sightings.py`, too.

Pure: it has a clock given to it, asks nobody and writes nothing. What changed is collected, to be kept in one
transaction. The rules that no change breaks: a launch is `gone` only when that is proven, a stretch of running time is
never lost, and whoever was given up stays given up.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.providers.provider import NO_RETRY, NOTHING_MADE, CallFailed, Seen
from whisper_farm.fleet.snapshot import ALIVE, Decision, Snapshot, Verdict
from whisper_farm.store.machines import LogRow, MachineRow, PoolRow
from whisper_farm.store.workers import PresentWorker

_NUMBER = re.compile(r"[\d.]+")


class Books:
    """The rows of one round. `draw` gives numbers from 0 to 1, for the jitter."""

    def __init__(self, snapshot: Snapshot, draw: Callable[[], float] = random.random) -> None:
        self.snapshot = snapshot
        self.now = snapshot.now
        self.rules = snapshot.fleet.fleet
        self.changed_machines: set[str] = set()
        self.changed_pools: set[str] = set()
        self.log: list[LogRow] = []
        self._draw = draw
        self.by_launch = {worker.launch_id: worker for worker in snapshot.workers if worker.launch_id}

    def machine(self, launch_id: str) -> MachineRow:
        """The row of a launch."""
        return self.snapshot.machines[launch_id]

    def pool(self, name: str) -> PoolRow:
        """What is remembered of a pool."""
        return self.snapshot.pools.get(name) or PoolRow(name)

    def worker_of(self, machine: MachineRow) -> PresentWorker | None:
        """The worker that runs on a machine, or ran lately."""
        return self.by_launch.get(machine.launch_id)

    def is_alive(self, machine: MachineRow) -> bool:
        """Whether its worker is heard of: then it is not gone, whatever its provider says."""
        worker = self.worker_of(machine)
        return worker is not None and worker.state in ALIVE

    def is_fresh(self, provider: str) -> bool:
        """Whether a provider was heard of lately: nothing is concluded from older knowledge."""
        heard = self.snapshot.listed_at.get(provider)
        return heard is not None and self.now - heard <= self.rules.fresh_seconds

    def region(self, pool: Pool) -> str | None:
        """The first region of a pool that is not known to be full; None if all are. Those that were come last."""
        full, forgotten = self.pool(pool.name).full_regions, self.now - self.rules.block_seconds
        free = [one for one in pool.regions or ("",) if full.get(one, 0) <= self.now]
        return min(free, key=lambda one: max(full.get(one, 0), forgotten), default=None)

    def runs(self, row: MachineRow, seen: Seen) -> None:
        """A machine runs: its time is counted from when it began."""
        facts: dict[str, Any] = {}
        if row.running_since is None:
            began = seen.started_at if seen.started_at is not None else self.now
            facts = {"running_since": max([began, *(end for _, end in row.stretches)])}
        if row.state in ("accepted", "stopped"):
            facts |= {"state": "started", "started_at": self.now, "why": "It runs; its worker has not registered yet."}
        self.change(row, **facts)

    def count_crash(self, row: MachineRow, message: str) -> None:
        """Count a machine that came to nothing; several in a row stop the pool."""
        crashes = self.pool(row.pool).crashes + 1
        self.change_pool(row.pool, crashes=crashes, next_launch_at=self.now + self._pause(crashes))
        if crashes >= self.rules.crashes_most:
            why = f"{crashes} machines in a row ended before they worked; is the image right? {message}"
            self._block(row.pool, why)

    # what was decided

    def launch(self, pool: Pool, region: str, why: str) -> Decision:
        """Write down the intent of a launch, before anybody is asked."""
        launch_id = f"{pool.name}-{secrets.token_hex(6)}"
        row = MachineRow(
            launch_id, pool.name, pool.provider, region, "intended", pool.price_per_hour, self.now, self.now, why,
            asks=1, unsure=True, next_call_at=self.now + self._pause(1),
        )  # fmt: skip
        self.add(row)
        self.note(row, "create", why)
        return Decision("create", pool.name, launch_id, why, region)

    def apply(self, decision: Decision) -> None:
        """Write down what was decided about a launch, before it is done."""
        row = self.machine(decision.launch_id)
        self.note(row, decision.action, decision.why)
        again = {"asked_at": self.now, "asks": row.asks + 1, "next_call_at": self.now + self._pause(row.asks + 1)}
        match decision.action:
            case "create":
                pass
            case "ask":
                self.change(row, region=decision.region, unsure=True, **again)
            case "start":
                self.change(row, state="accepted", accepted_at=self.now, worker_id=None, registered_at=None, **again)
            case "drain":
                self.change(row, state="draining", drained_at=self.now, why=decision.why)
            case "dismiss":
                facts: dict[str, Any] = {"drained_at": self.now, "ended_at": None} if row.state == "gone" else {}
                began = row.drained_at or self.now
                self.change(row, **({"state": "draining", "drained_at": began, "why": decision.why} | facts))
            case "expect":
                self.change(row, state="stopping", ending_at=self.now, why=decision.why)
            case "stop":
                self.change(row, state="stopping", ending_at=self.now, why=decision.why, **(again | {"asks": 1}))
            case "destroy":
                self._to_destroy(row, decision.why)
            case "close":
                self.gone(row, decision.why)

    def _to_destroy(self, row: MachineRow, why: str) -> None:
        asks = row.asks + 1 if row.state == "destroying" else 1
        facts = {"asks": asks, "asked_at": self.now, "next_call_at": self.now + self._pause(asks)}
        began = row.ending_at if row.state == "destroying" and row.ending_at is not None else self.now
        self.change(row, state="destroying", ending_at=began, why=why, **facts)

    # what providers answered

    def accepted(self, launch_id: str, seen: Seen) -> None:
        """A create was answered with a machine."""
        row = self.machine(launch_id)
        self.change_pool(row.pool, failures=0, blocked_why=None, blocked_until=0)
        state = "accepted" if row.state == "intended" else row.state
        row = self.change(
            row, state=state, machine_id=seen.machine_id, region=seen.region or row.region, accepted_at=self.now,
            unsure=False, failure=None, why="The provider has taken it.", next_call_at=self.now,
        )  # fmt: skip
        self.note(row, "accepted", f"The provider has taken it as {seen.machine_id}.")
        if seen.state == "running":
            self.runs(row, seen)

    def refused(self, decision: Decision, failure: CallFailed, was_unsure: bool = False) -> None:
        """A call failed. Each sort of failure has its own answer.

        `was_unsure`: an earlier ask of this launch went unanswered, so that a refusal now does not prove that nothing
        exists.
        """
        row = self.machine(decision.launch_id)
        self.note(row, f"{decision.action} failed", failure.message)
        row = self.change(row, failure=failure.message)
        if decision.action in ("create", "ask"):
            self._launch_refused(row, failure, was_unsure)
        elif failure.fault == "missing":
            self.change(row, missing=max(row.missing, 1))
        elif failure.fault in NO_RETRY:
            self._block(row.pool, failure.message)

    def _launch_refused(self, row: MachineRow, failure: CallFailed, was_unsure: bool) -> None:
        unsure = was_unsure or failure.fault not in NOTHING_MADE
        pool = self.pool(row.pool)
        failures = pool.failures + 1
        again_at = self.now + self._pause(failures)
        if failure.fault in NO_RETRY:
            self._block(row.pool, failure.message)
            if unsure:
                self.change(row, unsure=True)
            else:
                self.gone(row, f"It was refused: {failure.message}")
        elif failure.fault == "capacity":
            self.change_pool(row.pool, failures=failures, full_regions=pool.full_regions | {row.region: again_at})
            self.change(row, unsure=unsure, next_call_at=self.now, why=f"No room: {failure.message}")
        else:
            self.change_pool(row.pool, failures=failures, next_launch_at=again_at)
            self.change(row, unsure=unsure, next_call_at=again_at, why=f"Not made yet: {failure.message}")

    def done(self, decision: Decision) -> None:
        """A call about a machine that exists was answered well."""
        self.change(self.machine(decision.launch_id), failure=None)

    def judge(self, verdict: Verdict) -> None:
        """Write down what was decided about a pool. A line of the log for each that is new, not for each new number."""
        before = self.pool(verdict.pool)
        if _NUMBER.sub("", before.why) != _NUMBER.sub("", verdict.why) or before.wanted != verdict.wanted:
            self.log.append(LogRow(self.now, verdict.pool, None, "wanted", verdict.why))
        told = {"wanted": verdict.wanted, "why": verdict.why, "inputs": verdict.inputs}
        self.change_pool(verdict.pool, decided_at=self.now, **told)

    def taken(self) -> tuple[list[MachineRow], list[PoolRow], list[LogRow]]:
        """What has changed since the last time, to be kept."""
        machines = [self.snapshot.machines[one] for one in sorted(self.changed_machines)]
        pools = [self.snapshot.pools[one] for one in sorted(self.changed_pools)]
        log, self.log = self.log, []
        self.changed_machines.clear()
        self.changed_pools.clear()
        return machines, pools, log

    # the rows

    def gone(self, row: MachineRow, why: str) -> None:
        """A machine is proven gone."""
        row = self.stop_clock(row, None)
        self.change(row, state="gone", ended_at=self.now, why=why)
        self.note(row, "gone", why)

    def stop_clock(self, row: MachineRow, ended_at: float | None) -> MachineRow:
        """End the stretch that goes on; without a word of the provider it ends now."""
        if row.running_since is None:
            return row
        end = max(row.running_since, self.now if ended_at is None else min(ended_at, self.now))
        stretches = [*row.stretches, [row.running_since, end]]
        spent = sum(to - since for since, to in stretches) * row.price_per_hour / 3600
        return self.change(row, running_since=None, stretches=stretches, spent=spent)

    def _block(self, pool: str, why: str) -> None:
        self.change_pool(pool, blocked_until=self.now + self.rules.block_seconds, blocked_why=why)
        self.log.append(LogRow(self.now, pool, None, "blocked", why))

    def _pause(self, tries: int) -> float:
        """A pause that doubles with each try, with jitter."""
        most: float = min(self.rules.retry_most_seconds, self.rules.retry_seconds * 2.0 ** min(tries - 1, 16))
        return most * (0.5 + 0.5 * self._draw())

    def add(self, row: MachineRow) -> None:
        """Keep a row that is new or has changed."""
        self.snapshot.machines[row.launch_id] = row
        self.changed_machines.add(row.launch_id)

    def change(self, row: MachineRow, **facts: Any) -> MachineRow:
        """The row with these facts, which is kept if they are others."""
        if all(getattr(row, name) == value for name, value in facts.items()):
            return row
        changed = replace(row, **facts)
        self.add(changed)
        return changed

    def change_pool(self, name: str, **facts: Any) -> None:
        """Remember these facts of a pool."""
        changed = replace(self.pool(name), **facts)
        if changed != self.pool(name) or name not in self.snapshot.pools:
            self.snapshot.pools[name] = changed
            self.changed_pools.add(name)

    def note(self, row: MachineRow, kind: str, text: str) -> None:
        """Write a line about a machine into the log."""
        self.log.append(LogRow(self.now, row.pool, row.launch_id, kind, text[:2000]))
