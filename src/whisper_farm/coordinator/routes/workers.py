"""The workers of the farm, for its administrators: who is there, who rests, and who shall leave."""

from __future__ import annotations

from typing import assert_never

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import WorkerId
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import Admin
from whisper_farm.coordinator.views import worker_list, worker_view
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.leases import workers
from whisper_farm.leases.fail import take_back
from whisper_farm.protocol.client import WorkerAction, WorkerList, WorkerView
from whisper_farm.store.database import Transaction

GONE_SECONDS = 3600
"""How long a worker that has gone is still shown."""

router = routes_for("workers", "/workers")


@router.get("")
async def list_workers(caller: Admin, farm: Farm) -> WorkerList:
    """The workers that are there, and those that went within the last hour."""
    return await farm.store.read(lambda tx: worker_list(tx, gone_since=tx.now - GONE_SECONDS))


@router.post("/{worker_id}/{action}", responses=documented(NotFound, WrongState))
async def change_worker(worker_id: WorkerId, action: WorkerAction, caller: Admin, farm: Farm) -> WorkerView:
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
        return worker_view(tx, worker_id)

    return await farm.store.write(change)
