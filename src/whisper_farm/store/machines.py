"""The books of the fleet: launches, pools, what happened to them, and whose turn it is to look after them.

Only the holder of the turn writes machines; administrators write switches and wishes, which the holder never writes.
What these rows mean and how they change is the business of `fleet/`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from whisper_farm.errors import WrongState
from whisper_farm.protocol.wire import JobKind
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import NEEDED
from whisper_farm.store.statements import Change, Json, Query, columns, insert
from whisper_farm.store.statements import keep as keep_row

MachineState = Literal[
    "intended", "accepted", "started", "working", "draining", "stopping", "stopped", "destroying", "orphan", "gone"
]
Switch = Literal["on", "paused", "drained", "stopped"]
MachineWish = Literal["start", "drain", "stop", "destroy"]


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One launch: a machine that was asked for, and what became of it."""

    launch_id: str
    pool: str
    provider: str
    region: str
    state: MachineState
    price_per_hour: float
    intended_at: float
    asked_at: float
    why: str
    machine_id: str | None = None
    worker_id: str | None = None
    asks: int = 0
    unsure: bool = False
    missing: int = 0
    next_call_at: float = 0
    accepted_at: float | None = None
    started_at: float | None = None
    registered_at: float | None = None
    drained_at: float | None = None
    ending_at: float | None = None
    ended_at: float | None = None
    running_since: float | None = None
    stretches: list[list[float]] = field(default_factory=list)
    spent: float = 0
    failure: str | None = None
    wish: MachineWish | None = None

    def seconds(self, now: float, since: float = 0) -> float:
        """For how long it ran after `since`, until now."""
        running = [[self.running_since, max(now, self.running_since)]] if self.running_since else []
        ran = [*self.stretches, *running]
        return sum(max(0.0, end - max(begin, since)) for begin, end in ran)

    def cost(self, now: float, since: float = 0) -> float:
        """What that cost."""
        return self.seconds(now, since) * self.price_per_hour / 3600


@dataclass(frozen=True, slots=True)
class PoolRow:
    """What is remembered of one pool."""

    name: str
    switch: Switch = "on"
    fixed: int | None = None
    """How many machines were asked for by hand; None leaves the number to the loop."""
    blocked_until: float = 0
    blocked_why: str | None = None
    failures: int = 0
    crashes: int = 0
    next_launch_at: float = 0
    full_regions: dict[str, float] = field(default_factory=dict)
    wanted: int = 0
    why: str = "Nothing was decided yet."
    inputs: dict[str, Any] = field(default_factory=dict)
    decided_at: float = 0


@dataclass(frozen=True, slots=True)
class LogRow:
    at: float
    pool: str
    launch_id: str | None
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class NeedRow:
    """What waits for workers of one engine and model, and what they work on."""

    engine: str
    model: str
    jobs: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class WorkRow:
    """What one worker does now for one transcription: so many jobs, between these seconds of the recording."""

    worker_id: str
    transcription_id: str
    name: str
    kind: JobKind
    jobs: int
    start_seconds: float
    end_seconds: float


