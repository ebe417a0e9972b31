"""The application: its dialects, each at its address, behind one log, and the life of the coordinator behind them.

From outside in: the log of requests (`layers/log`), then the dialect that the address belongs to. Inside a dialect:
authentication, limits, routes. `/openapi.json` describes all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_farm.coordinator.answers.openapi import openapi_document
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialect import sub_application
from whisper_farm.coordinator.layers.headers import CarefulHeaders
from whisper_farm.coordinator.layers.log import RequestLog
from whisper_farm.coordinator.routes import (
    asr,
    deepgram,
    edits,
    events,
    feeds,
    machines,
    openai,
    people,
    search,
    server,
    shares,
    tokens,
    transcriptions,
    uploads,
    web,
    webhooks,
    worker,
    workers,
)
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database

CLIENT_ROUTERS = (
    *(uploads.router, transcriptions.router, edits.router, search.router, shares.router, events.router),
    *(workers.router, machines.router, tokens.router, server.client_router, webhooks.router, feeds.router),
)

ALIASES = {"/audio": "/v1", "/models": "/v1"} | dict.fromkeys(("/asr", "/detect-language", "/status"), "/webservice")
ALIASES["/v1/listen"] = "/deepgram"
"""Paths that begin so are also answered without the address of their dialect: clients differ in what they put first."""


def create_app(settings: ServerSettings, policy: Policy, database: Database, blobs: Blobs) -> Starlette:
    """The application of one coordinator. `app.state.coordinator` is what stands behind it."""
    coordinator = Coordinator(settings, policy, database, blobs)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            await coordinator.start()
            yield
        finally:
            await coordinator.stop()

    app = Starlette(
        middleware=[Middleware(RequestLog, coordinator.metrics), Middleware(CarefulHeaders)], lifespan=lifespan
    )
    app.router.default = ByAddress(dialects(coordinator))
    app.state.coordinator = coordinator
    return app


class ByAddress:
    """Gives each request to the dialect whose address begins its path.

    A `Mount` would do, but for paths that hold a line break: it matches none, and answers without asking who calls.
    """

    def __init__(self, dialects: Mapping[str, ASGIApp]) -> None:
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = str(scope.get("root_path", ""))
        path = "/" + str(scope["path"]).removeprefix(root).lstrip("/")  # addresses that end in a slash make two of it
        if alias := next((front for front in ALIASES if path == front or path.startswith(f"{front}/")), None):
            path = ALIASES[alias] + path
        scope["path"] = root + path
        address = next(address for address in self._dialects if path.startswith(f"{address}/") or not address)
        scope.update({"app_root_path": root, "root_path": root + address})
        await self._dialects[address](scope, receive, send)


def dialects(coordinator: Coordinator) -> dict[str, FastAPI]:
    """The sub-applications by their addresses. The first whose address begins a path answers it."""
    found = {
        "/api/work": worker.worker_protocol(coordinator),
        "/api": client_api(coordinator),
        "/webservice": asr.asr_webservice(coordinator),
        "/deepgram": deepgram.deepgram_api(coordinator),
        "/v1": openai.openai_api(coordinator),
        "/feed": feeds.served_feeds(coordinator),
        "/app": web.web_app(coordinator, people.router),
        "": server.server_pages(coordinator),
    }
    found[""].include_router(web.page_router)
    document = cache(lambda: openapi_document(found))

    async def openapi() -> dict[str, Any]:
        return document()

    found[""].add_api_route("/openapi.json", openapi, include_in_schema=False)
    return found


def client_api(coordinator: Coordinator) -> FastAPI:
    """What users and admins call: everything but the protocol of the workers."""
    return sub_application(coordinator, CLIENT_ROUTERS, enter=coordinator.enter, uploads="/uploads/")
