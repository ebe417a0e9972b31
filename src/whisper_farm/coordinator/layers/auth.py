"""Who is calling. Each dialect says how it finds that out; ours look at bearer tokens.

A dialect asks before anything else is looked at: without a caller there is not even a 404. A token's scope says what
it opens: `worker` the worker protocol alone, `user` the owner's own transcriptions, `admin` everything. Tokens are
remembered for a few seconds, so a revoked one may live that long on another coordinator. An event stream goes on long
after it was let in; it asks again here before everything it sends. Dependencies are coroutines, though they wait for
nothing: FastAPI sends plain functions to a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_farm import errors
from whisper_farm.coordinator.answers.errors import ErrorShape, error_response
from whisper_farm.coordinator.coalescing import Coalescing
from whisper_farm.coordinator.layers.headers import header
from whisper_farm.coordinator.layers.quotas import FailedTries, address_of
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.protocol.administration import Scope as TokenScope
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.store.accounts import SessionRow
from whisper_farm.store.database import Transaction
from whisper_farm.store.tokens import TokenRow, find_tokens, stale, touch_token
from whisper_farm.store.tokens import digest as digest_of
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.store.workers import token_of_worker

REMEMBER_SECONDS = 5.0
"""How long a good token opens without being looked up."""
REFUSED_SECONDS = 1.0
"""How long junk is refused without being looked up. A token may be made meanwhile."""
REMEMBERED = 10_000
MAX_ASKED = 10_000
"""Tokens that may wait for a read."""
MAX_SECRET = 512
WRONG_TOKENS = 30
"""In five minutes from one address. Then wrong ones are told to wait."""
LOOK_SECONDS = 0.5
"""How often unknown tokens are looked up, all together, of addresses that have sent too many wrong ones."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token this is and what it opens."""

    token_id: str
    owner: str
    scope: TokenScope
    reads: str | None = None
    """The one transcription that a link has opened; its reader owns nothing."""

    @property
    def sees(self) -> str | None:
        """The one owner whose things this caller sees; None means everybody's."""
        return None if self.scope == "admin" else self.owner

    @property
    def party(self) -> str:
        """Who takes turns with others: a worker by its token, for many may have one owner, and anybody else."""
        return self.token_id if self.scope == "worker" else self.owner


R = TypeVar("R", bound=TokenRow | SessionRow)


class KnownSecrets(Generic[R]):
    """Looks secrets up, and remembers for a moment which are good and which are not. It keeps digests, no secrets.

    All that are asked about while a look-up is under way share the next one. So any number of junk secrets occupies
    one thread at most, and a good one waits for two look-ups at most.
    """

    def __init__(
        self,
        store: StoreThreads,
        find: Callable[[Transaction, Collection[str]], Sequence[R]],
        touch: Callable[[Transaction, R], None],
    ) -> None:
        self._store, self._find, self._touch = store, find, touch
        self._known: OrderedDict[str, tuple[float, Caller | None]] = OrderedDict()
        self._look_ups = Coalescing(self._look_up, most=MAX_ASKED)

    async def look_up(self, secret: str, guessed: bool = False) -> Caller | None:
        """Whose secret this is. One that was not good lately, and may be guessed, waits a moment."""
        digest = digest_of(secret)
        until, found = self._known.get(digest, (0.0, None))
        if until >= time.monotonic():
            return found
        if found is None and guessed:
            await asyncio.sleep(LOOK_SECONDS - time.monotonic() % LOOK_SECONDS)
        if len(self._look_ups) >= MAX_ASKED:
            raise errors.ServerBusy("Too many secrets are looked up at once; try again.")
        return await self._look_ups.ask(digest)

    def forget(self) -> None:
        """Look every one up anew: one has ended here."""
        self._known.clear()

    async def _look_up(self, digests: Sequence[str]) -> list[Caller | None]:
        rows, now = await self._store.read(lambda tx: (self._find(tx, set(digests)), tx.now))
        for row in rows:
            if stale(row.last_used_at, now):
                with suppress(errors.StorageError):  # a full disk or a busy database keeps nobody from reading
                    await self._note_use(row)
        found = {row.hash: Caller(row.id, row.owner, row.scope) for row in rows}
        for digest in digests:
            self._remember(digest, found.get(digest))
        return [found.get(digest) for digest in digests]

    async def _note_use(self, row: R) -> None:
        await self._store.beat(lambda tx: self._touch(tx, row))

    def _remember(self, digest: str, found: Caller | None) -> None:
        seconds = REFUSED_SECONDS if found is None else REMEMBER_SECONDS
        self._known[digest] = (time.monotonic() + seconds, found)
        self._known.move_to_end(digest, last=found is not None)  # junk is forgotten before what is good
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


