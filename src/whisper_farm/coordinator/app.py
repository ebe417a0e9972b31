"""The application: its dialects, each at its address, behind one log, and the life of the coordinator behind them.

From outside in: the log of requests (`layers/log`), then the dialect that the address belongs to. Inside a dialect:
authentication, limits, routes. `/openapi.json` describes all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from whisper_farm.coordinator.answers.openapi import openapi_document
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialect import sub_application
from whisper_farm.coordinator.layers.auth import bearer_token
from whisper_farm.coordinator.layers.log import RequestLog
from whisper_farm.coordinator.routes import events, server, tokens, transcriptions, uploads, worker, workers
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database

CLIENT_ROUTERS = (
    *(uploads.router, transcriptions.router, events.router, workers.router, tokens.router),
    server.client_router,
)


def create_app(settings: ServerSettings, policy: Policy, database: Database, blobs: Blobs) -> Starlette:
    """The application of one coordinator. `app.state.coordinator` is what stands behind it."""
    coordinator = Coordinator(settings, policy, database, blobs)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await coordinator.start()
        try:
            yield
        finally:
            await coordinator.stop()

    app = Starlette(
        routes=[Mount(address, dialect) for address, dialect in dialects(coordinator).items()],
        middleware=[Middleware(RequestLog, coordinator.metrics)],
        lifespan=lifespan,
    )
    app.state.coordinator = coordinator
    return app


def dialects(coordinator: Coordinator) -> dict[str, FastAPI]:
    """The sub-applications by their addresses. The first whose address begins a path answers it."""
    found = {
        "/api/work": worker.worker_protocol(coordinator),
        "/api": client_api(coordinator),
        "": server.server_pages(coordinator),
    }
    document = cache(lambda: openapi_document(found))

    async def openapi() -> dict[str, Any]:
        return document()

    found[""].add_api_route("/openapi.json", openapi, include_in_schema=False)
    return found


def client_api(coordinator: Coordinator) -> FastAPI:
    """What users and admins call: everything but the protocol of the workers."""
    enter = bearer_token(coordinator.tokens, "user", "admin")
    return sub_application(coordinator, CLIENT_ROUTERS, enter=enter, uploads="/uploads/")
