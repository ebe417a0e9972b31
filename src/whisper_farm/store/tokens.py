"""Access tokens: who may speak to the farm, and as what.

A secret looks like `wf_worker_…` and is shown once. The database keeps its SHA-256 only, which is enough for secrets
this long and random. A look-up takes the same steps whether the token exists, is revoked or is nonsense.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass

from whisper_farm.errors import InvalidRequest, QuotaReached
from whisper_farm.protocol.client import Scope
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query, columns, insert

TOUCH_SECONDS = 60.0
"""`last_used_at` is this exact, and costs at most one write in this time."""
SCOPES = ("admin", "user", "worker")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token without its secret; `hash` is what is kept of that."""

    id: str
    hash: str
    name: str
    owner: str
    scope: Scope
    created_at: float
    last_used_at: float | None


INSERT = insert("tokens", TokenRow)
VALID = f"SELECT {columns(TokenRow)} FROM tokens WHERE revoked_at IS NULL"
FIND = Query[TokenRow](f"SELECT {columns(TokenRow)} FROM tokens WHERE revoked_at IS NULL AND hash IN :hashes")
LIST = Query[TokenRow](f"""
    {VALID} AND (CAST(:owner AS TEXT) IS NULL OR (owner = :owner AND scope = 'user')) ORDER BY created_at, id
""")
TOUCH = Change("UPDATE tokens SET last_used_at = :now WHERE id = :id")
REVOKE = Change("""
    UPDATE tokens SET revoked_at = :now
     WHERE id = :id AND revoked_at IS NULL
       AND (CAST(:owner AS TEXT) IS NULL OR (owner = :owner AND scope = 'user'))
""")
COUNT = Query[int]("SELECT count(*) AS tokens FROM tokens WHERE revoked_at IS NULL AND owner = :owner")
HAS_ADMIN = Query[bool](
    "SELECT EXISTS (SELECT 1 FROM tokens WHERE scope = 'admin' AND revoked_at IS NULL) AS has_admin"
)


def mint_token(tx: Transaction, name: str, owner: str, scope: Scope) -> tuple[TokenRow, str]:
    """Make a token for `owner`; returns it with the secret, which cannot be had again."""
    if scope not in SCOPES:
        raise InvalidRequest(f"A token's scope is one of {', '.join(SCOPES)}, not {scope}.")
    secret = f"wf_{scope}_{secrets.token_urlsafe(32)}"
    row = TokenRow(secrets.token_hex(6), digest(secret), name, owner, scope, tx.now, None)
    tx.change(INSERT, asdict(row))
    return row, secret


def must_have_room(tx: Transaction, owner: str, most: int) -> None:
    """Raise `QuotaReached` if this owner has so many valid tokens already."""
    if (tx.first(COUNT, {"owner": owner}) or 0) >= most:
        raise QuotaReached(f"{owner} has {most} valid tokens, the most here; revoke some.")


def find_token(tx: Transaction, secret: str) -> TokenRow | None:
    """The token with this secret, unless there is none or it was revoked."""
    return next(iter(find_tokens(tx, [digest(secret)])), None)


def find_tokens(tx: Transaction, digests: Collection[str]) -> list[TokenRow]:
    """The tokens of these digests that are there and not revoked."""
    return tx.rows(FIND, {"hashes": list(digests)})


def touch_token(tx: Transaction, token: TokenRow) -> None:
    """Note that the token was used. Worth a call only when `stale`; `Database.beat` is enough for it."""
    tx.change(TOUCH, {"id": token.id})


def stale(last_used_at: float | None, now: float) -> bool:
    """Whether the time of last use, of a token or a session, is old enough to be written anew."""
    return last_used_at is None or now - last_used_at >= TOUCH_SECONDS


def list_tokens(tx: Transaction, owner: str | None = None) -> list[TokenRow]:
    """The tokens not revoked, oldest first: all, or the user tokens of one owner."""
    return tx.rows(LIST, {"owner": owner})


def revoke_token(tx: Transaction, token_id: str, owner: str | None = None) -> bool:
    """Make a token useless, for good; False if there is no such token (no user token of that owner, if given)."""
    return tx.changed(REVOKE, {"id": token_id, "owner": owner}) == 1


def has_admin(tx: Transaction) -> bool:
    """Whether anybody can administer the farm; if not, it was just made."""
    return bool(tx.first(HAS_ADMIN))


def digest(secret: str) -> str:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
