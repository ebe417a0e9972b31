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
from whisper_farm.store.accounts import find_account, make_account
from whisper_farm.store.shares import is_shared

READ = re.compile(r"/transcriptions/([A-Za-z0-9._-]{1,64})(?:/(?:transcripts?|audio|peaks))?")
"""What a link opens, by GET and HEAD."""
PERSON = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
"""The name of an account."""


def share_cookie(transcription_id: str) -> str:
    """The name of the cookie that keeps the secret of a link."""
    return f"farm_share_{transcription_id}"


def asked_of_a_link(scope: Scope) -> str | None:
    """The transcription that this request wants to read, if a link could open it."""
    path = str(scope["path"]).removeprefix(str(scope["root_path"]))
    found = READ.fullmatch(path) if scope["method"] in ("GET", "HEAD") else None
    return found and found[1]


async def reader(store: StoreThreads, transcription_id: str, secret: str) -> Caller | None:
    """Whoever has the secret of a link; None if this is none. A revoked one opens nothing at once: nothing is kept."""
    if not await store.read(lambda tx: is_shared(tx, transcription_id, secret)):
        return None
    return Caller("", "", "user", reads=transcription_id)


def proxied_name(scope: Scope, settings: ServerSettings) -> str:
    """The name that a trusted proxy gives, in a header that only its addresses may set; empty if none does."""
    name = settings.proxy_user_header.lower()
    if not name or not is_in(scope, settings.proxy_networks):
        return ""
    if sum(key == name.encode() for key, _ in scope["headers"]) > 1:
        raise Forbidden(f"The proxy has sent {name} twice; it must replace what browsers send.")
    return header(scope, name)


async def proxied_person(store: StoreThreads, name: str) -> Caller:
    """That person, with an account from the first visit on."""
    if not re.fullmatch(PERSON, name):
        raise Forbidden(f"The proxy calls you {name[:100]}; a name here is letters, digits and . _ @ -")
    account = await store.read(lambda tx: find_account(tx, name))
    if account is None:
        account = await store.write(lambda tx: find_account(tx, name) or make_account(tx, name, "user"))
    return Caller(f"proxy {name}", name, account.scope)