class KnownTokens(KnownSecrets[TokenRow]):
    def __init__(self, store: StoreThreads) -> None:
        super().__init__(store, find_tokens, touch_token)
        self._failed = FailedTries(WRONG_TOKENS)

    async def caller(self, secret: str, scope: Scope) -> Caller:
        """Who presents this secret in this request; raises `Unauthorized`, or `TooManyTries`.

        A good token is good wherever it comes from: whoever has a proxy in common with a guesser is let in. One that
        was not good lately waits a moment there.
        """
        address = address_of(scope)
        if (found := await self.look_up(secret, self._failed.too_many(address))) is not None:
            return found
        self._failed.check(address)
        self._failed.failed(address)
        raise errors.Unauthorized("This token is not known here, or was revoked.")


class KnownWorkers:
    """Which token a worker was registered with; that never changes."""

    def __init__(self, store: StoreThreads) -> None:
        self._store = store
        self._tokens: OrderedDict[str, str] = OrderedDict()

    async def check(self, caller: Caller, worker_id: str) -> None:
        """Raise `Forbidden` for a worker of another token. One that is not known is left to the queue to refuse."""
        if caller.scope == "admin":
            return
        token_id = self._tokens.get(worker_id)
        if token_id is None:
            token_id = await self._store.read(lambda tx: token_of_worker(tx, worker_id))
            if token_id is None:
                return
            self._tokens[worker_id] = token_id
            while len(self._tokens) > REMEMBERED:
                self._tokens.popitem(last=False)
        if token_id != caller.token_id:
            raise errors.Forbidden(f"The worker {worker_id} was registered with another token.")


def secret_of(scope: Scope, kinds: Sequence[str] = ("bearer",)) -> str:
    """The secret that a request presents; raises `Unauthorized` if there is none."""
    kind, _, secret = header(scope, "authorization").partition(" ")
    if kind.lower() in kinds and 0 < len(secret.strip()) <= MAX_SECRET:
        return secret.strip()
    raise errors.Unauthorized


Presented = Callable[[Scope], str]
Enter = Callable[[Scope], Awaitable[Caller]]
"""Says who a request comes from, or raises the error that keeps it out."""


def bearer_token(tokens: KnownTokens, *scopes: TokenScope, presented: Presented = secret_of) -> Enter:
    """Lets in who presents a token of one of these scopes."""

    async def enter(scope: Scope) -> Caller:
        return must_have(await tokens.caller(presented(scope), scope), *scopes)

    return enter


async def ended(enter: Enter, scope: Scope) -> bool:
    """Whether what let this request in lets nobody in any more. A database that does not answer has ended nothing."""
    try:
        await enter(scope)
    except (errors.Unauthorized, errors.Forbidden, errors.TooManyTries):
        return True
    except errors.StorageError:
        return False
    return False


class Authentication:
    """The middleware: puts the caller into the request's state, or answers why not."""

    def __init__(self, app: ASGIApp, enter: Enter, open_paths: frozenset[str], shape: ErrorShape) -> None:
        self.app, self._enter, self._open_paths, self._shape = app, enter, open_paths, shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and str(scope["path"]).removeprefix(scope["root_path"]) not in self._open_paths:
            try:
                scope.setdefault("state", {})["caller"] = await self._enter(scope)
            except errors.FarmError as error:
                await error_response(error, self._shape)(scope, receive, send)
                return
        await self.app(scope, receive, send)


bearer = HTTPBearer(auto_error=False, scheme_name="token", description="`Authorization: Bearer TOKEN`")
"""Documents the scheme in OpenAPI; the middleware has checked it already."""


async def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


async def _admin(request: Request) -> Caller:
    return must_have(await _caller(request), "admin")


AnyCaller = Annotated[Caller, Depends(_caller)]
"""For routes: whoever the dialect let in."""
Admin = Annotated[Caller, Depends(_admin)]
"""For routes that are an admin's alone."""


def must_have(found: Caller, *scopes: TokenScope) -> Caller:
    """The caller, if the token has one of these scopes; raises `Forbidden`."""
    if found.scope not in scopes:
        raise errors.Forbidden(f"This needs a token of scope {' or '.join(scopes)}, not {found.scope}.")
    return found


def must_speak_our_protocol(scope: Scope) -> None:
    """Raise `ProtocolMismatch` for a worker that speaks another version."""
    spoken = header(scope, PROTOCOL_HEADER.lower()) or "none"
    if spoken != str(PROTOCOL_VERSION):
        raise errors.ProtocolMismatch(
            f"This server speaks protocol version {PROTOCOL_VERSION}, the worker {spoken[:20]}: "
            "install the same release on both.",
            server=PROTOCOL_VERSION,
        )


def own(tx: Transaction, caller: Caller, transcription_id: str) -> TranscriptionRow:
    """The transcription, if this caller may know of it; somebody else's is as little there as none."""
    row = find(tx, transcription_id)
    if row.id != caller.reads and caller.sees not in (None, row.owner):
        raise errors.NotFound(f"There is no transcription {transcription_id}.")
    return row
