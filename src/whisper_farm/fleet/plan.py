"""A plan: how many machines of which pool a backlog will get, what that costs and when it is done.

The very decision of the loop runs on a virtual clock, in a world without faults: machines come after the same time,
work at the same speed, and end when there is nothing left for them. So a plan promises what the loop would do if
nothing went wrong, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from whisper_farm.fleet.books import Books
from whisper_farm.fleet.decide import decide
from whisper_farm.fleet.pools import Fleet
from whisper_farm.fleet.providers.provider import Seen
from whisper_farm.fleet.sightings import take_in
from whisper_farm.fleet.snapshot import Decision, Snapshot
from whisper_farm.store.machines import MachineRow, NeedRow, PoolRow
from whisper_farm.store.workers import PresentWorker
from whisper_farm.times import DAY_SECONDS

LONGEST_SECONDS = 14.0 * DAY_SECONDS
CHUNK_SECONDS = 30.0
STEPS = 2000
IDLE_SECONDS = 300.0
"""With no machine there, time goes on in larger steps: for a budget's next day, or a pool's hours."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is to be done, and what is known of the machines that will do it."""

    engine: str
    model: str
    audio_seconds: float
    speed: float
    """Audio-seconds a second that one machine does."""
    boot_seconds: float = 60
    begins_at: float = 0
    """Seconds since 1970: pools have hours of the day, and budgets have days."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What one pool does."""

    pool: str
    most: int
    """Machines at the same time."""
    machine_seconds: float
    cost: float
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What all pools do together. `seconds` is None if the backlog is never done within two weeks."""

    seconds: float | None
    left_seconds: float
    pools: tuple[PoolPlan, ...]

    @property
    def cost(self) -> float:
        """Of all pools."""
        return sum(pool.cost for pool in self.pools)


@dataclass(slots=True)
class _Machine:
    launch_id: str
    runs_at: float
    idle_since: float
    state: Literal["live", "draining", "gone"] = "live"
    registered: bool = False
    ended_at: float | None = None


@dataclass(slots=True)
class _World:
    fleet: Fleet
    backlog: Backlog
    step: float
    now: float
    left: float
    rows: dict[str, MachineRow] = field(default_factory=dict)
    pools: dict[str, PoolRow] = field(default_factory=dict)
    machines: dict[str, _Machine] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        jobs = max(1, round(self.left / CHUNK_SECONDS))
        needs = [NeedRow(self.backlog.engine, self.backlog.model, jobs, self.left)] if self.left > 0 else []
        listed = {pool.provider: self.now for pool in self.fleet.pools.values()}
        gone: dict[str, float] = {}
        for row in self.rows.values():
            if row.state == "gone":
                gone[row.pool] = gone.get(row.pool, 0) + row.spent
        there = {name: row for name, row in self.rows.items() if row.state != "gone"}
        ended = [
            row for row in self.rows.values() if row.state == "gone" and (row.ended_at or 0) > self.now - DAY_SECONDS
        ]
        return Snapshot(self.now, self.fleet, there, self.pools, needs, self._workers(), listed, gone, ended)

    def _workers(self) -> list[PresentWorker]:
        """Those that work, and one that has left and whose speed is known."""
        offers = [{"engine": self.backlog.engine, "models": None, "resting": ()}]
        speed = self.backlog.speed
        here = [
            PresentWorker(
                id=f"w-{one.launch_id}",
                state=one.state,
                paused=False,
                slots=1,
                engines=offers,
                machine={"launch_id": one.launch_id},
                last_seen_at=self.now,
                audio_seconds=speed,
                work_seconds=1,
                jobs=int(self.left > 0 and one.state == "live"),
            )
            for one in self.machines.values()
            if one.registered
        ]
        return [PresentWorker("known", "gone", False, 1, offers, None, self.now, speed, 1, 0), *here]

    def there(self) -> bool:
        """Whether any machine is there."""
        return any(row.state != "gone" for row in self.rows.values())

    def live(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for one in self.machines.values():
            if one.ended_at is not None or self.now < one.runs_at:
                continue
            if not one.registered:
                one.registered, one.idle_since = True, self.now
            pool = self.fleet.pools[self.rows[one.launch_id].pool]
            heard = min(self.left, self.backlog.speed * seconds) if one.state == "live" else 0.0
            self.left -= heard
            one.idle_since = self.now if heard > 0 else one.idle_since
            if one.state == "draining" or self.now - one.idle_since >= pool.idle_seconds:
                one.state, one.ended_at = "gone", self.now

    def heed(self, books: Books, decisions: Sequence[Decision]) -> None:
        """Do what was decided; nothing fails."""
        for decision in decisions:
            one = self.machines.get(decision.launch_id)
            if decision.action == "create":
                self.machines[decision.launch_id] = _Machine(
                    decision.launch_id, self.now + self.backlog.boot_seconds, self.now
                )
                books.accepted(decision.launch_id, Seen(decision.launch_id, decision.launch_id, "coming"))
            elif decision.action in ("drain", "dismiss") and one is not None and one.state == "live":
                one.state = "draining"
            elif decision.action in ("stop", "destroy") and one is not None and one.ended_at is None:
                one.state, one.ended_at = "gone", self.now
        self.rows |= books.snapshot.machines
        self.pools = books.snapshot.pools

    def seen(self, provider: str) -> list[Seen]:
        """What that provider shows."""
        return [
            Seen(
                one.launch_id, one.launch_id, "gone" if one.ended_at is not None else "running", "", None,
                one.runs_at - self.backlog.boot_seconds, one.ended_at, "ok" if one.ended_at is not None else None,
            )
            for one in self.machines.values()
            if self.rows[one.launch_id].provider == provider and self.rows[one.launch_id].state != "gone"
        ]  # fmt: skip


def make_plan(fleet: Fleet, backlog: Backlog) -> Plan:
    """What the loop would do with this backlog, if nothing went wrong."""
    least = min(backlog.boot_seconds / 4, fleet.fleet.look_seconds)
    step = max(1.0, least, backlog.audio_seconds / backlog.speed / STEPS / 10)
    world = _World(fleet, backlog, step, backlog.begins_at, backlog.audio_seconds)
    most = dict.fromkeys(fleet.pools, 0)
    why = dict.fromkeys(fleet.pools, "")
    done_at: float | None = None
    endless = any(  # another day, or another hour, may bring money or machines
        pool.budget_total is None or pool.budget_per_day is not None or pool.hours is not None
        for pool in fleet.pools.values()
    )
    while world.now - backlog.begins_at < LONGEST_SECONDS:
        books = Books(world.snapshot(), draw=lambda: 0.5)
        take_in(books, {pool.provider: world.seen(pool.provider) for pool in fleet.pools.values()})
        world.heed(books, decide(books))
        for name in fleet.pools:
            there = sum(row.pool == name and row.state != "gone" for row in world.rows.values())
            if there > most[name]:
                most[name], why[name] = there, world.pools[name].why
        if world.left <= 0 and done_at is None:
            done_at = world.now - backlog.begins_at
        if not world.there() and (world.left <= 0 or (world.machines and not endless)):
            break
        world.live(IDLE_SECONDS if not world.there() else world.step)
    pools = []
    for name in fleet.pools:
        mine = [row for row in world.rows.values() if row.pool == name]
        seconds, cost = sum(row.seconds(world.now) for row in mine), sum(row.cost(world.now) for row in mine)
        pools.append(PoolPlan(name, most[name], seconds, cost, why[name] or world.pools[name].why))
    return Plan(done_at, world.left, tuple(pools))


def plan_for_deadline(fleet: Fleet, backlog: Backlog, seconds: float) -> Plan:
    """A plan that is done in time, if the pools allow it: as little in a hurry as that needs."""

    def within(share: float) -> Plan:
        rules = fleet.fleet.model_copy(update={"target_drain_seconds": max(1.0, seconds * share)})
        return make_plan(fleet.model_copy(update={"fleet": rules}), backlog)

    fastest = within(0.15)
    if fastest.seconds is None or fastest.seconds > seconds:
        return fastest
    plans = (within(share) for share in (0.9, 0.75, 0.6, 0.45, 0.3))
    return next((plan for plan in plans if plan.seconds is not None and plan.seconds <= seconds), fastest)


def plan_for_budget(fleet: Fleet, backlog: Backlog, money: float) -> Plan:
    """A plan that costs no more than that in all. A pool may spend what those before it would leave if left alone."""
    left, pools, names = money, dict(fleet.pools), list(fleet.pools)
    for name, pool in fleet.pools.items():
        names.remove(name)
        if pool.price_per_hour > 0:
            bound = left if pool.budget_total is None else min(left, pool.budget_total)
            pools[name] = pool.model_copy(update={"budget_total": max(0.0, bound)})
            alone = pools | {later: pools[later].model_copy(update={"minimum": 0, "maximum": 0}) for later in names}
            spent = make_plan(fleet.model_copy(update={"pools": alone}), backlog)
            left -= next(one.cost for one in spent.pools if one.pool == name)
    return make_plan(fleet.model_copy(update={"pools": pools}), backlog)
