"""People: their accounts, the links that sign them in, and their sessions in browsers.

The name of an account is the owner of what its person submits. A link signs in to one account, once, for a while; it
serves the first start, invitations and forgotten passwords alike. Secrets of links and sessions are random and long,
so the database keeps their SHA-256 only. Passwords come here as hashes that somebody else has made.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from whisper_farm.errors import NotFound, WrongState
from whisper_farm.protocol.administration import Scope
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.feeds import delete_feed, feeds_of
from whisper_farm.store.statements import Change, Json, Query, columns
from whisper_farm.store.tokens import digest
from whisper_farm.store.webhooks import delete_webhook, webhooks_of

FIRST_ACCOUNT = "admin"
LINK_SECONDS = 900.0
"""How long a link works that is made on the server's own machine."""
SESSION_SECONDS = 30 * 86_400.0
"""A session that is not used for so long is over."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One person. `password_hash` is None until they have set a password."""

    name: str
    scope: Scope
    password_hash: str | None
    created_at: float
    signed_in_at: float | None


@dataclass(frozen=True, slots=True)
class PreferencesRow:
    """Names and words to expect in every recording of an owner, and the options of the next one."""

    glossary: str
    defaults: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A browser that is signed in, with what its account may do now."""

    hash: str
    owner: str
    scope: Scope
    last_used_at: float

    @property
    def id(self) -> str:
        return self.hash


PREFERENCES = Query[PreferencesRow](f"SELECT {columns(PreferencesRow)} FROM preferences WHERE owner = :owner")
PREFER = Change("""
    INSERT INTO preferences (owner, glossary, defaults) VALUES (:owner, :glossary, :defaults)
    ON CONFLICT (owner) DO UPDATE SET glossary = :glossary, defaults = :defaults
""")
ACCOUNTS = f"SELECT {columns(AccountRow)} FROM accounts"
FIND = Query[AccountRow](f"{ACCOUNTS} WHERE name = :name")
LIST = Query[AccountRow](f"{ACCOUNTS} ORDER BY name")
INSERT = Change("INSERT INTO accounts (name, scope, created_at) VALUES (:name, :scope, :now)")
SET_PASSWORD = Change("UPDATE accounts SET password_hash = :password_hash WHERE name = :name")
SIGNED_IN = Change("UPDATE accounts SET signed_in_at = :now WHERE name = :name")
REMOVE = Change("DELETE FROM accounts WHERE name = :name")
REVOKE_TOKENS = Change("UPDATE tokens SET revoked_at = :now WHERE owner = :name AND revoked_at IS NULL")
SOMEBODY = Query[bool]("SELECT EXISTS (SELECT 1 FROM accounts WHERE signed_in_at IS NOT NULL) AS somebody")
MAKE_LINK = Change("INSERT INTO sign_in_links (hash, account, expires_at) VALUES (:hash, :account, :expires_at)")
FORGET_LINKS = Change("DELETE FROM sign_in_links WHERE account = :account OR expires_at < :now")
USE_LINK = Query[str]("DELETE FROM sign_in_links WHERE hash = :hash AND expires_at >= :now RETURNING account")
START = Change("INSERT INTO sessions (hash, account, last_used_at) VALUES (:hash, :account, :now)")
SESSIONS = Query[SessionRow]("""
    SELECT sessions.hash, sessions.account AS owner, accounts.scope, sessions.last_used_at
      FROM sessions JOIN accounts ON accounts.name = sessions.account
     WHERE sessions.hash IN :hashes AND sessions.last_used_at >= :oldest
