"""The books of one round: how rows change by what is seen, by what is decided, and by what providers answer.

Pure: it has a clock given to it, asks nobody and writes nothing. What changed is collected, to be kept in one
transaction. The rules that no change breaks: a launch is `gone` only when that is proven, a stretch of running time is
never lost, and whoever was given up stays given up.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.providers.provider import NO_RETRY, NOTHING_MADE, CallFailed, Seen
from whisper_farm.fleet.snapshot import ALIVE, Decision, Snapshot, Verdict
from whisper_farm.store.machines import LogRow, MachineRow, PoolRow
from whisper_farm.store.workers import PresentWorker

LOOKS = 2
"""So many looks that do not show a machine prove that it is gone."""
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
        self._by_launch = {worker.launch_id: worker for worker in snapshot.workers if worker.launch_id}

    def machine(self, launch_id: str) -> MachineRow:
        """The row of a launch."""
        return self.snapshot.machines[launch_id]

    def pool(self, name: str) -> PoolRow:
        """What is remembered of a pool."""
        return self.snapshot.pools.get(name) or PoolRow(name)

    def worker_of(self, machine: MachineRow) -> PresentWorker | None:
        """The worker that runs on a machine, or ran lately."""
        return self._by_launch.get(machine.launch_id)

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

    # what was seen

    def observe(self, provider: str, seen: Iterable[Seen]) -> None:
        """Take in what a provider lists: what runs, what ended, what is missing, what nobody asked for."""
        mine: dict[str, Seen] = {}
        extra: list[Seen] = []
        for one in seen:
            row = self.snapshot.machines.get(one.launch_id or "")
            if row is None or one.machine_id != (row.machine_id or one.machine_id) or row.launch_id in mine:
                extra.append(one)
            else:
                mine[row.launch_id] = one
        known = [row for row in self.snapshot.machines.values() if row.provider == provider]
        for row in known:
            if (found := mine.get(row.launch_id)) is None:
                continue
            if row.state != "gone":
                self._found(row, found)
            elif found.state in ("coming", "running"):
                self._woken(row, found)
        for one in extra:
            self._unexpected(provider, one)
        shown = {one.machine_id for one in extra}
        for row in known:
            if row.state != "gone" and row.launch_id not in mine and row.machine_id not in shown:
                self._missed(self.machine(row.launch_id))

    def meet(self) -> None:
        """Take in which machines have a worker now."""
        for row in list(self.snapshot.machines.values()):
            worker = self.worker_of(row)
            if worker is None:
                continue
            if row.worker_id is None:
                row = self._change(row, worker_id=worker.id, registered_at=self.now)
                self._note(row, "registered", f"Its worker {worker.id} has registered.")
                self._pool_changed(row.pool, crashes=0)
            if worker.state in ALIVE and row.state in ("intended", "accepted", "started", "orphan"):
                self._change(row, state="working", why="Its worker works.")
            elif worker.state in ALIVE and row.state == "stopped":
                why = "It should be stopped, but its worker lives."
                self._change(row, state="draining", drained_at=self.now, why=why)

    def _found(self, row: MachineRow, seen: Seen) -> None:
        facts: dict[str, Any] = {"missing": 0, "machine_id": seen.machine_id, "region": seen.region or row.region}
        if row.accepted_at is None:
            facts["accepted_at"] = self.now
        if row.state == "intended":
            facts |= {"state": "accepted", "why": "The provider has taken it."}
        row = self._change(row, **facts)
        if seen.state in ("running", "stopping"):
            self._runs(row, seen)
        elif seen.state in ("stopped", "failed", "gone"):
            self._ended(row, seen)

    def _woken(self, row: MachineRow, seen: Seen) -> None:
        """It was given up and is there after all: it counts and is paid again, until it is proven gone again."""
        facts = {"state": "destroying", "ended_at": None, "ending_at": self.now, "missing": 0, "asks": 0}
        why = "It was given up, and is there after all."
        row = self._change(row, why=why, machine_id=seen.machine_id, next_call_at=self.now, **facts)
        self._note(row, "woken", why)
        if seen.state == "running":
            self._runs(row, seen)

    def _runs(self, row: MachineRow, seen: Seen) -> None:
        facts: dict[str, Any] = {}
        if row.running_since is None:
            began = seen.started_at if seen.started_at is not None else self.now
            facts = {"running_since": max([began, *(end for _, end in row.stretches)])}
        if row.state in ("accepted", "stopped"):
            facts |= {"state": "started", "started_at": self.now, "why": "It runs; its worker has not registered yet."}
        self._change(row, **facts)

    def _ended(self, row: MachineRow, seen: Seen) -> None:
        if not seen.sure and self.is_alive(row):
            why = "Its provider says that it has ended, but its worker lives: it is told to leave."
            self._change(row, state="draining", drained_at=row.drained_at or self.now, why=why)
            return
        ran = row.running_since is not None or seen.started_at is not None
        if row.running_since is None and seen.started_at is not None and not row.stretches and seen.ended_at:
            row = self._change(row, running_since=seen.started_at)
        row = self._stop_clock(row, seen.ended_at if seen.sure else None)
        if row.state in ("accepted", "started", "working", "draining") and ran:
            self._judge_end(row, seen)
        if seen.state == "gone":
            self._gone(self.machine(row.launch_id), f"Its provider has ended it. {seen.message}".strip())
        elif row.state in ("accepted", "started", "working", "draining", "stopping"):
            why = seen.message or ("It has ended." if ran or row.stretches else "It is ready and does not run yet.")
            self._change(self.machine(row.launch_id), state="stopped", ending_at=self.now, why=why)

    def _judge_end(self, row: MachineRow, seen: Seen) -> None:
        """Count an end that was a fault of its own before any work was done; anything else is no crash."""
        if seen.exit == "crash":
            self._note(row, "crash", f"It ended by a fault of its own: {seen.message}")
            if row.registered_at is None:
                self.count_crash(row, seen.message)

    def count_crash(self, row: MachineRow, message: str) -> None:
        """Count a machine that came to nothing; several in a row stop the pool."""
        crashes = self.pool(row.pool).crashes + 1
        self._pool_changed(row.pool, crashes=crashes, next_launch_at=self.now + self._pause(crashes))
        if crashes >= self.rules.crashes_most:
            why = f"{crashes} machines in a row ended before they worked; is the image right? {message}"
            self._block(row.pool, why)

    def _missed(self, row: MachineRow) -> None:
        """A look that does not show it. The first one proves nothing; a new machine may be left out for a while."""
        if row.state == "intended" or self.is_alive(row):
            return
        if self.now - max(row.asked_at, row.accepted_at or 0) < self.rules.settle_seconds:
            return
        row = self._change(row, missing=row.missing + 1)
        if row.missing >= LOOKS:
            if row.state == "started" and row.registered_at is None:
                self._note(row, "lost", "It vanished before its worker registered.")
            self._gone(row, f"Its provider did not show it {LOOKS} times.")

    def _unexpected(self, provider: str, seen: Seen) -> None:
        """A machine with our tag that the books do not have: written down at once, so that it counts and is paid."""
        launch_id = f"orphan-{seen.machine_id}"[:64]
        row = self.snapshot.machines.get(launch_id)
        if seen.state == "gone":
            if row is not None and row.state != "gone":
                self._gone(self._stop_clock(row, seen.ended_at), "Its provider has ended it.")
            return
        if row is not None:
            if row.state == "gone":
                return
            row = self._runs_or_ends(self._change(row, missing=0), seen)
            if row.state == "orphan":
                why = "Nobody asked for it, and it was seen twice."
                self._change(row, state="destroying", ending_at=self.now, asks=0, next_call_at=self.now, why=why)
            return
        name = seen.pool or "unknown"
        pool = self.snapshot.fleet.pools.get(name)
        row = MachineRow(
            launch_id, name, provider, seen.region, "orphan", pool.price_per_hour if pool else 0, self.now, self.now,
            "It carries the tag of this farm, but nobody here asked for it.", seen.machine_id, accepted_at=self.now,
        )  # fmt: skip
        lives = self._by_launch.get(seen.launch_id or "")
        if seen.launch_id and lives and lives.state in ALIVE and seen.launch_id not in self.snapshot.machines:
            row = replace(row, launch_id=seen.launch_id, why="Its worker lives: it belongs to us after all.")
        self._add(row)
        self._note(row, "orphan", row.why)
        self._runs_or_ends(row, seen)

    def _runs_or_ends(self, row: MachineRow, seen: Seen) -> MachineRow:
        if seen.state in ("running", "stopping"):
            self._runs(row, seen)
        elif seen.state in ("stopped", "failed"):
            self._stop_clock(row, seen.ended_at)
        return self.machine(row.launch_id)

    # what was decided

    def launch(self, pool: Pool, region: str, why: str) -> Decision:
        """Write down the intent of a launch, before anybody is asked."""
        launch_id = f"{pool.name}-{secrets.token_hex(6)}"
        row = MachineRow(
            launch_id, pool.name, pool.provider, region, "intended", pool.price_per_hour, self.now, self.now, why,
            asks=1, unsure=True, next_call_at=self.now + self._pause(1),
        )  # fmt: skip
        self._add(row)
        self._note(row, "create", why)
        return Decision("create", pool.name, launch_id, why, region)

    def apply(self, decision: Decision) -> None:
        """Write down what was decided about a launch, before it is done."""
        row = self.machine(decision.launch_id)
        self._note(row, decision.action, decision.why)
        again = {"asked_at": self.now, "asks": row.asks + 1, "next_call_at": self.now + self._pause(row.asks + 1)}
        match decision.action:
            case "create":
                pass
            case "ask":
                self._change(row, region=decision.region, unsure=True, **again)
            case "start":
                self._change(row, state="accepted", accepted_at=self.now, worker_id=None, registered_at=None, **again)
            case "drain":
                self._change(row, state="draining", drained_at=self.now, why=decision.why)
            case "dismiss":
                facts: dict[str, Any] = {"drained_at": self.now, "ended_at": None} if row.state == "gone" else {}
                began = row.drained_at or self.now
                self._change(row, **({"state": "draining", "drained_at": began, "why": decision.why} | facts))
            case "expect":
                self._change(row, state="stopping", ending_at=self.now, why=decision.why)
            case "stop":
                self._change(row, state="stopping", ending_at=self.now, why=decision.why, **(again | {"asks": 1}))
            case "destroy":
                self._to_destroy(row, decision.why)
            case "close":
                self._gone(row, decision.why)

    def _to_destroy(self, row: MachineRow, why: str) -> None:
        asks = row.asks + 1 if row.state == "destroying" else 1
        facts = {"asks": asks, "asked_at": self.now, "next_call_at": self.now + self._pause(asks)}
        began = row.ending_at if row.state == "destroying" and row.ending_at is not None else self.now
        self._change(row, state="destroying", ending_at=began, why=why, **facts)

    # what providers answered

    def accepted(self, launch_id: str, seen: Seen) -> None:
        """A create was answered with a machine."""
        row = self.machine(launch_id)
        self._pool_changed(row.pool, failures=0, blocked_why=None, blocked_until=0)
        state = "accepted" if row.state == "intended" else row.state
        row = self._change(
            row, state=state, machine_id=seen.machine_id, region=seen.region or row.region, accepted_at=self.now,
            unsure=False, failure=None, why="The provider has taken it.", next_call_at=self.now,
        )  # fmt: skip
        self._note(row, "accepted", f"The provider has taken it as {seen.machine_id}.")
        if seen.state == "running":
            self._runs(row, seen)

    def refused(self, decision: Decision, failure: CallFailed, was_unsure: bool = False) -> None:
        """A call failed. Each sort of failure has its own answer.

        `was_unsure`: an earlier ask of this launch went unanswered, so that a refusal now does not prove that nothing
        exists.
        """
        row = self.machine(decision.launch_id)
        self._note(row, f"{decision.action} failed", failure.message)
        row = self._change(row, failure=failure.message)
        if decision.action in ("create", "ask"):
            self._launch_refused(row, failure, was_unsure)
        elif failure.fault == "missing":
            self._change(row, missing=max(row.missing, 1))
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
                self._change(row, unsure=True)
            else:
                self._gone(row, f"It was refused: {failure.message}")
        elif failure.fault == "capacity":
            self._pool_changed(row.pool, failures=failures, full_regions=pool.full_regions | {row.region: again_at})
            self._change(row, unsure=unsure, next_call_at=self.now, why=f"No room: {failure.message}")
        else:
            self._pool_changed(row.pool, failures=failures, next_launch_at=again_at)
            self._change(row, unsure=unsure, next_call_at=again_at, why=f"Not made yet: {failure.message}")

    def done(self, decision: Decision) -> None:
        """A call about a machine that exists was answered well."""
        self._change(self.machine(decision.launch_id), failure=None)

    def judge(self, verdict: Verdict) -> None:
        """Write down what was decided about a pool. A line of the log for each that is new, not for each new number."""
        before = self.pool(verdict.pool)
        if _NUMBER.sub("", before.why) != _NUMBER.sub("", verdict.why) or before.wanted != verdict.wanted:
            self.log.append(LogRow(self.now, verdict.pool, None, "wanted", verdict.why))
        told = {"wanted": verdict.wanted, "why": verdict.why, "inputs": verdict.inputs}
        self._pool_changed(verdict.pool, decided_at=self.now, **told)

    def taken(self) -> tuple[list[MachineRow], list[PoolRow], list[LogRow]]:
        """What has changed since the last time, to be kept."""
        machines = [self.snapshot.machines[one] for one in sorted(self.changed_machines)]
        pools = [self.snapshot.pools[one] for one in sorted(self.changed_pools)]
        log, self.log = self.log, []
        self.changed_machines.clear()
        self.changed_pools.clear()
        return machines, pools, log

    # the rows

    def _gone(self, row: MachineRow, why: str) -> None:
        row = self._stop_clock(row, None)
        self._change(row, state="gone", ended_at=self.now, why=why)
        self._note(row, "gone", why)

    def _stop_clock(self, row: MachineRow, ended_at: float | None) -> MachineRow:
        """End the stretch that goes on; without a word of the provider it ends now."""
        if row.running_since is None:
            return row
        end = max(row.running_since, self.now if ended_at is None else min(ended_at, self.now))
        stretches = [*row.stretches, [row.running_since, end]]
        spent = sum(to - since for since, to in stretches) * row.price_per_hour / 3600
        return self._change(row, running_since=None, stretches=stretches, spent=spent)

    def _block(self, pool: str, why: str) -> None:
        self._pool_changed(pool, blocked_until=self.now + self.rules.block_seconds, blocked_why=why)
        self.log.append(LogRow(self.now, pool, None, "blocked", why))

    def _pause(self, tries: int) -> float:
        """A pause that doubles with each try, with jitter."""
        most: float = min(self.rules.retry_most_seconds, self.rules.retry_seconds * 2.0 ** min(tries - 1, 16))
        return most * (0.5 + 0.5 * self._draw())

    def _add(self, row: MachineRow) -> None:
        self.snapshot.machines[row.launch_id] = row
        self.changed_machines.add(row.launch_id)

    def _change(self, row: MachineRow, **facts: Any) -> MachineRow:
        if all(getattr(row, name) == value for name, value in facts.items()):
            return row
        changed = replace(row, **facts)
        self._add(changed)
        return changed

    def _pool_changed(self, name: str, **facts: Any) -> None:
        changed = replace(self.pool(name), **facts)
        if changed != self.pool(name) or name not in self.snapshot.pools:
            self.snapshot.pools[name] = changed
            self.changed_pools.add(name)

    def _note(self, row: MachineRow, kind: str, text: str) -> None:
        self.log.append(LogRow(self.now, row.pool, row.launch_id, kind, text[:2000]))
