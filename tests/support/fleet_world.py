"""A world for the fleet on a virtual clock: a provider with every fault, machines, workers, work, two coordinators.

The decision, the books and the round are the real ones; only the provider, the database and time are played. The world
counts what the provider would put on its bill, whatever the books say.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from whisper_farm.errors import WrongState
from whisper_farm.fleet.books import Books
from whisper_farm.fleet.pools import Fleet, Pool
from whisper_farm.fleet.providers.provider import CallFailed, Fault, Launch, Provider, Seen
from whisper_farm.fleet.reconcile import Reconciler, Round
from whisper_farm.fleet.snapshot import Decision, Snapshot
from whisper_farm.store.machines import LogRow, MachineRow, NeedRow, PoolRow
from whisper_farm.store.workers import PresentWorker
from whisper_farm.times import DAY_SECONDS

START = 1_000_000 * DAY_SECONDS / 50.0
LEASE_SECONDS = 60.0
TURN_SECONDS = 90.0


class KilledError(BaseException):
    """A coordinator dies here."""


@dataclass
class Machine:
    """A machine as it really is."""

    id: str
    launch_id: str
    pool: Pool
    region: str
    created_at: float
    runs_at: float
    registers_at: float
    started_at: float | None = None
    ended_at: float | None = None
    exit: str = "ok"
    shown_at: float = 0.0
    registered: bool = False

    def billed(self, now: float) -> float:
        return 0.0 if self.started_at is None else (self.ended_at or now) - self.started_at


@dataclass
class Worker:
    """A worker as it really is."""

    id: str
    machine: Machine
    state: str = "live"
    seen_at: float = 0.0
    idle_since: float = 0.0
    told_at: float | None = None
    audio_seconds: float = 0.0
    work_seconds: float = 0.0
    busy: bool = False


@dataclass
class Faults:
    """How often what goes wrong; all 0 is a perfect world."""

    refuse: float = 0.0
    lose_answer: float = 0.0
    never_registers: float = 0.0
    stuck: float = 0.0
    crash: float = 0.0
    die_per_hour: float = 0.0
    list_fails: float = 0.0
    destroy_fails: float = 0.0
    killed: float = 0.0
    unlisted_seconds: float = 0.0


@dataclass
class World:
    """Everything there is, at one moment."""

    fleet: Fleet
    faults: Faults = field(default_factory=Faults)
    seed: int = 1
    boot_seconds: float = 20.0
    speed: float = 10.0
    now: float = START
    machines: dict[str, Machine] = field(default_factory=dict)
    live: dict[str, Machine] = field(default_factory=dict)
    ended: list[Machine] = field(default_factory=list)
    workers: dict[str, Worker] = field(default_factory=dict)
    present: dict[str, Worker] = field(default_factory=dict)
    backlog: float = 0.0
    done: float = 0.0
    submitted: float = 0.0
    down_until: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    refusal: CallFailed | None = None
    full: set[str] = field(default_factory=set)
    """Regions without room."""
    rows: dict[str, MachineRow] = field(default_factory=dict)
    pools: dict[str, PoolRow] = field(default_factory=dict)
    log: list[LogRow] = field(default_factory=list)
    holder: str | None = None
    held_until: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    killed: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self.coordinators = [self.coordinator(), self.coordinator()]

    def close(self) -> None:
        self._loop.close()

    def coordinator(self) -> Reconciler:
        """A coordinator that has just started and knows nothing."""
        provider = PlayedProvider(self)
        names = {pool.provider for pool in self.fleet.pools.values()}
        keeper = PlayedKeeper(self, f"c{next(self._numbers)}")
        return Reconciler(self.fleet, dict.fromkeys(names, provider), keeper, lambda *_: {}, clock=lambda: self.now)

    def submit(self, audio_seconds: float) -> None:
        self.backlog += audio_seconds
        self.submitted += audio_seconds

    def chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def step(self, seconds: float) -> None:
        """Let time pass, and let both coordinators have a round, in any order."""
        self.pass_time(seconds)
        order = self.coordinators.copy()
        self.random.shuffle(order)
        for one in order:
            self.round(one)

    def round(self, coordinator: Reconciler) -> Round | None:
        """One round of it; one that dies in it is replaced by a new one."""
        try:
            done = self._loop.run_until_complete(coordinator.round())
        except WrongState:
            return None
        except KilledError:
            self.killed += 1
            if coordinator in self.coordinators:
                self.coordinators[self.coordinators.index(coordinator)] = self.coordinator()
            return None
        self.decisions += done.decisions
        return done

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for machine in list(self.live.values()):
            self._live(machine, seconds)
        for worker in list(self.present.values()):
            self._work(worker, seconds)
        self.present = {name: one for name, one in self.present.items() if one.state != "gone"}

    def _live(self, machine: Machine, seconds: float) -> None:
        if machine.ended_at is not None:
            return
        if machine.started_at is None and self.now >= machine.runs_at:
            machine.started_at = machine.runs_at
            machine.shown_at = min(machine.shown_at, machine.runs_at) if machine.shown_at else 0
        if machine.started_at is None:
            return
        if machine.exit == "crash" and self.now >= machine.registers_at:
            self.end(machine, machine.registers_at)
        elif self.chance(self.faults.die_per_hour * seconds / 3600):
            machine.exit = "lost"
            self.end(machine, self.now - self.random.random() * min(seconds, self.now - machine.started_at))
        elif self.now >= machine.registers_at and not machine.registered:
            name, machine.registered = f"w{next(self._numbers)}", True
            self.workers[name] = self.present[name] = Worker(name, machine, seen_at=self.now, idle_since=self.now)

    def end(self, machine: Machine, at: float) -> None:
        """Its process is over; the provider forgets it, but for what can be asked by id."""
        machine.ended_at = max(at, machine.started_at or at)
        self.live.pop(machine.id, None)
        self.ended.append(machine)

    def _work(self, worker: Worker, seconds: float) -> None:
        if worker.machine.ended_at is not None:
            if worker.state != "gone" and self.now - worker.seen_at >= LEASE_SECONDS:
                worker.state, worker.busy = "gone", False
            return
        worker.seen_at = self.now
        life = self.now - (worker.machine.started_at or self.now)
        told = worker.told_at if worker.state in ("draining", "dismissed") else None
        if told is not None and self.now - told >= (5 if worker.state == "dismissed" else 20):
            self._leave(worker)
        elif worker.state == "live":
            heard = min(self.backlog, self.speed * seconds)
            self.backlog -= heard
            self.done += heard
            worker.audio_seconds += heard
            worker.work_seconds += heard / self.speed
            worker.busy = heard > 0 and self.backlog > 0
            if heard > 0:
                worker.idle_since = self.now
            idle = self.now - worker.idle_since
            if idle >= worker.machine.pool.idle_seconds or life >= worker.machine.pool.maximum_life_seconds + 600:
                self._leave(worker)

    def _leave(self, worker: Worker) -> None:
        worker.state, worker.busy = "gone", False
        self.end(worker.machine, self.now)

    # what must always be true

    def running(self, pool: str) -> int:
        """Machines that the provider has of a pool."""
        return sum(one.pool.name == pool for one in self.live.values())

    def billed(self, since: float = 0.0) -> float:
        """Seconds on the provider's bill."""
        return sum(
            max(0.0, (one.ended_at or self.now) - max(one.started_at, since))
            for one in self.machines.values()
            if one.started_at is not None
        )

    def booked(self) -> float:
        """Seconds in the farm's books."""
        return sum(row.seconds(self.now) for row in self.rows.values())

    def spent_today(self, pool: Pool) -> float:
        midnight = self.now - self.now % DAY_SECONDS
        self.ended = [one for one in self.ended if (one.ended_at or 0) >= midnight]
        seconds = sum(
            max(0.0, (one.ended_at or self.now) - max(one.started_at, midnight))
            for one in [*self.live.values(), *self.ended]
            if one.started_at is not None and one.pool.name == pool.name
        )
        return seconds * pool.price_per_hour / 3600


