"""The farm's machines, for its administrators: pools and their switches, machines and what happened to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Path, Query

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import ID, IdInPath
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import Admin, AnyCaller
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.fleet.pools import Fleet, Pool, Rules
from whisper_farm.fleet.reconcile import snapshot_of
from whisper_farm.fleet.sizes import total_wanted
from whisper_farm.fleet.snapshot import Snapshot
from whisper_farm.protocol import machines as protocol
from whisper_farm.store import machines as rows
from whisper_farm.store.database import Transaction
from whisper_farm.store.machines import MachineRow, PoolRow, WorkRow
from whisper_farm.times import DAY_SECONDS

router = routes_for("machines")
PoolInPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


@router.get("/machines")
async def list_machines(caller: Admin, farm: Farm) -> protocol.MachineList:
    """Every pool with its limits, its spending and the last decision; every machine that counts or ended today."""
    fleet = _fleet(farm)
    return await farm.store.read(lambda tx: _list(tx, fleet))


@router.get("/machines/log")
async def machine_log(
    caller: Admin, farm: Farm, machine: Annotated[str | None, Query(pattern=ID)] = None
) -> protocol.MachineLog:
    """What was decided and what providers answered, newest first; of one machine or of all."""
    lines = await farm.store.read(lambda tx: rows.log_of(tx, machine))
    return protocol.MachineLog(lines=tuple(protocol.MachineLine.of(one, machine=one.launch_id) for one in lines))


@router.post("/machines/sync")
async def sync_machines(caller: Admin, farm: Farm) -> protocol.MachineList:
    """Look at all providers at once instead of at the next round, and decide anew."""
    _wake(farm)
    return await list_machines(caller, farm)


@router.post("/machines/{machine}/{action}", responses=documented(NotFound, WrongState))
async def change_machine(
    machine: IdInPath, action: protocol.MachineAction, caller: Admin, farm: Farm
) -> protocol.MachineView:
    """Ask that a machine be started, drained, stopped or destroyed. It is done in the next round."""
    await farm.store.write(lambda tx: rows.wish_for(tx, machine, action))
    _wake(farm)
    return await farm.store.read(lambda tx: _views(tx, [rows.find_machine(tx, machine)])[0])


@router.post("/pools/{pool}", responses=documented(NotFound))
async def change_pool(pool: PoolInPath, change: protocol.PoolChange, caller: Admin, farm: Farm) -> protocol.MachineList:
    """Switch a pool on, pause it, drain it or stop it at once; or fix how many machines it shall have."""
    fleet = _fleet(farm)
    if pool not in fleet.pools:
        raise NotFound(f"There is no pool {pool}. The pools are: {', '.join(fleet.pools) or 'none'}.")

    def write(tx: Transaction) -> None:
        if change.switch is not None:
            rows.change_pool(tx, pool, switch=change.switch)
        if change.automatic or change.fixed is not None:
            rows.change_pool(tx, pool, fixed=None if change.automatic else change.fixed)

    await farm.store.write(write)
    _wake(farm)
    return await farm.store.read(lambda tx: _list(tx, fleet))


@router.get("/scaling")
async def scaling(
    caller: AnyCaller,
    farm: Farm,
    engine: Annotated[str, Query(min_length=1, max_length=255)] = DEFAULT_ENGINE,
    model: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    slots: Annotated[int, Query(ge=1, le=1024)] = 1,
    maximum: Annotated[int, Query(ge=0, le=1000)] = 100,
    target_drain_seconds: Annotated[float, Query(ge=1, le=86_400)] = 600,
) -> protocol.ScalingView:
    """How many workers of this sort there should be in all, busy ones included, by the rules of the farm's pools."""
    pool = Pool(name="outside", provider="outside", engine=engine, model=model, slots=slots, maximum=maximum)
    fleet = Fleet(pools={pool.name: pool}, fleet=Rules(target_drain_seconds=target_drain_seconds))
    wanted, why = await farm.store.read(lambda tx: total_wanted(snapshot_of(tx, fleet, {}), pool))
    return protocol.ScalingView(wanted=wanted, why=why)


def _fleet(farm: Coordinator) -> Fleet:
    return farm.machines.fleet if farm.machines is not None else Fleet()


def _wake(farm: Coordinator) -> None:
    if farm.machines is not None:
        farm.services.wake(farm.machines.name)


def _list(tx: Transaction, fleet: Fleet) -> protocol.MachineList:
    snapshot = snapshot_of(tx, fleet, {})
    launched = [*snapshot.machines.values(), *snapshot.ended_today]
    heard = rows.heard_by(tx, [row.launch_id for row in launched])
    return protocol.MachineList(
        pools=tuple(_pool_view(snapshot, pool, heard) for pool in fleet.pools.values()), machines=_views(tx, launched)
    )


def _views(tx: Transaction, launched: Sequence[MachineRow]) -> tuple[protocol.MachineView, ...]:
    work = rows.work_in_hand(tx, [row.worker_id for row in launched if row.worker_id and row.state != "gone"])
    return tuple(_view(row, tx.now, [one for one in work if one.worker_id == row.worker_id]) for row in launched)


def _view(row: MachineRow, now: float, work: Sequence[WorkRow]) -> protocol.MachineView:
    return protocol.MachineView.of(
        row,
        id=row.launch_id,
        jobs=sum(one.jobs for one in work),
        work=tuple(protocol.MachineWork.of(one) for one in work),
        age_seconds=(row.ended_at or now) - row.intended_at,
        ran_seconds=row.seconds(now),
        cost=row.cost(now),
    )


def _pool_view(snapshot: Snapshot, pool: Pool, heard_by: Mapping[str, float]) -> protocol.PoolView:
    now, kept = snapshot.now, snapshot.pools.get(pool.name) or PoolRow(pool.name)
    mine = [row for row in snapshot.machines.values() if row.pool == pool.name]
    today = [row for row in (*mine, *snapshot.ended_today) if row.pool == pool.name]
    working = sum(row.state == "working" for row in mine)
    heard, paid = sum(heard_by.get(row.launch_id, 0) for row in today), sum(row.cost(now) for row in today)
    speed, backlog = kept.inputs.get("speed"), kept.inputs.get("audio_seconds", 0)
    return protocol.PoolView.of(
        kept,
        pool,
        counted=sum(row.state != "gone" for row in mine),
        working=working,
        blocked=kept.blocked_why if kept.blocked_until > now else None,
        spent_today=sum(row.cost(now, now - now % DAY_SECONDS) for row in today),
        spent=snapshot.spent.get(pool.name, 0) + sum(row.cost(now) for row in mine),
        price_per_audio_hour=paid / heard * 3600 if heard else pool.price_per_hour / speed if speed else None,
        seconds_left=backlog / (speed * working) if speed and working else None,
        seconds_left_at_maximum=backlog / (speed * pool.maximum) if speed and pool.maximum else None,
    )
