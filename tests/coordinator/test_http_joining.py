"""A worker joins by a code: once, in time, with a token of its own, and only where it is let in."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import httpx
import pytest
from support.served_farm import ServedFarm

from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.store import join_codes
from whisper_farm.store.database import Database


@pytest.fixture
def stranger(farm: ServedFarm) -> httpx.Client:
    return speaks(farm)


def speaks(farm: ServedFarm, token: str = "") -> httpx.Client:
    client = farm.client(token)
    client.headers[PROTOCOL_HEADER] = str(PROTOCOL_VERSION)
    return client


def token() -> str:
    return f"wf_worker_{secrets.token_urlsafe(32)}"


def joining(code: str, token: str) -> dict[str, Any]:
    return {"code": code, "name": "attic", "token_hash": hashlib.sha256(token.encode()).hexdigest()}


def register(farm: ServedFarm, token: str) -> int:
    body = {"worker_id": "w-9", "name": "attic", "version": "0", "platform": "x", "slots": 1, "engines": []}
    return speaks(farm, token).post("/api/work/register", json=body).status_code


def test_a_code_lets_one_worker_in_and_its_token_can_be_revoked(farm: ServedFarm, stranger: httpx.Client) -> None:
    made = farm.admin.post("/api/join-codes", params={"approved": True}).json()
    mine = token()
    assert register(farm, mine) == 401
    body = joining(made["code"].lower().replace("-", " "), mine)
    assert stranger.post("/api/work/join", json=body).json() == {"state": "joined"}
    assert stranger.post("/api/work/join", json=body).json() == {"state": "joined"}, "a lost answer costs nothing"
    farm.coordinator.tokens.forget()
    assert register(farm, mine) == 200
    second = stranger.post("/api/work/join", json=joining(made["code"], token()))
    assert (second.status_code, second.json()["error"]["code"]) == (401, "unauthorized")
    kept = next(one for one in farm.admin.get("/api/tokens").json()["tokens"] if one["name"] == "attic")
    assert (kept["scope"], kept["owner"]) == ("worker", "admin")
    assert farm.admin.delete(f"/api/tokens/{kept['id']}").status_code == 204
    assert register(farm, mine) == 401
    assert stranger.post("/api/work/join", json=body).status_code == 401, "a revoked token does not come back"


def test_a_worker_that_joins_is_of_the_owner_that_its_code_names(farm: ServedFarm, stranger: httpx.Client) -> None:
    made, mine = farm.admin.post("/api/join-codes", params={"owner": "ann", "approved": True}).json(), token()
    assert (made["made_by"], made["owner"]) == ("admin", "ann")
    assert stranger.post("/api/work/join", json=joining(made["code"], mine)).json() == {"state": "joined"}
    assert register(farm, mine) == 200
    kept = next(one for one in farm.admin.get("/api/tokens").json()["tokens"] if one["name"] == "attic")
    assert (kept["scope"], kept["owner"]) == ("worker", "ann")
    assert "worker_joined" in farm.user("ann").get("/api/events", params={"once": True, "after": 0}).text
    assert "worker_joined" not in farm.user("bob").get("/api/events", params={"once": True, "after": 0}).text


def test_an_administrator_lets_a_worker_in_or_sends_it_away(farm: ServedFarm, stranger: httpx.Client) -> None:
    first, second = (farm.admin.post("/api/join-codes").json() for _ in range(2))
    mine, other = token(), token()
    assert stranger.post("/api/work/join", json=joining(first["code"], mine)).json() == {"state": "waiting"}
    assert stranger.post("/api/work/join", json=joining(second["code"], other)).json() == {"state": "waiting"}
    assert stranger.post("/api/work/join", json=joining(first["code"], token())).status_code == 401
    listed = farm.admin.get("/api/join-codes").json()["codes"]
    assert [(one["id"], one["name"], one["code"]) for one in listed] == [
        (made["id"], "attic", None) for made in (first, second)
    ]
    assert register(farm, mine) == 401
    told = farm.admin.get("/api/events", params={"once": True, "after": 0}).text
    assert told.count('"what": "join-codes"') == 2, "browsers hear of workers that wait"
    assert farm.admin.post(f"/api/join-codes/{first['id']}/approve").status_code == 204
    assert farm.admin.delete(f"/api/join-codes/{second['id']}").status_code == 204
    assert farm.admin.post(f"/api/join-codes/{second['id']}/approve").status_code == 404
    assert stranger.post("/api/work/join", json=joining(first["code"], mine)).json() == {"state": "joined"}
    assert stranger.post("/api/work/join", json=joining(second["code"], other)).status_code == 401
    assert register(farm, mine) == 200
    assert farm.admin.get("/api/join-codes").json() == {"codes": []}


def test_codes_are_few_and_nobody_may_guess_for_long(farm: ServedFarm, stranger: httpx.Client) -> None:
    for _ in range(join_codes.MOST):
        assert farm.admin.post("/api/join-codes").status_code == 201
    assert farm.admin.post("/api/join-codes").status_code == 429
    answers = [stranger.post("/api/work/join", json=joining("AAAAA-AAAAA", token())).status_code for _ in range(12)]
    assert answers[0] == 401
    assert answers[-1] == 429


def test_a_code_works_for_a_quarter_of_an_hour(database: Database) -> None:
    row, code = database.write(lambda tx: join_codes.make_code(tx, "admin", "t"))
    assert row.expires_at - row.created_at == 900

    def late(tx: Any) -> object:
        tx.now = row.expires_at + 1
        return join_codes.join(tx, code, "attic", "0" * 64, most=5)

    assert database.write(late) is None
