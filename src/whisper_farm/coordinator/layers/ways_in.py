"""Two further ways in: a link that opens one transcription, and a proxy that says who is there.

What a link opens is kept in a cookie of its own for each transcription, beside the session of whoever is signed in. It
lets its reader look, at one transcription and at nothing else: that is decided here, by method and path. A proxy is
believed by its address alone. Whom it names has the rights of the account of that name, made at the first visit.
"""

from __future__ import annotations

import re

from starlette.types import Scope

from whisper_farm.coordinator.layers.auth import Caller
from whisper_farm.coordinator.layers.headers import header
from whisper_farm.coordinator.layers.quotas import is_in
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import Forbidden
from whisper_farm.settings import ServerSettings
from whisper_farm.store.accounts import AccountRow, find_account, make_account
from whisper_farm.store.database import Transaction
from whisper_farm.store.shares import is_shared

READ = re.compile(r"/transcriptions/([A-Za-z0-9._-]{1,64})(?:/(?:transcripts?|audio|peaks))?")
"""What a link opens, by GET and HEAD."""
PERSON = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
"""The name of an account."""


def share_cookie(transcription_id: str) -> str:
    """The name of the cookie that keeps the secret of a link."""
    return f"farm_share_{transcription_id}"


class Readers:
    """Those who come by a link. A revoked one opens nothing at once: nothing is remembered."""

    def __init__(self, store: StoreThreads) -> None:
        self._store = store

    @staticmethod
    def asks(scope: Scope) -> str | None:
        """The transcription that this request wants to read, if a link could open it."""
        path = str(scope["path"]).removeprefix(str(scope["root_path"]))
        found = READ.fullmatch(path) if scope["method"] in ("GET", "HEAD") else None
        return found and found[1]

    async def reader(self, transcription_id: str, secret: str) -> Caller | None:
        """Whoever has the secret of a link of this transcription; None if it has no such link."""
        if not await self._store.read(lambda tx: is_shared(tx, transcription_id, secret)):
            return None
        return Caller("", "", "user", reads=transcription_id)


class ProxiedPeople:
    """Those whom a proxy names, in a header that only its addresses may set."""

    def __init__(self, store: StoreThreads, settings: ServerSettings) -> None:
        self._store = store
        self._header = settings.proxy_user_header.lower()
        self._networks = settings.proxy_networks

    def name(self, scope: Scope) -> str:
        """The name that a trusted proxy gives; empty if none does."""
        if not self._header or not is_in(scope, self._networks):
            return ""
        if sum(key == self._header.encode() for key, _ in scope["headers"]) > 1:
            raise Forbidden(f"The proxy has sent {self._header} twice; it must replace what browsers send.")
        return header(scope, self._header)

    async def caller(self, name: str) -> Caller:
        """That person, with an account from the first visit on."""
        if not re.fullmatch(PERSON, name):
            raise Forbidden(f"The proxy calls you {name[:100]}; a name here is letters, digits and . _ @ -")
        account = await self._store.read(lambda tx: find_account(tx, name))
        if account is None:
            account = await self._store.write(lambda tx: _account(tx, name))
        return Caller(f"proxy {name}", name, account.scope)


def _account(tx: Transaction, name: str) -> AccountRow:
    return find_account(tx, name) or make_account(tx, name, "user")
