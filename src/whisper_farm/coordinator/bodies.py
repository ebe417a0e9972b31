"""Bodies become messages here: once, from JSON, with a bounded list of what is wrong.

The framework would parse a body into plain objects first, and then name everything that is wrong with them: a few
megabytes of nonsense take it minutes and gigabytes. The models stop at the first wrong element of a list
(`protocol/wire.py`). A large body is checked on a thread. How large a body may be is said in `layers/limits.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from whisper_farm.coordinator.answers.errors import invalid_request
from whisper_farm.coordinator.layers.limits import SMALL_BODY_BYTES
from whisper_farm.errors import InvalidRequest

MOST_NAMED = 1000
"""With more mistakes than this none is named: to list them would cost more than to find them."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


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
