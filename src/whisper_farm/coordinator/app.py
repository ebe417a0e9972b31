"""The FastAPI application: routes, the layers around them, and the life of the coordinator behind them.

From outside in: `log` (log, measure, last stop of errors), `auth` (no token, no answer), `limits` (size and
pace of bodies), then the routes. There is no page that loads anything from elsewhere; `/openapi.json` describes it all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from whisper_farm import __version__
from whisper_farm.coordinator.answers.errors import add_error_handlers
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.layers.auth import Authentication
from whisper_farm.coordinator.layers.limits import Limits
from whisper_farm.coordinator.layers.log import RequestLog
from whisper_farm.coordinator.routes import (
    events,
    server,
    tokens,
    transcriptions,
    transcripts,
    transfers,
    uploads,
    worker,
    workers,
)
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database

DESCRIPTION = """Submit recordings, follow them, take their transcripts; and the API of the workers.

Every answer that is not a success is `{"error": {"code", "message", "details"}}`."""


def create_app(settings: ServerSettings, policy: Policy, database: Database, blobs: Blobs) -> FastAPI:
    """The application of one coordinator. `app.state.coordinator` is what stands behind it."""
    coordinator = Coordinator(settings, policy, database, blobs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await coordinator.start()
        try:
            yield
        finally:
            await coordinator.stop()

    app = FastAPI(
        title="Whisper Farm",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.coordinator = coordinator
    rooms = (worker, transfers, uploads, transcriptions, transcripts, events, workers, tokens, server)
    add_error_handlers(app, [route for room in rooms for route in room.router.routes])
    for room in rooms:
        app.include_router(room.router)
    app.add_middleware(Limits, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(Authentication, tokens=coordinator.tokens)
    app.add_middleware(RequestLog, metrics=coordinator.metrics)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
