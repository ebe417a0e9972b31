"""Every route, asked by everybody about somebody else's things: who gets in is written here, and nowhere else.

A route that is not in the table fails. *In* means neither 401 nor 403, and that the thing is there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.people import APP, People
from support.served_farm import ServedFarm
from support.submitting import submit

from whisper_farm.coordinator.dialects import dialects
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION

ACTORS = {
    "n": "nobody",
    "u": "another user's token",
    "w": "a worker's token",
    "r": "a browser that has opened the link of this transcription",
    "b": "the owner's browser, but sent by another site",
    "f": "the owner's browser, by a name that was made to lead here",
    "o": "the owner's token",
    "a": "an administrator's token",
    "s": "the owner's browser",
}
"""In the order in which they ask: who ends things comes last."""
EVERYBODY, BROWSERS = "nuwrbfoas", "nrs"
WORKERS, ADMINS, TOKENS = "wa", "a", "uoa"
USERS = {"GET": "uboas", "HEAD": "uboas", "POST": "uoas"}
READERS, OWN = "rboas", {"GET": "boas", "POST": "oas", "PUT": "oas", "PATCH": "oas", "DELETE": "oas"}
MINE = {"POST": "os", "PUT": "os", "PATCH": "os", "DELETE": "oas", "GET": "boas", "HEAD": "bos"}
T, E = "/api/transcriptions", "/api/transcriptions/{transcription_id}"
RIGHTS = {
    **{f"POST /api/work/{call}": WORKERS for call in ("register", "claim", "heartbeat", "uploads", "append")},
    "POST /api/work/join": EVERYBODY,
    **{f"POST /api/work/{call}": WORKERS for call in ("complete", "fail", "release")},
    **{f"{way} /api/work/{of}/{{token}}": WORKERS for way in ("GET", "HEAD") for of in ("source", "audio")},
    "PUT /api/work/uploads/{token}/{position}": WORKERS,
    "POST /api/uploads": USERS["POST"],
    "PUT /api/uploads/{upload_id}": MINE["PUT"],
    "PATCH /api/uploads/{upload_id}": MINE["PATCH"],
    "DELETE /api/uploads/{upload_id}": MINE["PUT"],
    f"POST {T}": USERS["POST"],
    f"POST {T}/batch": USERS["POST"],
    f"GET {T}": USERS["GET"],
    "GET /api/search": USERS["GET"],
    f"GET {E}": READERS,
    f"GET {E}/segments": OWN["GET"],
    f"GET {E}/transcript": READERS,
    f"GET {E}/transcripts": READERS,
    f"GET {E}/audio": READERS,
    f"HEAD {E}/audio": f"u{READERS}",
    f"GET {E}/peaks": READERS,
    f"PATCH {E}": OWN["PATCH"],
    f"DELETE {E}": OWN["DELETE"],
    f"POST {E}/cancel": OWN["POST"],
    f"POST {E}/retry": OWN["POST"],
    f"GET {E}/jobs": OWN["GET"],
    f"POST {E}/jobs/{{job_id}}/retry": OWN["POST"],
    f"GET {E}/edits": OWN["GET"],
    f"POST {E}/edits": OWN["POST"],
    f"PUT {E}/edits/{{number}}/name": OWN["PUT"],
    f"GET {E}/shares": OWN["GET"],
    f"POST {E}/shares": OWN["POST"],
    f"DELETE {E}/shares/{{share_id}}": OWN["DELETE"],
    "GET /api/events": USERS["GET"],
    "GET /api/server": USERS["GET"],
    "GET /api/limits": ADMINS,
    "PATCH /api/limits": ADMINS,
    "GET /api/workers": ADMINS,
    "PUT /api/workers/{worker_id}/hours": ADMINS,
    "POST /api/workers/{worker_id}/{action}": ADMINS,
    "POST /api/join-codes": ADMINS,
    "GET /api/join-codes": ADMINS,
    "POST /api/join-codes/{join_id}/approve": ADMINS,
    "DELETE /api/join-codes/{join_id}": ADMINS,
    "GET /api/machines": ADMINS,
    "GET /api/machines/log": ADMINS,
    "POST /api/machines/sync": ADMINS,
    "POST /api/machines/{machine}/{action}": ADMINS,
    "POST /api/pools/{pool}": ADMINS,
    "GET /api/scaling": USERS["GET"],
    "POST /api/tokens": USERS["POST"],
    "GET /api/tokens": USERS["GET"],
    "DELETE /api/tokens/{token_id}": OWN["DELETE"],
    "POST /api/webhooks": USERS["POST"],
    "GET /api/webhooks": USERS["GET"],
    "DELETE /api/webhooks/{webhook_id}": OWN["DELETE"],
    "GET /api/webhooks/{webhook_id}/deliveries": OWN["GET"],
    "POST /api/webhooks/{webhook_id}/test": OWN["POST"],
    "POST /api/webhooks/{webhook_id}/deliveries/{message_id}/redeliver": OWN["POST"],
    "POST /api/feeds": USERS["POST"],
    "GET /api/feeds": USERS["GET"],
    "DELETE /api/feeds/{feed_id}": OWN["DELETE"],
    "GET /feed/{secret}": EVERYBODY,
    "GET /feed/{secret}/{episode}.{end}": EVERYBODY,
    "GET /webservice/status": EVERYBODY,
    "POST /webservice/asr": TOKENS,
    "POST /webservice/detect-language": TOKENS,
    "POST /v1/audio/transcriptions": TOKENS,
    "POST /v1/audio/translations": TOKENS,
    "POST /deepgram/v1/listen": TOKENS,
    "GET /v1/models": TOKENS,
    "GET /v1/models/{model:path}": TOKENS,
    "GET /app/session": "nurboas",
    "POST /app/session": BROWSERS,
    "POST /app/shared": BROWSERS,
    "GET /app/preferences": USERS["GET"],
    "PATCH /app/preferences": USERS["POST"],
    "GET /app/parts": USERS["GET"],
    "GET /app/people": ADMINS,
    "POST /app/people": ADMINS,
    "POST /app/people/{name}/link": ADMINS,
    "DELETE /app/people/{name}": ADMINS,
    "GET /app/{path:path}": USERS["GET"],
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": ADMINS,
    "GET /": "nuwrboas",
    "GET /openapi.json": "uwoa",
    "PUT /app/password": "s",
    "DELETE /app/session": BROWSERS,
}
LEAVE = ("PUT /app/password", "DELETE /app/session")
"""After these Ann has to sign in again."""
NAMED_ONLY = (
    *("machines", "pools", "/v1/models/", "/app/{path", "edits/{number}", "/app/session", "/work/", "/feed/{"),
    "/join-codes/",
)
"""Where the thing asked for is not there for anybody: what counts is that nobody is kept out by 401 or 403."""
BODIES: dict[str, dict[str, Any]] = {
    f"PATCH {E}": {"name": "other"},
    f"POST {E}/edits": {"based_on": 0, "rename": {"speaker": None, "name": "x"}},
    f"PUT {E}/edits/{{number}}/name": {"name": "x"},
    "POST /api/uploads": {"name": "a", "size": 1},
    "POST /api/tokens": {"name": "t", "scope": "user"},
    "PUT /api/workers/{worker_id}/hours": {"hours": "00:00-24:00"},
    "PATCH /api/limits": {"max_unfinished": 90_000},
    "PATCH /app/preferences": {"glossary": "Groningen"},
    "PUT /app/password": {"password": "three words together"},
    "POST /app/session": {"name": "x"},
}
counter = itertools.count()


@dataclass
class World:
    """A farm with Ann's things, and everybody who asks for them."""

    farm: ServedFarm
    people: People

    def __post_init__(self) -> None:
        protocol = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
        self.people.user("ann")
        token = self.farm.token_for
        tokens = {
            "u": token("user", "bob"),
            "w": token("worker", "bob"),
            "o": token("user", "ann"),
            "a": self.farm.token,
        }
        self.clients = {actor: self.farm.client(tokens.get(actor, "")) for actor in ACTORS}
        for actor, client in self.clients.items():
            client.headers.update(protocol | (APP if actor in "nrsf" else {}))
        self.clients["f"].headers["Host"] = "evil.example"
        self.worker = self.clients["w"].post(
            "/api/work/register",
            json={
                "worker_id": "w-1",
                "name": "w",
                "version": "0",
                "platform": "x",
                "slots": 1,
                "engines": [{"engine": "tones", "version": "1", "models": None, "device": "cpu", "batch": 1}],
            },
        )
        assert self.worker.status_code == 200, self.worker.text
        self.sign_in()
        self.transcription = self.secret = self.webhook = ""
        self.thing("transcription_id")

    def sign_in(self) -> None:
        """Sign Ann in."""
        self.ann = self.people.by_link(self.people.link("ann"))
        for actor in "bfs":
            self.clients[actor].cookies = self.ann.cookies

    def thing(self, name: str) -> str:
        """A fresh thing of Ann's, for a parameter of a path; the reader has opened the newest link."""
        match name:
            case "transcription_id":
                self.transcription = str(submit(self.ann)["id"])
                self.share()
                return self.transcription
            case "share_id":
                return self.share()
            case "upload_id":
                return str(self.ann.post("/api/uploads", json={"name": "a", "size": 1}).json()["upload_id"])
            case "token_id":
                return str(self.ann.post("/api/tokens", json={"name": "x", "scope": "user"}).json()["id"])
            case "webhook_id":
                self.ann.delete(f"/api/webhooks/{self.webhook}")  # nobody has many
                self.webhook = str(self.ann.post("/api/webhooks", json={"url": "http://127.0.0.1:9/x"}).json()["id"])
                return self.webhook
            case "message_id":
                return str(self.ann.post(f"/api/webhooks/{self.webhook}/test").json()["id"])
            case "feed_id":
                return str(
                    self.ann.post("/api/feeds", json={"url": f"https://93.184.216.34/{next(counter)}"}).json()["id"]
                )
            case "name":
                person = f"person{next(counter)}"
                self.farm.admin.post("/app/people", json={"name": person})
                return person
            case _:
                return {"worker_id": "w-1", "token": "x" * 20, "action": "drain", "number": "1"}.get(name, "0")

    def share(self) -> str:
        """A link of the newest transcription, which the reader has opened."""
        made = self.ann.post(f"{T}/{self.transcription}/shares").json()
        self.secret = made["secret"]
        opened = self.people.stranger()
        opened.post("/app/shared", json={"transcription_id": self.transcription, "secret": made["secret"]})
        self.clients["r"].cookies = opened.cookies
        return str(made["id"])

    def gets_in(self, actor: str, route: str) -> bool:
        """Ask as this actor, and say whether that led in."""
        method, _, path = route.partition(" ")
        path = re.sub(r"{(\w+)(?::path)?}", lambda found: self.thing(found[1]), path)
        if route == "POST /app/shared":
            self.thing("transcription_id")
        bodies = BODIES | {
            "POST /app/shared": {"transcription_id": self.transcription, "secret": self.secret},
            "POST /app/people": {"name": f"person{next(counter)}"},
        }
        body = (
            {"content": b"x"} if method in ("PUT", "PATCH") and "uploads" in path else {"json": bodies.get(route, {})}
        )
        given = {} if method in ("GET", "HEAD", "DELETE") else body
        with self.clients[actor].stream(
            method, path, **given, params={"words": "x"} if "search" in path else {}
        ) as answer:
            if answer.status_code in (401, 403, 426):
                return False
            if answer.status_code != 404 or method == "HEAD":
                return True
            error = json.loads(answer.read())["error"]
            if "There is no transcription" in error["message"]:
                return False
            return error["code"] != "not_found" or any(part in route for part in NAMED_ONLY)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        from support.served_farm import catch_coordinator

        from whisper_farm.coordinator import server as serve_module

        farm = ServedFarm(
            tmp_path_factory.mktemp("rights"),
            max_unfinished=100_000,
            max_tokens=10_000,
            private_networks=("127.0.0.0/8",),
        )
        patch.setattr(serve_module, "create_app", catch_coordinator(farm))
        stack.enter_context(farm)
        yield World(farm, People(farm))


def routes(world: World) -> list[str]:
    """Every route of the server, as METHOD PATH."""

    def flat(found: Any) -> Iterator[Any]:
        for route in found:
            yield from [route] if hasattr(route, "path") else flat(route.original_router.routes)

    return [
        f"{method} {address}{route.path}"
        for address, app in dialects(world.farm.coordinator).items()
        for route in flat(app.routes)
        for method in route.methods
    ]


def test_every_route_is_in_the_table(world: World) -> None:
    assert sorted(routes(world)) == sorted(RIGHTS)


@pytest.mark.parametrize("route", RIGHTS)
def test_who_gets_in(world: World, route: str) -> None:
    found = "".join(actor for actor in ACTORS if world.gets_in(actor, route))
    if route in LEAVE:
        world.sign_in()
    assert found == "".join(actor for actor in ACTORS if actor in RIGHTS[route]), route
