"""Tokens: shown once, stored hashed, found, used, revoked."""

from __future__ import annotations

import re
from functools import partial

from sqlalchemy import text

from whisper_farm.protocol.administration import Scope
from whisper_farm.store.database import Database
from whisper_farm.store.tokens import (
    TokenRow,
    digest,
    find_token,
    has_admin,
    list_tokens,
    mint_token,
    revoke_token,
    stale,
    touch_token,
)

SCOPES: tuple[Scope, ...] = ("admin", "user", "worker")


def test_a_minted_token_is_found_by_its_secret_alone(database: Database) -> None:
    for scope in SCOPES:
        token, secret = database.write(partial(mint_token, name="laptop", owner="ann", scope=scope), now=5.0)
        assert re.fullmatch(rf"wf_{scope}_[A-Za-z0-9_-]{{43}}", secret)
        assert token == TokenRow(token.id, digest(secret), "laptop", "ann", scope, 5.0, None)
        assert database.read(partial(find_token, secret=secret)) == token


def test_what_is_no_secret_finds_nothing(database: Database) -> None:
    database.write(lambda tx: mint_token(tx, "laptop", "ann", "admin"))
    for secret in ("", "wf_admin_", "nonsense", "x" * 100_000, "wf_user_\udcff\0", "' OR 1=1 --"):
        assert database.read(partial(find_token, secret=secret)) is None


def test_the_secret_is_not_in_the_database(database: Database) -> None:
    _, secret = database.write(lambda tx: mint_token(tx, "laptop", "ann", "user"))
    stored = str(database.read(lambda tx: tx.connection.execute(text("SELECT * FROM tokens")).all()))
    assert "laptop" in stored
    assert secret.removeprefix("wf_user_") not in stored


def test_a_revoked_token_is_of_no_use(database: Database) -> None:
    token, secret = database.write(lambda tx: mint_token(tx, "laptop", "ann", "user"))
    assert database.write(lambda tx: revoke_token(tx, token.id, owner="bob")) is False
    assert database.read(lambda tx: find_token(tx, secret)) == token
    assert database.write(lambda tx: revoke_token(tx, token.id, owner="ann")) is True
    assert database.read(lambda tx: find_token(tx, secret)) is None
    assert database.write(lambda tx: revoke_token(tx, token.id)) is False
    assert database.write(lambda tx: revoke_token(tx, "unknown")) is False
    assert database.read(list_tokens) == []


def test_the_last_use_is_noted_once_a_minute(database: Database) -> None:
    token, secret = database.write(lambda tx: mint_token(tx, "laptop", "ann", "user"))
    assert stale(token.last_used_at, now=100.0)
    database.beat(lambda tx: touch_token(tx, token), now=100.0)
    used = database.read(lambda tx: find_token(tx, secret))
    assert used is not None
    assert used.last_used_at == 100.0
    assert not stale(used.last_used_at, now=159.0)
    assert stale(used.last_used_at, now=160.0)


def test_tokens_are_listed_by_owner(database: Database) -> None:
    for now, owner in enumerate(["ann", "bob", "ann"]):
        database.write(partial(mint_token, name="one", owner=owner, scope="user"), now=float(now))
    database.write(partial(mint_token, name="higher", owner="ann", scope="worker"), now=9.0)
    assert [token.owner for token in database.read(list_tokens)] == ["ann", "bob", "ann", "ann"]
    assert [token.created_at for token in database.read(lambda tx: list_tokens(tx, owner="ann"))] == [0.0, 2.0]


def test_a_new_farm_has_no_admin(database: Database) -> None:
    assert not database.read(has_admin)
    database.write(lambda tx: mint_token(tx, "laptop", "ann", "user"))
    assert not database.read(has_admin)
    token, _ = database.write(lambda tx: mint_token(tx, "first start", "ann", "admin"))
    assert database.read(has_admin)
    database.write(lambda tx: revoke_token(tx, token.id))
    assert not database.read(has_admin)
