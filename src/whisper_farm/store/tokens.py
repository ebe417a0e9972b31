"""Access tokens: who may speak to the farm, and as what.

A secret looks like `wf_worker_…` and is shown once; the database keeps its SHA-256 only, which is enough for
secrets this long and random. Looking one up takes the same steps whether it exists, is revoked or is nonsense.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, exists, insert, select, update

from whisper_farm.errors import InvalidRequest
from whisper_farm.protocol.client import Scope
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import tokens

TOUCH_SECONDS = 60.0
"""`last_used_at` is this exact, and costs at most one write in this time."""
SCOPES = ("admin", "user", "worker")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token without its secret."""

    id: str
    name: str
    owner: str
    scope: Scope
    created_at: float
    last_used_at: float | None


COLUMNS = [tokens.c[field.name] for field in fields(TokenRow)]


def mint_token(tx: Transaction, name: str, owner: str, scope: Scope) -> tuple[TokenRow, str]:
    """Make a token for `owner`; returns it with the secret, which cannot be had again."""
    if scope not in SCOPES:
        raise InvalidRequest(f"A token's scope is one of {', '.join(SCOPES)}, not {scope}.")
    secret = f"wf_{scope}_{secrets.token_urlsafe(32)}"
    row = TokenRow(secrets.token_hex(6), name, owner, scope, tx.now, None)
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    tx.connection.execute(insert(tokens).values(hash=_digest(secret), **values))
    return row, secret


def find_token(tx: Transaction, secret: str) -> TokenRow | None:
    """The token with this secret, unless there is none or it was revoked."""
    return _one(tx, tokens.c.hash == _digest(secret))


def touch_token(tx: Transaction, token: TokenRow) -> None:
    """Note that the token was used. Worth a call only when `stale`; `Database.beat` is enough for it."""
    tx.connection.execute(update(tokens).where(tokens.c.id == token.id).values(last_used_at=tx.now))


def stale(token: TokenRow, now: float) -> bool:
    """Whether the time of last use is old enough to be written anew."""
    return token.last_used_at is None or now - token.last_used_at >= TOUCH_SECONDS


def list_tokens(tx: Transaction, owner: str | None = None) -> list[TokenRow]:
    """The tokens not revoked, oldest first: all, or those of one owner."""
    query = select(*COLUMNS).where(tokens.c.revoked_at.is_(None)).order_by(tokens.c.created_at, tokens.c.id)
    if owner is not None:
        query = query.where(tokens.c.owner == owner)
    return [TokenRow(*row) for row in tx.connection.execute(query)]


def revoke_token(tx: Transaction, token_id: str, owner: str | None = None) -> bool:
    """Make a token useless, for good; False if there is no such token (of that owner, if given)."""
    query = update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None)).values(revoked_at=tx.now)
    if owner is not None:
        query = query.where(tokens.c.owner == owner)
    return tx.connection.execute(query).rowcount == 1


def has_admin(tx: Transaction) -> bool:
    """Whether anybody can administer the farm; if not, it was just made."""
    found = exists().where(tokens.c.scope == "admin", tokens.c.revoked_at.is_(None))
    return bool(tx.connection.scalar(select(found)))


def _one(tx: Transaction, condition: ColumnElement[bool]) -> TokenRow | None:
    row = tx.connection.execute(select(*COLUMNS).where(condition, tokens.c.revoked_at.is_(None))).one_or_none()
    return None if row is None else TokenRow(*row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
