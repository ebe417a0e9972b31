"""Answers that are no success, in the shape of their dialect. Ours is `{"error": {"code", "message", "details"}}`.

No answer carries a traceback, an SQL statement or the value that was refused. This module does not decide what is an
error: rooms raise a `FarmError`, and its `code` and `status` are the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from whisper_farm import errors
from whisper_farm.protocol.wire import Answer, ErrorBody, ErrorDetail

RETRY_AFTER_SECONDS = 1
QUOTA_SECONDS = 10
MAX_PROBLEMS = 20
"""Validation problems named in one answer."""
MOST_NAMED = 1000
"""With more mistakes than this none is named: to list them would cost more than to find them."""

ErrorShape = Callable[[int, ErrorDetail], Response]
"""Writes the answer of a dialect for a status and what went wrong."""

ALWAYS: tuple[type[errors.FarmError], ...] = (
    *(errors.Unauthorized, errors.Forbidden, errors.InvalidRequest, errors.TooLarge, errors.TooSlow),
    *(errors.QuotaReached, errors.NoSpace, errors.StoreUnavailable, errors.ObjectStoreRefused, errors.ServerBusy),
    errors.Internal,
)
"""What any call of the API that needs a token may answer."""

_BODY: dict[str, Any] = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}}
"""By name, because the framework would build a validator for each mention of the model; `/readyz` defines it."""


def farm_shape(status: int, detail: ErrorDetail) -> Response:
    """The shape of our own APIs."""
    return Response(ErrorBody(error=detail).model_dump_json(), status, media_type="application/json")


def error_response(error: errors.FarmError, shape: ErrorShape, headers: Mapping[str, str] | None = None) -> Response:
    details = error.details | ({"lasting": True} if error.lasting else {})
    answer = shape(error.status, ErrorDetail.of(error, details=details))
    answer.headers.update({**_headers(error), **(headers or {})})
    return answer


def documented(
    *kinds: type[errors.FarmError], always: Sequence[type[errors.FarmError]] = ALWAYS
) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the errors a call may answer, grouped by status: these, and those of any call."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for kind in dict.fromkeys((*always, *kinds)):
        by_status[kind.status].append(f"`{kind.code}`: {kind().message}")
    return {status: {"description": " · ".join(texts), **_BODY} for status, texts in sorted(by_status.items())}


def documented_as(body: type[Answer], *kinds: type[errors.FarmError]) -> dict[int | str, dict[str, Any]]:
    """The same for a dialect that writes errors in a form of its own."""
    described = documented(*kinds).items()
    return {elsewhere(int(status)): {"description": one["description"], "model": body} for status, one in described}


def elsewhere(status: int) -> int:
    """The status in the APIs of other programs: there, what is wrong with a request is 400, never 422."""
    return 400 if status == 422 else status


def add_error_handlers(app: FastAPI, routes: Sequence[BaseRoute], shape: ErrorShape) -> None:
    """Let every error of this sub-application leave it in its shape, an error nobody foresaw as well."""
    resources = [route for route in routes if isinstance(route, Route)]

    async def answer(request: Request, error: Exception) -> Response:
        """Says nothing of what nobody foresaw; the log does."""
        match error:
            case errors.FarmError():
                return error_response(error, shape)
            case RequestValidationError():
                return error_response(invalid_request([(each["loc"], each["msg"]) for each in error.errors()]), shape)
            case HTTPException(status_code=400):
                return error_response(errors.InvalidRequest("The body cannot be parsed as JSON."), shape)
            case HTTPException(status_code=404):
                return error_response(errors.NotFound("There is nothing at this address."), shape)
            case HTTPException(status_code=405):
                path = request.scope["path"].removeprefix(request.scope["root_path"])
                return error_response(errors.MethodNotAllowed(), shape, {"Allow": _allowed(resources, path)})
            case HTTPException():
                detail = ErrorDetail(code=errors.InvalidRequest.code, message=error.detail)
                refusal = shape(error.status_code, detail)
                refusal.headers.update(error.headers or {})
                return refusal
        return error_response(errors.Internal(), shape)

    for kind in (errors.FarmError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _headers(error: errors.FarmError) -> dict[str, str]:
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if error.status == 503:
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if error.status == 429:
        return {"Retry-After": str(QUOTA_SECONDS)}
    return {}


def invalid_request(wrong: Sequence[tuple[Sequence[object], str]]) -> errors.InvalidRequest:
    """The refusal of a request: where something is wrong, and what; the first few of it."""
    problems = [
        {"where": ".".join(str(step) for step in where)[:200], "problem": _problem(where, problem)[:200]}
        for where, problem in wrong[:MAX_PROBLEMS]
    ]
    first = problems[0] if problems else {"where": "request", "problem": "is malformed"}
    return errors.InvalidRequest(f"{first['where']}: {first['problem']}", problems=problems)


def _problem(where: Sequence[object], problem: str) -> str:
    """A body that is nothing of what was wanted was mostly sent as something else."""
    if tuple(where) != ("body",) or problem.startswith("Invalid JSON"):
        return problem
    return "a JSON object is wanted here, sent with the header `Content-Type: application/json`"


def _allowed(resources: Sequence[Route], path: str) -> str:
    """All methods of the address; the framework knows those of one route only."""
    found = (route.methods or () for route in resources if route.path_regex.match(path))
    return ", ".join(sorted({method for methods in found for method in methods}))