""")
TOUCH = Change("UPDATE sessions SET last_used_at = :now WHERE hash = :hash")
END = Change("DELETE FROM sessions WHERE hash = :hash")
END_ALL = Change("DELETE FROM sessions WHERE account = :account AND hash <> :but")
END_OLD = Change("DELETE FROM sessions WHERE last_used_at < :oldest")


def make_account(tx: Transaction, name: str, scope: Scope) -> AccountRow:
    """A new person; raises `WrongState` if the name is taken."""
    if tx.first(FIND, {"name": name}) is not None:
        raise WrongState(f"There is an account {name} already.")
    tx.change(INSERT, {"name": name, "scope": scope})
    emit(tx, SettingsChanged(what="people"))
    return AccountRow(name, scope, None, tx.now, None)


def find_account(tx: Transaction, name: str) -> AccountRow | None:
    return tx.first(FIND, {"name": name})


def list_accounts(tx: Transaction) -> list[AccountRow]:
    """Everybody, by name."""
    return tx.rows(LIST)


def remove_account(tx: Transaction, name: str) -> list[str]:
    """Remove a person with all that lets them in or works for them. What they submitted, and the last admin, stay.

    Returns the keys of blobs that nobody needs any more.
    """
    everybody = {account.name: account for account in list_accounts(tx)}
    if name not in everybody:
        raise NotFound(f"There is no account {name}.")
    if {other.name for other in everybody.values() if other.scope == "admin"} == {name}:
        raise WrongState(f"{name} is the only administrator; make another one first.")
    tx.change(REVOKE_TOKENS, {"name": name})
    tx.change(REMOVE, {"name": name})
    emit(tx, SettingsChanged(what="people"))
    for hook in webhooks_of(tx, name):
        delete_webhook(tx, hook.id, name)
    return [key for feed in feeds_of(tx, name) for key in delete_feed(tx, feed)]


def set_password(tx: Transaction, name: str, password_hash: str, keep_session: str) -> None:
    """Give an account a password, and end its other sessions; `keep_session` is the hash of the one that stays."""
    tx.change(SET_PASSWORD, {"name": name, "password_hash": password_hash})
    tx.change(END_ALL, {"account": name, "but": keep_session})


def preferences(tx: Transaction, owner: str) -> PreferencesRow:
    """What this owner wants of the app."""
    return tx.first(PREFERENCES, {"owner": owner}) or PreferencesRow("", {})


def prefer(tx: Transaction, owner: str, wanted: PreferencesRow) -> None:
    """Want this from now on."""
    tx.change(PREFER, {"owner": owner, "glossary": wanted.glossary, "defaults": Json(wanted.defaults)})
    emit(tx, SettingsChanged(what="preferences"), owner=owner)


def first_link(tx: Transaction) -> str | None:
    """A link that signs the first admin in, while nobody has ever signed in."""
    return None if tx.first(SOMEBODY) else link_for(tx, FIRST_ACCOUNT)


def link_for(tx: Transaction, name: str) -> str:
    """A link that signs in to an account; the first admin's account is made where it is missing."""
    if find_account(tx, name) is None:
        if name != FIRST_ACCOUNT:
            raise NotFound(
                f"There is no account {name}; an administrator invites people in the app (Settings, People)."
            )
        make_account(tx, name, "admin")
    return make_link(tx, name, LINK_SECONDS)


def make_link(tx: Transaction, account: str, seconds: float) -> str:
    """A secret that signs in to the account once, within so many seconds. Earlier links of the account end."""
    secret = secrets.token_urlsafe(32)
    tx.change(FORGET_LINKS, {"account": account})
    tx.change(MAKE_LINK, {"hash": digest(secret), "account": account, "expires_at": tx.now + seconds})
    return secret


def use_link(tx: Transaction, secret: str) -> AccountRow | None:
    """Whom a link signs in; it works no more after this."""
    name = tx.first(USE_LINK, {"hash": digest(secret)})
    return None if name is None else find_account(tx, name)


def start_session(tx: Transaction, account: str) -> str:
    """Sign a browser in; returns the secret of the session. Sessions that are over are forgotten."""
    secret = secrets.token_urlsafe(32)
    tx.change(END_OLD, {"oldest": tx.now - SESSION_SECONDS})
    tx.change(START, {"hash": digest(secret), "account": account})
    tx.change(SIGNED_IN, {"name": account})
    return secret


def find_sessions(tx: Transaction, digests: Collection[str]) -> list[SessionRow]:
    """The sessions with secrets of these digests, but those that have ended."""
    return tx.rows(SESSIONS, {"hashes": list(digests), "oldest": tx.now - SESSION_SECONDS})


def touch_session(tx: Transaction, row: SessionRow) -> None:
    """Note that the session was used."""
    tx.change(TOUCH, {"hash": row.hash})


def end_session(tx: Transaction, secret: str) -> None:
    tx.change(END, {"hash": digest(secret)})


def end_sessions(tx: Transaction, account: str) -> None:
    """Sign all browsers of an account out."""
    tx.change(END_ALL, {"account": account, "but": ""})