class PlayedProvider(Provider):
    """The provider of that world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _call(self, name: str) -> None:
        world = self.world
        world.calls[name] += 1
        if world.chance(world.faults.killed):
            raise KilledError
        if world.now < world.down_until:
            raise CallFailed.of("unknown", "upstream is down")

    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        self._call("list")
        world = self.world
        if world.chance(world.faults.list_fails):
            raise CallFailed.of("transient", "list failed")
        ended = [world.machines[one] for one in known.values() if one in world.machines and one not in world.live]
        unseen = {launch_id for launch_id, machine_id in known.items() if machine_id is None}
        ended += [one for one in world.machines.values() if one.launch_id in unseen and one.ended_at] if unseen else []
        return [self._seen(one) for one in [*world.live.values(), *ended] if one.ended_at or world.now >= one.shown_at]

    def _seen(self, one: Machine) -> Seen:
        ended = one.ended_at is not None
        state = "gone" if ended else "running" if one.started_at is not None else "coming"
        return Seen(
            one.id, one.launch_id, state, one.region, one.pool.name, one.started_at, one.ended_at,
            {"crash": "crash", "lost": "lost"}.get(one.exit, "ok") if ended else None,
        )  # fmt: skip

    async def create(self, launch: Launch) -> Seen:
        self._call("create")
        world, faults = self.world, self.world.faults
        if world.refusal is not None:
            raise world.refusal
        if launch.region in world.full:
            raise CallFailed.of("capacity", f"no room in {launch.region}")
        if world.chance(faults.refuse):
            fault: Fault = world.random.choice(["capacity", "transient", "unknown", "quota"])
            raise CallFailed.of(fault, f"refused: {fault}")
        if any(one.launch_id == launch.launch_id for one in world.live.values()):
            raise CallFailed.of("exists", "already_exists: unique machine name violation")
        boot = world.boot_seconds * world.random.uniform(0.7, 1.3)
        runs_at = world.now + boot * 0.7
        if world.chance(faults.stuck):
            runs_at = world.now + 2 * 3600
        machine = Machine(
            f"m{next(world._numbers)}", launch.launch_id, launch.pool, launch.region, world.now, runs_at,
            runs_at + boot * 0.3, shown_at=world.now + world.random.random() * faults.unlisted_seconds,
        )  # fmt: skip
        if world.chance(faults.never_registers):
            machine.registers_at = float("inf")
        if world.chance(faults.crash):
            machine.exit = "crash"
        world.machines[machine.id] = world.live[machine.id] = machine
        if world.chance(faults.killed):
            raise KilledError
        if world.chance(faults.lose_answer):
            raise CallFailed.of("unknown", "deadline exceeded")
        return self._seen(machine)

    async def start(self, machine_id: str) -> None:
        self._call("start")
        raise CallFailed.of("missing", "machine not found")

    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        await self.destroy(machine_id)

    async def destroy(self, machine_id: str) -> None:
        self._call("destroy")
        machine = self.world.machines.get(machine_id)
        if machine is None or machine.ended_at is not None:
            raise CallFailed.of("missing", "machine not found")
        if self.world.chance(self.world.faults.destroy_fails):
            raise CallFailed.of("transient", "try again")
        machine.exit = "requested"
        self.world.end(machine, self.world.now)
        if self.world.chance(self.world.faults.killed):
            raise KilledError


class PlayedKeeper:
    """The books, in memory: whole or not at all, and only while it is one's turn."""

    def __init__(self, world: World, holder: str) -> None:
        self.world, self.holder = world, holder

    async def take_turn(self) -> str | None:
        world = self.world
        if world.holder not in (None, self.holder) and world.held_until > world.now:
            return None
        world.holder, world.held_until = self.holder, world.now + TURN_SECONDS
        return "owner"

    async def known(self) -> list[MachineRow]:
        return [row for row in self.world.rows.values() if row.state != "gone"]

    async def snapshot(self, fleet: Fleet, listed_at: Mapping[str, float], launch_ids: Sequence[str]) -> Snapshot:
        world = self.world
        workers = [
            self._present(one)
            for one in world.workers.values()
            if one.state != "gone" or world.now - one.seen_at < 3600
        ]
        lively = {one.launch_id for one in workers if one.state != "gone"} | set(launch_ids)
        machines = {name: row for name, row in world.rows.items() if row.state != "gone" or name in lively}
        midnight = world.now - world.now % DAY_SECONDS
        gone = [row for name, row in world.rows.items() if name not in machines]
        spent: Counter[str] = Counter()
        for row in gone:
            spent[row.pool] += row.spent  # type: ignore[assignment]
        needs = []
        if world.backlog > 0:
            needs = [NeedRow("tones", "instant", max(1, round(world.backlog / 30)), world.backlog)]
        ended = [row for row in gone if (row.ended_at or 0) >= midnight]
        return Snapshot(world.now, fleet, machines, dict(world.pools), needs, workers, listed_at, dict(spent), ended)

    def _present(self, one: Worker) -> PresentWorker:
        engines = [{"engine": "tones", "models": None}]
        machine = {"launch_id": one.machine.launch_id}
        return PresentWorker(
            one.id, one.state, False, 1, engines, machine, one.seen_at,  # type: ignore[arg-type]
            one.audio_seconds, one.work_seconds, int(one.busy),
        )  # fmt: skip

    async def keep(self, books: Books, decisions: Sequence[Decision]) -> None:
        world = self.world
        if world.chance(world.faults.killed):
            raise KilledError
        if world.holder != self.holder or world.held_until <= world.now:
            raise WrongState("Another coordinator looks after the machines now.")
        machines, pools, log = books.taken()
        for one in decisions:
            worker = world.workers.get(books.machine(one.launch_id).worker_id or "")
            if worker is None or worker.state == "gone" or one.action not in ("drain", "dismiss"):
                continue
            if one.action == "drain" and worker.state == "live":
                worker.state, worker.told_at = "draining", world.now
            if one.action == "dismiss" and worker.state in ("live", "draining"):
                worker.state, worker.told_at = "dismissed", world.now
        world.rows |= {row.launch_id: row for row in machines}
        for pool in pools:
            switch = world.pools[pool.name].switch if pool.name in world.pools else "on"
            world.pools[pool.name] = replace(pool, switch=switch)
        world.log += log
        if world.chance(world.faults.killed):
            raise KilledError
