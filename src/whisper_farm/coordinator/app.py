"""The application: its dialects, each at its address, behind one log, and the life of the coordinator behind them.

From outside in: the log of requests (`layers/log`), then the dialect that the address belongs to. Inside a dialect:
authentication, limits, routes. A server speaks all `dialects`; the farm inside one command only its `own_dialects`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialect import Dialect, sub_application
from whisper_farm.coordinator.layers.headers import CarefulHeaders
from whisper_farm.coordinator.layers.log import RequestLog
from whisper_farm.coordinator.layers.quotas import FORWARDED_FOR, forwarded_for
from whisper_farm.coordinator.routes import events, server, transcriptions, worker, workers
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database

Dialects = Callable[[Coordinator], Mapping[str, FastAPI]]
"""Makes sub-applications, by their addresses. The first whose address begins a path answers it; the last has none."""

ALIASES = {"/audio": "/v1", "/models": "/v1"} | dict.fromkeys(("/asr", "/detect-language", "/status"), "/webservice")
ALIASES["/v1/listen"] = "/deepgram"
"""Paths that begin so are also answered without the address of their dialect: clients differ in what they put first."""


def create_app(
    settings: ServerSettings, policy: Policy, database: Database, blobs: Blobs, dialects: Dialects
) -> Starlette:
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
    app.router.default = ByAddress(dialects(coordinator), settings.proxy_networks)
    app.state.coordinator = coordinator
    return app


class ByAddress:
    """Gives each request to the dialect whose address begins its path.

    A `Mount` would do, but for paths that hold a line break: it matches none, and answers without asking who calls.
    """

    def __init__(self, dialects: Mapping[str, ASGIApp], proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        self._dialects, self._proxies = dialects, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[FORWARDED_FOR] = forwarded_for(scope, self._proxies)
        root = str(scope.get("root_path", ""))
        path = "/" + str(scope["path"]).removeprefix(root).lstrip("/")  # addresses that end in a slash make two of it
        if alias := next((front for front in ALIASES if path == front or path.startswith(f"{front}/")), None):
            path = ALIASES[alias] + path
        scope["path"] = root + path
        address = next(address for address in self._dialects if path.startswith(f"{address}/") or not address)
        scope.update({"app_root_path": root, "root_path": root + address})
        await self._dialects[address](scope, receive, send)


def own_dialects(coordinator: Coordinator) -> dict[str, FastAPI]:
    """What this program says to itself when its farm is for one command: nobody else calls."""
    routers = transcriptions.router, events.router, workers.router, server.client_router
    return {
        "/api/work": worker.worker_protocol(coordinator),
        "/api": sub_application(coordinator, routers, Dialect(coordinator.enter)),
        "": server.server_pages(coordinator),
    }
