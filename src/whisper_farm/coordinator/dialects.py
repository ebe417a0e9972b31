"""All dialects of a server: the worker protocol, the client API, the web app, and the doors of other programs.

`/openapi.json` describes all of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI

from whisper_farm.coordinator.answers.openapi import openapi_document
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialect import Dialect, sub_application
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

CLIENT_ROUTERS = (
    *(uploads.router, transcriptions.router, edits.router, search.router, shares.router, events.router),
    *(workers.router, machines.router, tokens.router, server.client_router, webhooks.router, feeds.router),
)
"""What users and admins call: everything but the protocol of the workers."""


def dialects(coordinator: Coordinator) -> dict[str, FastAPI]:
    """See `app.Dialects`."""
    found = {
        "/api/work": worker.worker_protocol(coordinator),
        "/api": sub_application(coordinator, CLIENT_ROUTERS, Dialect(coordinator.enter, uploads="/uploads/")),
        "/webservice": asr.asr_webservice(coordinator),
        "/deepgram": deepgram.deepgram_api(coordinator),
        "/v1": openai.openai_api(coordinator),
        "/feed": feeds.served_feeds(coordinator),
        "/app": web.web_app(coordinator, people.router),
        "": server.server_pages(coordinator, web.page_router),
    }
    document = cache(lambda: openapi_document(found))

    async def openapi() -> dict[str, Any]:
        return document()

    found[""].add_api_route("/openapi.json", openapi, include_in_schema=False)
    return found
