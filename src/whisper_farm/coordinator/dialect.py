"""A dialect: one sub-application with its own authentication, error shape and limits.

The worker protocol, the client API and the pages of the server are dialects. Another one (a web page, another
program's API) is a file in `routes/` that calls `sub_application`, and a line in `dialects.py`. Calls of the client API
about another subject begin with `routes_for`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fastapi import APIRouter, FastAPI, Security
from fastapi.routing import APIRoute

from whisper_farm.coordinator.answers.errors import ErrorShape, add_error_handlers, documented, farm_shape
from whisper_farm.coordinator.bodies import CheckedRoute
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.layers.auth import Authentication, Enter, bearer
from whisper_farm.coordinator.layers.limits import RequestLimits
from whisper_farm.errors import FarmError


def sub_application(
    coordinator: Coordinator,
    routers: Sequence[APIRouter],
    *,
    enter: Enter,
    open_paths: frozenset[str] = frozenset(),
    uploads: str | None = None,
    larger: Mapping[str, int] = MappingProxyType({}),
    shape: ErrorShape = farm_shape,
) -> FastAPI:
    """A sub-application of these routes, to be mounted in `dialects.py`.

    `enter` says who a request comes from, or keeps it out; `open_paths` are answered to anybody. A PUT or POST
    below the path `uploads` holds a file of any size: its route bounds it. The paths in `larger` take bodies larger
    than the calls of users are. `shape` writes every answer that is no success.
    """
    app = FastAPI(openapi_url=None, generate_unique_id_function=_operation_id)
    app.state.coordinator = coordinator
    for router in routers:
        app.include_router(router)
    add_error_handlers(app, [route for router in routers for route in router.routes], shape)
    most = coordinator.settings.max_body_bytes
    usual = min(most, coordinator.settings.max_call_bytes)
    app.add_middleware(RequestLimits, usual, uploads, shape, {path: min(most, size) for path, size in larger.items()})
    app.add_middleware(Authentication, enter, open_paths, shape)
    return app


def routes_for(tag: str, prefix: str = "", *errors: type[FarmError]) -> APIRouter:
    """The routes of one subject: with checked bodies, a token, and the errors that any call may answer."""
    return APIRouter(
        route_class=CheckedRoute,
        prefix=prefix,
        tags=[tag],
        dependencies=[Security(bearer)],
        responses=documented(*errors),
    )


def _operation_id(route: APIRoute) -> str:
    return route.name
