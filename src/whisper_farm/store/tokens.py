"""Access tokens: who may speak to the farm, and as what.

A secret looks like `wf_worker_…` and is shown once. The database keeps its SHA-256 only, which is enough for secrets
this long and random. A look-up takes the same steps whether the token exists, is revoked or is nonsense.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

from whisper_farm.errors import QuotaReached
from whisper_farm.protocol.administration import Scope
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query, columns, insert
from whisper_farm.times import DAY_SECONDS

TOUCH_SECONDS = 60.0
"""`last_used_at` is this exact, and costs at most one write in this time."""


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
    parent: str | None = None
    expires_at: float | None = None


INSERT = insert("tokens", TokenRow)
GOOD = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
VALID = f"SELECT {columns(TokenRow)} FROM tokens WHERE {GOOD}"
FIND = Query[TokenRow](f"{VALID} AND hash IN :hashes")
EXPIRY = Query[float]("SELECT expires_at FROM tokens WHERE id = :id AND expires_at IS NOT NULL")
LIST = Query[TokenRow](f"""
    {VALID} AND (CAST(:owner AS TEXT) IS NULL OR (owner = :owner AND scope = 'user')) ORDER BY created_at, id
""")
TOUCH = Change("UPDATE tokens SET last_used_at = :now WHERE id = :id")
REVOKE = Change("""
    UPDATE tokens SET revoked_at = :now
     WHERE revoked_at IS NULL AND id IN (
           WITH RECURSIVE ending (id) AS (
               SELECT id FROM tokens
                WHERE id = :id AND revoked_at IS NULL
                  AND (CAST(:owner AS TEXT) IS NULL OR (owner = :owner AND scope = 'user'))
                UNION
               SELECT tokens.id FROM tokens JOIN ending ON tokens.parent = ending.id)
           SELECT id FROM ending)
""")
ADOPT = Change("UPDATE tokens SET parent = (SELECT parent FROM tokens mine WHERE mine.id = :id) WHERE parent = :id")
COUNT = Query[int](f"SELECT count(*) AS tokens FROM tokens WHERE {GOOD} AND owner = :owner")
HAS_ADMIN = Query[bool](f"SELECT EXISTS (SELECT 1 FROM tokens WHERE scope = 'admin' AND {GOOD}) AS has_admin")


def mint_token(
    tx: Transaction, name: str, owner: str, scope: Scope, parent: str | None = None, days: float | None = None
) -> tuple[TokenRow, str]:
    """Make a token for `owner`; returns it with the secret, which cannot be had again.

    It ends after so many days, and with the token that made it, its parent.
    """
    secret = f"wf_{scope}_{secrets.token_urlsafe(32)}"
    expires_at = None if days is None else tx.now + days * DAY_SECONDS
    return keep_token(
        tx, TokenRow(new_id(), digest(secret), name, owner, scope, tx.now, None, parent, expires_at)
    ), secret


def new_id() -> str:
    return secrets.token_hex(6)


def keep_token(tx: Transaction, row: TokenRow) -> TokenRow:
    """Make a token valid of whose secret only the hash is known here. It ends no later than its parent."""
    ends = [row.expires_at, *tx.rows(EXPIRY, {"id": row.parent})]
    kept = replace(row, expires_at=min((one for one in ends if one is not None), default=None))
    tx.change(INSERT, asdict(kept))
    return kept


def must_have_room(tx: Transaction, owner: str, most: int) -> None:
    """Raise `QuotaReached` if this owner has so many valid tokens already."""
    if (tx.first(COUNT, {"owner": owner}) or 0) >= most:
        raise QuotaReached(f"{owner} has {most} valid tokens, the most here; revoke some.")


def find_token(tx: Transaction, secret: str) -> TokenRow | None:
    """The token with this secret, unless there is none or it was revoked."""
    return next(iter(find_tokens(tx, [digest(secret)])), None)


def find_tokens(tx: Transaction, digests: Collection[str]) -> list[TokenRow]:
    """The tokens of these digests that are there, not revoked and not expired."""
    return tx.rows(FIND, {"hashes": list(digests)})


def touch_token(tx: Transaction, row: TokenRow) -> None:
    """Note that the token was used. Worth a call only when `stale`; `Database.beat` is enough for it."""
    tx.change(TOUCH, {"id": row.id})


def stale(last_used_at: float | None, now: float) -> bool:
    """Whether the time of last use, of a token or a session, is old enough to be written anew."""
    return last_used_at is None or now - last_used_at >= TOUCH_SECONDS


def list_tokens(tx: Transaction, owner: str | None = None) -> list[TokenRow]:
    """The valid tokens, oldest first: all, or the user tokens of one owner."""
    return tx.rows(LIST, {"owner": owner})


def revoke_token(tx: Transaction, token_id: str, owner: str | None = None, only: bool = False) -> bool:
    """Make a token useless, for good, and all that were made with it; `only` keeps those.

    False if there is no such token (no user token of that owner, if given).
    """
    if only and any(one.id == token_id for one in list_tokens(tx, owner)):
        tx.change(ADOPT, {"id": token_id})
    revoked = tx.changed(REVOKE, {"id": token_id, "owner": owner}) > 0
    if revoked:
        emit(tx, SettingsChanged(what="tokens"), owner=owner)
    return revoked


def has_admin(tx: Transaction) -> bool:
    """Whether anybody can administer the farm; if not, it was just made."""
    return bool(tx.first(HAS_ADMIN))


def digest(secret: str) -> str:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