MACHINES = f"SELECT {columns(MachineRow)} FROM machines"
COUNTED = Query[MachineRow](f"{MACHINES} WHERE state <> 'gone' ORDER BY intended_at, launch_id")
LATELY_GONE = Query[MachineRow](f"{MACHINES} WHERE ended_at >= :since ORDER BY intended_at, launch_id")
THESE = Query[MachineRow](f"{MACHINES} WHERE launch_id IN :launch_ids")
SPENT = Query[tuple[str, float]]("SELECT pool, sum(spent) AS spent FROM machines WHERE state = 'gone' GROUP BY pool")
POOLS = Query[PoolRow](f"SELECT {columns(PoolRow)} FROM machine_pools ORDER BY name")
KEEP_MACHINE = keep_row("machines", MachineRow, "launch_id", "wish")
KEEP_POOL = keep_row("machine_pools", PoolRow, "name", "switch", "fixed")
CHANGE_POOL = keep_row("machine_pools", PoolRow, "name")
FULFILLED = Change("UPDATE machines SET wish = NULL WHERE launch_id = :launch_id AND wish = :wish")
WISH = Change("UPDATE machines SET wish = :wish WHERE launch_id = :launch_id AND state <> 'gone'")
WRITE_LOG = insert("machine_log", LogRow)
LOG = Query[LogRow](f"""
    SELECT {columns(LogRow)} FROM machine_log WHERE (:every OR launch_id = :launch_id) ORDER BY id DESC LIMIT :limit
""")
OLD_LOG = Change("DELETE FROM machine_log WHERE at < :before")
NEEDS = Query[NeedRow](f"""
    SELECT profiles.engine, profiles.model, count(*) AS jobs,
           sum(CASE WHEN jobs.kind = 'transcribe' THEN jobs.end_seconds - jobs.start_seconds
                    WHEN transcriptions.duration_seconds > transcriptions.cut_seconds
                    THEN transcriptions.duration_seconds - transcriptions.cut_seconds
                    ELSE 0 END) AS audio_seconds
      FROM jobs JOIN transcriptions ON transcriptions.id = jobs.transcription_id
                JOIN profiles ON profiles.id = transcriptions.profile_id
     WHERE jobs.state IN ('queued', 'running') AND {NEEDED} AND transcriptions.label = ''
     GROUP BY profiles.engine, profiles.model ORDER BY profiles.engine, profiles.model
""")
IN_HAND = Query[WorkRow]("""
    SELECT attempts.worker_id, jobs.transcription_id, transcriptions.name, jobs.kind, count(*) AS jobs,
           min(jobs.start_seconds) AS start_seconds, max(jobs.end_seconds) AS end_seconds
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     WHERE attempts.state = 'live' AND attempts.worker_id IN :workers
     GROUP BY attempts.worker_id, jobs.transcription_id, transcriptions.name, jobs.kind
     ORDER BY min(attempts.started_at), jobs.transcription_id, jobs.kind
""")
HEARD = Query[tuple[str, float]]("""
    SELECT machine ->> 'launch_id' AS launch_id, sum(audio_seconds) AS audio_seconds FROM workers
     WHERE machine ->> 'launch_id' IN :launch_ids GROUP BY machine ->> 'launch_id'
""")
HEARD_OF = Query[tuple[str, float]]("""
    SELECT workers.machine ->> 'launch_id' AS launch_id, sum(jobs.end_seconds - jobs.start_seconds) AS audio_seconds
      FROM jobs JOIN attempts ON attempts.job_id = jobs.id JOIN workers ON workers.id = attempts.worker_id
     WHERE jobs.transcription_id = :transcription AND jobs.kind = 'transcribe' AND attempts.state = 'done'
       AND workers.machine ->> 'launch_id' IS NOT NULL
     GROUP BY workers.machine ->> 'launch_id'
""")
"""Audio that workers of machines have recognised: in all, and of one transcription; by launch."""
TURN = Query[tuple[str, str | None, float]]("SELECT owner, holder, held_until FROM fleet")
FIRST_TURN = Change("INSERT INTO fleet (id, owner) VALUES (1, :owner) ON CONFLICT (id) DO NOTHING")
TAKE_TURN = Change("""
    UPDATE fleet SET holder = :holder, held_until = :until
     WHERE id = 1 AND (holder IS NULL OR holder = :holder OR held_until <= :now)
""")
LEAVE_TURN = Change("UPDATE fleet SET holder = NULL, held_until = 0 WHERE id = 1 AND holder = :holder")


def take_turn(tx: Transaction, holder: str, seconds: float) -> bool:
    """Begin or go on looking after the machines; False while another coordinator does."""
    tx.changed(FIRST_TURN, {"owner": f"wf-{secrets.token_hex(6)}"})
    return tx.changed(TAKE_TURN, {"holder": holder, "until": tx.now + seconds}) > 0


def leave_turn(tx: Transaction, holder: str) -> None:
    """Let another coordinator go on at once."""
    tx.changed(LEAVE_TURN, {"holder": holder})


def check_turn(tx: Transaction, holder: str) -> None:
    """Raise `WrongState` unless it is still this one's turn: what it knows may be old."""
    _, now_its, until = tx.first(TURN) or ("", None, 0.0)
    if now_its != holder or until <= tx.now:
        raise WrongState("Another coordinator looks after the machines now.")


def owner_tag(tx: Transaction) -> str | None:
    """The tag that all machines of this farm carry; None before the first turn."""
    turn = tx.first(TURN)
    return turn and turn[0]


