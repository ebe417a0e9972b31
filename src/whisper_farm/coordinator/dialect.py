"""A dialect: one sub-application with its own authentication, error shape and limits.

The worker protocol, the client API and the pages of the server are dialects. Another one (a web page, another
program's API) is a file in `routes/` that calls `sub_application`, and a line in `dialects.py`. Calls of the client API
about another subject begin with `routes_for`.

Bodies become messages here: once, from JSON, with a bounded list of what is wrong. The framework would parse a body
into plain objects first, and then name everything that is wrong with them: a few megabytes of nonsense take it minutes
and gigabytes. The models stop at the first wrong element of a list (`protocol/wire.py`). A large body is checked on a
thread. How large a body may be is said in `layers/limits.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI, Security
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from whisper_farm.coordinator.answers.errors import (
    MOST_NAMED,
    ErrorShape,
    add_error_handlers,
    documented,
    farm_shape,
    invalid_request,
)
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.layers.auth import Authentication, Enter, bearer
from whisper_farm.coordinator.layers.limits import SMALL_BODY_BYTES, RequestLimits
from whisper_farm.errors import FarmError, InvalidRequest

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a dialect has of its own beside its routes.

    `enter` says who a request comes from, or keeps it out; `open_paths` are answered to anybody. A PUT or POST
    below the path `uploads` holds a file of any size: its route bounds it. The paths in `larger` take bodies larger
    than the calls of users are. `shape` writes every answer that is no success.
    """

    enter: Enter
    open_paths: frozenset[str] = frozenset()
    uploads: str | None = None
    larger: Mapping[str, int] = field(default_factory=dict)
    shape: ErrorShape = farm_shape


def sub_application(coordinator: Coordinator, routers: Sequence[APIRouter], own: Dialect) -> FastAPI:
    """A sub-application of these routes, to be mounted in `dialects.py`."""
    routes = [route for router in routers for route in router.routes]  # an included router makes each a second time
    app = FastAPI(openapi_url=None, generate_unique_id_function=lambda route: route.name, routes=routes)
    app.state.coordinator = coordinator
    add_error_handlers(app, routes, own.shape)
    most = coordinator.settings.max_body_bytes
    usual = min(most, coordinator.settings.max_call_bytes)
    larger = {path: min(most, size) for path, size in own.larger.items()}
    app.add_middleware(RequestLimits, usual, own.uploads, own.shape, larger)
    app.add_middleware(Authentication, own.enter, own.open_paths, own.shape)
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


class CheckedRoute(APIRoute):
    """A route whose body is a message of the protocol. Every router of a dialect is made of these."""

    def get_route_handler(self) -> Handler:
        """The framework's handler, with a body that is read here."""
        handle = super().get_route_handler()
        model = None if self.body_field is None else self.body_field.field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return handle

        async def checked(request: Request) -> Response:
            mine = _CheckedRequest(request, model)
            try:
                return await handle(mine)
            except HTTPException:
                if mine.refusal is not None:
                    raise mine.refusal from None
                raise

        return checked


class _CheckedRequest(Request):
    """A request whose `json` is the message. The framework asks for it, and takes the message as it is."""

    def __init__(self, request: Request, model: type[BaseModel]) -> None:
        super().__init__(request.scope, request.receive)
        self._model = model
        self.refusal: InvalidRequest | None = None

    async def json(self) -> BaseModel:
        body = await self.body()
        try:
            if len(body) <= SMALL_BODY_BYTES:
                return parsed(self._model, body)
            return await asyncio.to_thread(parsed, self._model, body)
        except InvalidRequest as refusal:
            self.refusal = refusal
            raise HTTPException(refusal.status) from None  # the framework lets through nothing else


def parsed(model: type[BaseModel], body: bytes) -> BaseModel:
    """The message in a body; raises `InvalidRequest`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        wrong = error.error_count()
        if wrong > MOST_NAMED:
            raise InvalidRequest(f"The body has {wrong} mistakes, too many to name them.") from None
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise invalid_request([(("body", *each["loc"]), each["msg"]) for each in problems]) from None
