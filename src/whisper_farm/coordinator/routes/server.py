"""How the server is: alive, ready, what it can do, and what it has counted."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, FastAPI, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from whisper_farm import __version__
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import CheckedRoute, Dialect, routes_for, sub_application
from whisper_farm.coordinator.layers.auth import Admin, AnyCaller, bearer, bearer_token
from whisper_farm.coordinator.metrics import farm_gauges
from whisper_farm.errors import ObjectStoreRefused, SchemaMismatch, StoreUnavailable
from whisper_farm.leases.workers import LiveWorkers
from whisper_farm.protocol.administration import LimitsChange, LimitsView, ServerView
from whisper_farm.protocol.wire import PROTOCOL_VERSION, ErrorBody
from whisper_farm.settings import Limits, ServerSettings
from whisper_farm.store import limits
from whisper_farm.store.counts import queued_jobs
from whisper_farm.store.database import Transaction

ANYBODY_READS = frozenset({"/", "/healthz", "/readyz"})

router = APIRouter(route_class=CheckedRoute, tags=["server"])
client_router = routes_for("server")
"""What the client API says of the server."""


def server_pages(coordinator: Coordinator, *pages: APIRouter) -> FastAPI:
    """The dialect of whoever looks after the server: a token of any scope, and none for health and the app's page."""
    enter = bearer_token(coordinator.tokens, "user", "worker", "admin")
    return sub_application(coordinator, [router, *pages], Dialect(enter, open_paths=ANYBODY_READS))


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
    )


@client_router.get("/limits")
async def get_limits(caller: Admin, farm: Farm) -> LimitsView:
    """What one person or token may have at the same time, and how long transcriptions are kept."""
    return await farm.store.read(lambda tx: _limits(tx, farm.settings))


@client_router.patch("/limits")
async def change_limits(body: LimitsChange, caller: Admin, farm: Farm) -> LimitsView:
    """Change limits. They count at once, at every coordinator; one as the server was given it follows that again."""
    change = body.model_dump(exclude_unset=True)

    def changed(tx: Transaction) -> LimitsView:
        limits.change_limits(tx, farm.settings, change, caller.owner)
        return _limits(tx, farm.settings)

    farm.log.info("limits were changed", action="limits_changed", owner=caller.owner, changed=change)
    return await farm.store.write(changed)


def _limits(tx: Transaction, settings: ServerSettings) -> LimitsView:
    given = Limits.model_validate(limits.given(settings))
    return LimitsView(limits=limits.limits_in_force(tx, settings), server=given)
