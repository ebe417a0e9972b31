"""Around every request: one log line, one measurement, and the end of every error that nobody foresaw.

The outermost layer of the application. The dialect has answered such an error; here it is logged and goes no
further. Bodies, query strings and tokens (also those in paths) are never logged.
"""

from __future__ import annotations

import secrets
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.log import logger, time_lines

QUIET_PATHS = {"/healthz", "/readyz", "/metrics", "/api/work/heartbeat"}
"""Asked all the time: logged only when they fail."""
TOLD_PATHS = {f"/api/work/{call}" for call in ("register", "claim", "append", "complete", "fail", "release")}
"""What these change has a line of its own: logged here only when they fail."""
MOST_OF_ID = 16
"""Of the id of a token or session, in the line that says who did what."""
NO_ANSWER = 499
"""Stands for a client that left before its answer was complete, and for an answer that was broken off."""


class BrokenOff(Exception):
    """Raised where an answer has begun, and only the end of its connection can say that something went wrong."""


class RequestLog:
    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.log = logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        time_lines()
        started = time.perf_counter()
        request_id = secrets.token_hex(8)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except (ClientDisconnect, BrokenOff):
            status = NO_ANSWER
        except Exception as error:
            if 0 < status < 500 and isinstance(error, TimeoutError):
                status = NO_ANSWER  # the client takes nothing any more
            else:
                self.log.exception("a request failed", action="request_failed", request_id=request_id)
        self._note(scope, status or NO_ANSWER, time.perf_counter() - started, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        path = getattr(scope.get("route"), "path", None)  # as it was declared: a bounded label that holds no token
        mounted_at = str(scope["root_path"]).removeprefix(scope.get("app_root_path", ""))
        route = "unknown" if path is None else mounted_at + path
        self.metrics.requests.labels(scope["method"], route, str(status)).observe(seconds)
        if status < 400 and scope["path"] in QUIET_PATHS | TOLD_PATHS:
            return
        caller = scope.get("state", {}).get("caller")
        self.log.info(
            "request",
            action="request",
            request_id=request_id,
            method=scope["method"],
            route=route,
            **{name: value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")},
            status=status,
            owner=getattr(caller, "owner", None),
            scope=getattr(caller, "scope", None),
            by=getattr(caller, "token_id", "")[:MOST_OF_ID] or None,
        )
