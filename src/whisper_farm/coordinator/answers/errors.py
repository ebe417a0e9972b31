"""One shape for every answer that is not a success: `{"error": {"code", "message", "details"}}`.

Promises that no answer carries a traceback, an SQL statement or the value that was refused. Does not decide
what is an error: rooms raise a `FarmError`, and its `code` and `status` are the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from whisper_farm.errors import (
    FarmError,
    Forbidden,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NoSpace,
    NotFound,
    ProtocolMismatch,
    StoreUnavailable,
    TooLarge,
    TooSlow,
    Unauthorized,
)
from whisper_farm.protocol.wire import ErrorBody, ErrorDetail

RETRY_AFTER_SECONDS = 1
MAX_PROBLEMS = 20
"""Validation problems named in one answer."""

ALWAYS: tuple[type[FarmError], ...] = (
    Unauthorized,
    Forbidden,
    InvalidRequest,
    TooLarge,
    TooSlow,
    NoSpace,
    StoreUnavailable,
    Internal,
)
"""What any call of the API that needs a token may answer."""
ALWAYS_WORK: tuple[type[FarmError], ...] = (*ALWAYS, ProtocolMismatch)
"""What any call of the worker API may answer."""

_BODY: dict[str, Any] = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}}
"""By name, because the framework would build a validator for each mention of the model; `/readyz` defines it."""


def error_response(error: FarmError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error."""
    return body_response(error.status, error.code, error.message, error.details, {**_headers(error), **(headers or {})})


def body_response(
    status: int,
    code: str,
    message: str,
    details: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer in the one shape."""
    body = ErrorBody(error=ErrorDetail(code=code, message=message, details=details or {}))
    return Response(body.model_dump_json(), status, dict(headers or {}), "application/json")


def internal_error() -> Response:
    """The answer for an error nobody foresaw: it says nothing of what happened, the log does."""
    return error_response(Internal())


def documented(*kinds: type[FarmError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the errors a call may answer, grouped by status."""
    by_status: dict[int, list[type[FarmError]]] = defaultdict(list)
    for kind in dict.fromkeys(kinds):
        by_status[kind.status].append(kind)
    return {
        status: {"description": " · ".join(f"`{k.code}`: {k().message}" for k in group), **_BODY}
        for status, group in sorted(by_status.items())
    }


def add_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let every error that reaches the application leave it in the one shape."""
    resources = [route for route in routes if isinstance(route, Route)]

    async def farm_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, FarmError)
        return error_response(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(_invalid_request(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return _method_not_allowed(resources, request.url.path)
        return _http_error(error)

    app.add_exception_handler(FarmError, farm_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def _headers(error: FarmError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if error.status == 503:
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}


def _invalid_request(error: RequestValidationError) -> InvalidRequest:
    problems = [
        {"where": ".".join(str(step) for step in problem["loc"])[:200], "problem": str(problem["msg"])[:200]}
        for problem in error.errors()[:MAX_PROBLEMS]
    ]
    first = problems[0] if problems else {"where": "request", "problem": "is malformed"}
    return InvalidRequest(f"{first['where']}: {first['problem']}", problems=problems)


def _http_error(error: HTTPException) -> Response:
    """What the framework raises itself: an unknown path, a body that is no JSON."""
    if error.status_code == 400:
        return error_response(InvalidRequest("The body cannot be parsed as JSON."))
    if error.status_code == 404:
        return error_response(NotFound("There is nothing at this address."))
    phrase = HTTPStatus(error.status_code).phrase
    return body_response(error.status_code, phrase.lower().replace(" ", "_"), f"{phrase}.", headers=error.headers)


def _method_not_allowed(resources: Sequence[Route], path: str) -> Response:
    """Name all methods of the address; the framework knows those of one route only."""
    found = (route.methods or () for route in resources if route.path_regex.match(path))
    allowed = ", ".join(sorted({method for methods in found for method in methods}))
    return error_response(MethodNotAllowed(), {"Allow": allowed})
