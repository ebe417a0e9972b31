"""Join codes: a worker gets a token of its own, and nobody types a long one.

An administrator makes a code, which works once and for a quarter of an hour. The worker makes its token itself, and
sends the code with the token's hash. So a lost answer costs nothing: the same call again is answered alike. The token
is not valid before an administrator has let the worker in, unless the code was made `approved`. Only hashes are kept.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Literal

from whisper_farm.errors import NotFound, QuotaReached
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query, columns, insert
from whisper_farm.store.tokens import TokenRow, digest, find_tokens, keep_token, must_have_room, new_id

LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
"""None that is taken for another."""
CODE_LENGTH = 10
CODE_SECONDS = 900.0
WAIT_SECONDS = 3600.0
"""How long a worker waits to be let in."""
MOST = 20
"""Codes that work at the same time, and workers that wait: what is so short must be rare."""


@dataclass(frozen=True, slots=True)
class JoinRow:
    """A code without its secret; with `name` the worker that has used it waits to be let in."""

    id: str
    made_by: str
    owner: str
    parent: str
    approved: bool
    created_at: float
    expires_at: float
    name: str | None
    token_hash: str | None


JOINS = f"""
    SELECT {columns(JoinRow)} FROM join_codes
     WHERE expires_at > :now
       AND NOT EXISTS (SELECT 1 FROM tokens WHERE tokens.id = join_codes.parent AND tokens.revoked_at IS NOT NULL)
"""
"""A code ends with the token that made it, and so do the tokens that it made."""
ALL = Query[JoinRow](f"{JOINS} ORDER BY created_at, id")
WAITING = Query[JoinRow](f"{JOINS} AND id = :id AND token_hash IS NOT NULL")
USABLE = Query[JoinRow](f"{JOINS} AND hash = :hash AND (token_hash IS NULL OR token_hash = :token_hash)")
ADD = insert("join_codes", JoinRow, "hash")
WAIT = Change("UPDATE join_codes SET name = :name, token_hash = :token_hash, expires_at = :until WHERE id = :id")
REMOVE = Change("DELETE FROM join_codes WHERE id = :id")
EXPIRED = Change("DELETE FROM join_codes WHERE expires_at <= :now")


def make_code(
    tx: Transaction, made_by: str, parent: str, owner: str | None = None, approved: bool = False
) -> tuple[JoinRow, str]:
    """A new code, and what is typed; that cannot be had again. Without an `owner` the worker is of who has made it."""
    tx.change(EXPIRED)
    if len(join_codes(tx)) >= MOST:
        raise QuotaReached(f"There are {MOST} join codes, the most there may be; remove some, or wait.")
    code = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
    until = tx.now + CODE_SECONDS
    row = JoinRow(secrets.token_hex(6), made_by, owner or made_by, parent, approved, tx.now, until, None, None)
    tx.change(ADD, asdict(row) | {"hash": digest(code)})
    return row, f"{code[:5]}-{code[5:]}"


def join_codes(tx: Transaction) -> list[JoinRow]:
    """The codes that work, and the workers that wait."""
    return tx.rows(ALL)


def join(tx: Transaction, code: str, name: str, token_hash: str, most: int) -> Literal["joined", "waiting"] | None:
    """Let a worker in by a code, or have it wait; None if the code does not work (any more)."""
    if any(one.scope == "worker" for one in find_tokens(tx, [token_hash])):
        return "joined"
    typed = "".join(letter for letter in code.upper() if letter.isalnum())
    row = tx.first(USABLE, {"hash": digest(typed), "token_hash": token_hash})
    if row is None:
        return None
    if row.approved:
        _let_in(tx, row, name, token_hash, most)
        return "joined"
    if row.token_hash is None:
        until = tx.now + WAIT_SECONDS
        tx.change(WAIT, {"id": row.id, "name": name, "token_hash": token_hash, "until": until})
        emit(tx, SettingsChanged(what="join-codes"))
    return "waiting"


def approve(tx: Transaction, join_id: str, most: int) -> None:
    """Let in a worker that waits; raises `NotFound`."""
    row = tx.one(WAITING, {"id": join_id}, f"waiting worker {join_id}")
    _let_in(tx, row, row.name or "worker", row.token_hash or "", most)


def refuse(tx: Transaction, join_id: str) -> None:
    """Remove a code, or send away the worker that waits; raises `NotFound`."""
    if tx.changed(REMOVE, {"id": join_id}) == 0:
        raise NotFound(f"There is no join code {join_id}.")
    emit(tx, SettingsChanged(what="join-codes"))


def _let_in(tx: Transaction, row: JoinRow, name: str, token_hash: str, most: int) -> None:
    must_have_room(tx, row.owner, most)
    keep_token(tx, TokenRow(new_id(), token_hash, name, row.owner, "worker", tx.now, None, row.parent))
    tx.change(REMOVE, {"id": row.id})
    emit(tx, SettingsChanged(what="tokens"), owner=row.owner)
    emit(tx, SettingsChanged(what="join-codes"))
