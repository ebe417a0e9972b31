"""A dialect of one's own: what it lets in, how it says no and how much it takes are its alone."""

from __future__ import annotations

import importlib
from pkgutil import iter_modules

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope
from support.served_farm import ServedFarm, StartFarm, refused

from whisper_farm.coordinator import dialects as dialects_module
from whisper_farm.coordinator import routes
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialect import CheckedRoute, Dialect, sub_application
from whisper_farm.coordinator.layers.auth import AnyCaller, Caller
from whisper_farm.errors import Unauthorized
from whisper_farm.protocol.wire import ErrorDetail

router = APIRouter()


class Wish(BaseModel):
    """A body that is checked."""

    count: int


@router.get("/who")
async def who(caller: AnyCaller) -> str:
    """The caller, as this dialect found it."""
    return caller.owner


@router.post("/wish")
async def wish(body: Wish) -> int:
    """Something with a body."""
    return body.count


@router.get("/broken")
async def broken() -> str:
    """Fails in a way that nobody foresaw."""
    raise ValueError("the secret is 12345")


def plain_text(status: int, detail: ErrorDetail) -> Response:
    """The shape of this dialect."""
    return PlainTextResponse(f"no: {detail.code}", status)


async def by_key(scope: Scope) -> Caller:
    """The way in of this dialect: a header of its own."""
    if (b"x-key", b"open sesame") not in scope["headers"]:
        raise Unauthorized
    return Caller("key", "ali", "user")


@pytest.fixture
def farm(start_farm: StartFarm, monkeypatch: pytest.MonkeyPatch) -> ServedFarm:
    """A farm with one dialect more, in front of the others."""
    real = dialects_module.dialects

    def with_ours(coordinator: Coordinator) -> dict[str, object]:
        ours = sub_application(coordinator, [router], Dialect(by_key, shape=plain_text))
        return {"/cave": ours, **real(coordinator)}

    monkeypatch.setattr(dialects_module, "dialects", with_ours)
    return start_farm(max_body_bytes=2000)


def test_every_refusal_of_a_dialect_has_its_own_shape(farm: ServedFarm) -> None:
    ali = farm.client("")
    ali.headers["X-Key"] = "open sesame"
    assert ali.get("/cave/who").json() == "ali"
    asked = [
        ("GET", "/cave/nothing", b"", "404 no: not_found"),
        ("DELETE", "/cave/who", b"", "405 no: method_not_allowed"),
        ("POST", "/cave/wish", b'{"count": "many"}', "422 no: invalid_request"),
        ("POST", "/cave/wish", b"{", "422 no: invalid_request"),
        ("POST", "/cave/wish", b" " * 3000, "413 no: too_large"),
        ("GET", "/cave/broken", b"", "500 no: internal"),
    ]
    for method, path, body, expected in asked:
        answer = ali.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert f"{answer.status_code} {answer.text}" == expected
    assert ali.delete("/cave/who").headers["Allow"] == "GET"


def test_a_dialect_lets_in_by_its_own_rule_and_opens_no_other(farm: ServedFarm) -> None:
    refused_here = farm.admin.get("/cave/who")
    assert (refused_here.status_code, refused_here.text) == (401, "no: unauthorized")
    ali = farm.client("")
    ali.headers["X-Key"] = "open sesame"
    for path in ("/api/transcriptions", "/api/nothing", "/metrics", "/openapi.json", "/api/work/claim"):
        assert refused(ali.get(path)) == (401, "unauthorized")


def test_a_dialect_is_counted_like_the_others(farm: ServedFarm) -> None:
    ali = farm.client("")
    ali.headers["X-Key"] = "open sesame"
    ali.get("/cave/who")
    counted = 'whisper_farm_request_seconds_count{method="GET",route="/cave/who",status="200"} 1.0'
    assert counted in farm.admin.get("/metrics").text


def test_a_dialect_takes_the_routes_that_are_there_and_makes_none_a_second_time(farm: ServedFarm) -> None:
    found = dialects_module.dialects(farm.coordinator)
    made_again = [route for app in found.values() for route in app.routes if not isinstance(route, Route)]
    assert made_again == []


def routers_of_ours() -> list[APIRouter]:
    """Every router of every file of routes."""
    modules = [importlib.import_module(f"{routes.__name__}.{each.name}") for each in iter_modules(routes.__path__)]
    return [found for module in modules for found in vars(module).values() if isinstance(found, APIRouter)]


def test_every_body_of_ours_is_read_with_a_bounded_list_of_what_is_wrong() -> None:
    with_body = [
        route
        for router in routers_of_ours()
        for route in router.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    ]
    assert len(with_body) > 15
    assert [route.path for route in with_body if not isinstance(route, CheckedRoute)] == []