def counted_machines(tx: Transaction) -> list[MachineRow]:
    """Every launch that is not proven gone."""
    return tx.rows(COUNTED)


def machines_gone_since(tx: Transaction, since: float) -> list[MachineRow]:
    """The launches that ended since then."""
    return tx.rows(LATELY_GONE, {"since": since})


def machines_of(tx: Transaction, launch_ids: Sequence[str]) -> list[MachineRow]:
    """These launches, gone or not."""
    return tx.rows(THESE, {"launch_ids": list(launch_ids)}) if launch_ids else []


def find_machine(tx: Transaction, launch_id: str) -> MachineRow:
    """One launch; raises `NotFound`."""
    return tx.one(THESE, {"launch_ids": [launch_id]}, f"machine {launch_id}")


def spent_by_pool(tx: Transaction) -> dict[str, float]:
    """What the machines that are gone have cost, by pool."""
    return dict(tx.rows(SPENT))


def pool_rows(tx: Transaction) -> dict[str, PoolRow]:
    """What is remembered of the pools, by name."""
    return {row.name: row for row in tx.rows(POOLS)}


def keep(tx: Transaction, machines: Sequence[MachineRow], pools: Sequence[PoolRow], log: Sequence[LogRow]) -> None:
    """Write these rows as they are now, but for switches and wishes."""
    for machine in machines:
        tx.change(KEEP_MACHINE, asdict(machine) | {"stretches": Json(machine.stretches)})
    for pool in pools:
        tx.change(KEEP_POOL, _told(pool))
    for line in log:
        tx.change(WRITE_LOG, asdict(line))


def fulfilled(tx: Transaction, launch_id: str, wish: MachineWish) -> None:
    """Forget this wish for a machine: it has been heeded."""
    tx.change(FULFILLED, {"launch_id": launch_id, "wish": wish})


def change_pool(tx: Transaction, name: str, **wanted: Any) -> None:
    """Switch a pool (`switch`), or say how many machines it shall have (`fixed`; None leaves it to the loop)."""
    tx.change(CHANGE_POOL, _told(replace(pool_rows(tx).get(name) or PoolRow(name), **wanted)))
    tx.wake()


def _told(pool: PoolRow) -> dict[str, Any]:
    return asdict(pool) | {"full_regions": Json(pool.full_regions), "inputs": Json(pool.inputs)}


def wish_for(tx: Transaction, launch_id: str, wish: MachineWish) -> None:
    """Ask that something be done with a machine; raises `NotFound`, or `WrongState` if it is gone."""
    if tx.changed(WISH, {"launch_id": launch_id, "wish": wish}) == 0:
        find_machine(tx, launch_id)
        raise WrongState(f"The machine {launch_id} is gone already.")
    tx.wake()


def log_of(tx: Transaction, launch_id: str | None = None, limit: int = 200) -> list[LogRow]:
    """What happened, newest first; to one machine, or to all."""
    return tx.rows(LOG, {"every": launch_id is None, "launch_id": launch_id or "", "limit": limit})


def forget_log(tx: Transaction, before: float) -> None:
    tx.change(OLD_LOG, {"before": before})


def needs(tx: Transaction) -> list[NeedRow]:
    """The work that is there, by engine and model, with what is still to be cut; none with a label of its own."""
    return tx.rows(NEEDS)


def work_in_hand(tx: Transaction, worker_ids: Collection[str]) -> list[WorkRow]:
    """What these workers do now, what they began first first."""
    return tx.rows(IN_HAND, {"workers": list(worker_ids)}) if worker_ids else []


def heard_by(tx: Transaction, launch_ids: Collection[str]) -> dict[str, float]:
    """Audio-seconds that the workers of these launches have recognised."""
    return dict(tx.rows(HEARD, {"launch_ids": list(launch_ids)})) if launch_ids else {}


def cost_of(tx: Transaction, transcription_id: str) -> float | None:
    """What a transcription cost: of each machine the share of what it heard, idle time included. None without any."""
    heard = dict(tx.rows(HEARD_OF, {"transcription": transcription_id}))
    machines, in_all = machines_of(tx, sorted(heard)), heard_by(tx, heard)
    shares = [row.cost(tx.now) * heard[row.launch_id] / in_all[row.launch_id] for row in machines]
    return sum(shares) if shares else None
