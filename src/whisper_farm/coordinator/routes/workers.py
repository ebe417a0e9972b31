"""The workers of the farm, for its administrators: who is there, who rests, and who shall leave.

And the codes by which workers join: make one, see which workers wait, let them in or send them away.
"""

from __future__ import annotations

from typing import Annotated, assert_never

from fastapi import Query

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import IdInPath
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import Admin
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.leases import workers
from whisper_farm.leases.fail import take_back
from whisper_farm.protocol.administration import JoinCode, JoinCodes, WorkerAction, WorkerList, WorkerView, WorkingHours
from whisper_farm.protocol.wire import Name
from whisper_farm.store import join_codes
from whisper_farm.store.database import Transaction
from whisper_farm.store.workers import find_worker
from whisper_farm.store.workers import list_workers as list_rows

GONE_SECONDS = 3600
"""How long a worker that has gone is still shown."""

router = routes_for("workers")


@router.get("/workers")
async def list_workers(caller: Admin, farm: Farm) -> WorkerList:
    """The workers that are there, and those that went within the last hour."""

    def view(tx: Transaction) -> WorkerList:
        since = workers.silent_since(tx, farm.policy)
        rows = list_rows(tx, gone_since=tx.now - GONE_SECONDS)
        silent = {row.id for row in rows if row.state == "live" and not row.paused and row.last_seen_at <= since}
        views = (WorkerView.of(row, state="silent" if row.id in silent else row.state) for row in rows)
        return WorkerList(workers=tuple(views))

    return await farm.store.read(view)


@router.put("/workers/{worker_id}/hours", responses=documented(NotFound, WrongState))
async def change_hours(worker_id: IdInPath, body: WorkingHours, caller: Admin, farm: Farm) -> WorkerView:
    """Say when a worker shall work, and all others of its name: also those that are started later."""

    def change(tx: Transaction) -> WorkerView:
        workers.want_hours(tx, worker_id, body.hours, caller.owner)
        return WorkerView.of(find_worker(tx, worker_id))

    return await farm.store.write(change)


@router.post("/workers/{worker_id}/{action}", responses=documented(NotFound, WrongState))
async def change_worker(worker_id: IdInPath, action: WorkerAction, caller: Admin, farm: Farm) -> WorkerView:
    """Pause a worker, resume it, or let it leave: after what it holds, or at once with that handed back."""

    def change(tx: Transaction) -> WorkerView:
        match action:
            case "pause" | "pause-now" | "resume":
                workers.pause(tx, worker_id, paused=action != "resume")
                if action == "pause-now":
                    take_back(tx, worker_id, farm.policy)
            case "drain":
                workers.drain(tx, worker_id)
            case "dismiss":
                workers.dismiss(tx, worker_id)
            case _:
                assert_never(action)
        return WorkerView.of(find_worker(tx, worker_id))

    return await farm.store.write(change)


@router.post("/join-codes", status_code=201)
async def create_join_code(
    caller: Admin,
    farm: Farm,
    owner: Annotated[Name | None, Query(description="Whose it is; yours by default.")] = None,
    approved: Annotated[bool, Query(description="Whether its worker comes in without asking again.")] = False,
) -> JoinCode:
    """Make a code by which one worker asks to join, within 15 minutes. It is in this answer and nowhere else."""
    row, code = await farm.store.write(
        lambda tx: join_codes.make_code(tx, caller.owner, caller.token_id, owner, approved)
    )
    return JoinCode.of(row, code=code)


@router.get("/join-codes")
async def list_join_codes(caller: Admin, farm: Farm) -> JoinCodes:
    """The codes that work, and with a name the workers that wait to be let in."""
    rows = await farm.store.read(join_codes.join_codes)
    return JoinCodes(codes=tuple(JoinCode.of(row) for row in rows))


@router.post("/join-codes/{join_id}/approve", status_code=204, responses=documented(NotFound))
async def approve_worker(join_id: IdInPath, caller: Admin, farm: Farm) -> None:
    """Let a waiting worker in: from now on its token is valid."""
    await farm.store.write(lambda tx: join_codes.approve(tx, join_id, farm.settings.max_tokens))
    farm.tokens.forget()
    farm.log.info("a worker was let in", action="worker_let_in", join_id=join_id, owner=caller.owner)


@router.delete("/join-codes/{join_id}", status_code=204, responses=documented(NotFound))
async def remove_join_code(join_id: IdInPath, caller: Admin, farm: Farm) -> None:
    """Remove a code, or send away the worker that waits."""
    await farm.store.write(lambda tx: join_codes.refuse(tx, join_id))
