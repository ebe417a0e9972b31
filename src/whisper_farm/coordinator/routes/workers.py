"""The workers of the farm, for its administrators: who is there, and who shall leave."""

from __future__ import annotations

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import WorkerId
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import Admin
from whisper_farm.coordinator.views import worker_list, worker_view
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.leases import workers
from whisper_farm.protocol.client import WorkerList, WorkerView

GONE_SECONDS = 3600
"""How long a worker that has gone is still shown."""

router = routes_for("workers", "/workers")
_CHANGE = documented(NotFound, WrongState)


@router.get("")
async def list_workers(caller: Admin, farm: Farm) -> WorkerList:
    """The workers that are there, and those that went within the last hour."""
    return await farm.store.read(lambda tx: worker_list(tx, gone_since=tx.now - GONE_SECONDS))


@router.post("/{worker_id}/drain", responses=_CHANGE)
async def drain_worker(worker_id: WorkerId, caller: Admin, farm: Farm) -> WorkerView:
    """Let a worker finish what it holds and leave."""
    await farm.store.write(lambda tx: workers.drain(tx, worker_id))
    return await _view(farm, worker_id)


@router.post("/{worker_id}/dismiss", responses=_CHANGE)
async def dismiss_worker(worker_id: WorkerId, caller: Admin, farm: Farm) -> WorkerView:
    """Let a worker hand everything back and leave at once."""
    await farm.store.write(lambda tx: workers.dismiss(tx, worker_id))
    return await _view(farm, worker_id)


async def _view(farm: Coordinator, worker_id: str) -> WorkerView:
    return await farm.store.read(lambda tx: worker_view(tx, worker_id))
