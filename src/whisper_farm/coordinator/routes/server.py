"""How the server is: alive, ready, what it can do, and what it has counted."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, FastAPI, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from whisper_farm import __version__
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.bodies import CheckedRoute
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import routes_for, sub_application
from whisper_farm.coordinator.layers.auth import Admin, AnyCaller, bearer, bearer_token
from whisper_farm.coordinator.metrics import farm_gauges
from whisper_farm.errors import ObjectStoreRefused, SchemaMismatch, StoreUnavailable
from whisper_farm.leases.workers import LiveWorkers
from whisper_farm.protocol.client import ServerView
from whisper_farm.protocol.wire import PROTOCOL_VERSION, ErrorBody
from whisper_farm.store.counts import queued_jobs

ANYBODY_READS = frozenset({"/", "/healthz", "/readyz"})

router = APIRouter(route_class=CheckedRoute, tags=["server"])
client_router = routes_for("server")
"""What the client API says of the server."""


def server_pages(coordinator: Coordinator) -> FastAPI:
    """The dialect of whoever looks after the server: a token of any scope, and none for health and the app's page."""
    enter = bearer_token(coordinator.tokens, "user", "worker", "admin")
    return sub_application(coordinator, [router], enter=enter, open_paths=ANYBODY_READS)


class Health(BaseModel):
    """The answer of a server that is well."""

    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Says nothing of its database; see `/readyz`."""
    return Health()


_UNREADY = documented(StoreUnavailable, ObjectStoreRefused, SchemaMismatch, always=())[503]


@router.get("/readyz", responses={503: {**_UNREADY, "model": ErrorBody}})
async def readyz(farm: Farm) -> Health:
    """Database and blob store answer, and this release may run on the tables: requests may be sent here."""
    await farm.readiness.ensure()
    return Health()


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Security(bearer)],
    responses={200: {"description": "Prometheus text.", "content": {"text/plain": {}}}, **documented()},
)
async def metrics(caller: Admin, farm: Farm) -> Response:
    """Counters of this coordinator, gauges of the farm, in Prometheus' text format."""
    gauges = await farm.store.read(farm_gauges)
    return Response(farm.metrics.render(gauges), media_type=CONTENT_TYPE_LATEST)


@client_router.get("/server")
async def server(caller: AnyCaller, farm: Farm) -> ServerView:
    """Who answers, and what it can do."""
    queued, live = await farm.store.read(
        lambda tx: (sum(row.jobs for row in queued_jobs(tx)), len(LiveWorkers(tx, farm.policy).offers))
    )
    is_admin = caller.scope == "admin"
    return ServerView(
        version=__version__,
        protocol=PROTOCOL_VERSION,
        database=farm.database.place if is_admin else farm.database.dialect,
        blobs=farm.blobs.place if is_admin else "hidden",
        scope=caller.scope,
        owner=caller.owner,
        workers_live=live,
        jobs_queued=queued,
        max_upload_bytes=farm.settings.max_upload_bytes,
        max_unfinished=farm.settings.max_unfinished if is_admin else None,
        retention_days=farm.settings.retention_days if is_admin else None,
        trash_hours=farm.settings.trash_hours if is_admin else None,
        max_waiting_bytes=farm.settings.max_waiting_bytes if is_admin else None,
        max_workers=farm.policy.max_workers if is_admin else None,
    )
