"""Who is calling: bearer tokens, checked before anything else is looked at.

Nothing but the health answers is reached without a valid token, not even a 404. A token's scope says which part
of the API it opens: `worker` the worker API alone, `user` the owner's own transcriptions, `admin` everything.
Tokens are remembered for a few seconds, so a revoked one may live that long on another coordinator. An event stream
goes on long after it was let in; it asks again here before everything it sends.
Dependencies are coroutines, though they wait for nothing: FastAPI sends plain functions to a thread.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_farm.coordinator.answers.errors import error_response
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import FarmError, Forbidden, ProtocolMismatch, StorageError, Unauthorized
from whisper_farm.protocol import client
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.store.database import Transaction
from whisper_farm.store.tokens import TokenRow, find_token, stale, touch_token
from whisper_farm.store.workers import owner_of_worker

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
REMEMBER_SECONDS = 5.0
REMEMBERED = 10_000
MAX_SECRET = 512


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token this is and what it opens."""

    token_id: str
    owner: str
    scope: client.Scope

    @property
    def sees(self) -> str | None:
        """The one owner whose things this caller sees; None means everybody's."""
        return None if self.scope == "admin" else self.owner


class KnownTokens:
    """Looks tokens up, and remembers them for a moment. Secrets are kept as hashes only."""

    def __init__(self, store: StoreThreads) -> None:
        self._store = store
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller(self, secret: str) -> Caller:
        """Who presents this secret; raises `Unauthorized`."""
        key = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        row, is_stale = await self._store.read(lambda tx: _find(tx, secret))
        if is_stale:
            with suppress(StorageError):  # a full disk or a busy database keeps nobody from reading
                await self._store.beat(lambda tx: touch_token(tx, row))
        caller = Caller(row.id, row.owner, row.scope)
        self._known[key] = (time.monotonic() + REMEMBER_SECONDS, caller)
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return caller

    async def revoked(self, secret: str) -> bool:
        """Whether a secret that was good is so no more. A database that does not answer has revoked nothing."""
        try:
            await self.caller(secret)
        except Unauthorized:
            return True
        except StorageError:
            return False
        return False

    def forget(self) -> None:
        """Look every token up anew: one was revoked here."""
        self._known.clear()


class KnownWorkers:
    """Which owner a worker belongs to; a worker's owner never changes."""

    def __init__(self, store: StoreThreads) -> None:
        self._store = store
        self._owners: OrderedDict[str, str] = OrderedDict()

    async def check(self, caller: Caller, worker_id: str) -> None:
        """Raise `Forbidden` if the worker is somebody else's. One that is not known is left to the queue to refuse."""
        if caller.scope == "admin":
            return
        owner = self._owners.get(worker_id)
        if owner is None:
            owner = await self._store.read(lambda tx: owner_of_worker(tx, worker_id))
            if owner is None:
                return
            self._owners[worker_id] = owner
            while len(self._owners) > REMEMBERED:
                self._owners.popitem(last=False)
        if owner != caller.owner:
            raise Forbidden(f"The worker {worker_id} belongs to someone else.")


class Authentication:
    """The middleware: puts the caller into the request's state, or answers 401."""

    def __init__(self, app: ASGIApp, tokens: KnownTokens) -> None:
        self.app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                scope.setdefault("state", {})["caller"] = await self._tokens.caller(secret_of(scope))
            except FarmError as error:
                await error_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


bearer = HTTPBearer(auto_error=False, scheme_name="token", description="`Authorization: Bearer TOKEN`")
"""Documents the scheme in OpenAPI; the middleware has checked it already."""


def caller(request: Request) -> Caller:
    """The caller of this request, as the middleware found it."""
    found: Caller = request.state.caller
    return found


def _must_have(found: Caller, *scopes: client.Scope) -> Caller:
    if found.scope not in scopes:
        raise Forbidden(f"This needs a token of scope {' or '.join(scopes)}, not {found.scope}.")
    return found


async def _admin(request: Request) -> Caller:
    return _must_have(caller(request), "admin")


async def _user(request: Request) -> Caller:
    return _must_have(caller(request), "user", "admin")


async def _worker(request: Request) -> Caller:
    """Also refuses a worker that speaks another version of the protocol."""
    spoken = request.headers.get(PROTOCOL_HEADER, "none")
    if spoken != str(PROTOCOL_VERSION):
        raise ProtocolMismatch(
            f"This server speaks protocol version {PROTOCOL_VERSION}, the worker {spoken[:20]}: "
            "install the same release on both.",
            server=PROTOCOL_VERSION,
        )
    return _must_have(caller(request), "worker", "admin")


Admin = Annotated[Caller, Depends(_admin)]
User = Annotated[Caller, Depends(_user)]
"""Who has transcriptions: a user sees the own ones, an admin all."""
Worker = Annotated[Caller, Depends(_worker)]


def secret_of(scope: Scope) -> str:
    """The secret that a request presents; raises `Unauthorized` if there is none."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, secret = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer" and 0 < len(secret.strip()) <= MAX_SECRET:
                return str(secret.strip())
    raise Unauthorized


def _find(tx: Transaction, secret: str) -> tuple[TokenRow, bool]:
    row = find_token(tx, secret)
    if row is None:
        raise Unauthorized("This token is not known here, or was revoked.")
    return row, stale(row, tx.now)
