"""People in browsers: sessions in cookies, links, proxies, and what keeps other sites from using them.

A session is looked up like a token and is remembered as briefly. Its cookie is never readable by scripts and never
sent by another site. Whatever changes something must carry a header that no other site's page can send. A browser must
have reached us by a name that is ours: a foreign name that was made to lead here is refused.

What a link opens is kept in a cookie of its own for each transcription, beside the session of whoever is signed in. It
lets its reader look, at one transcription and at nothing else: that is decided here, by method and path. A proxy is
believed by its address alone. Whom it names has the rights of the account of that name, made at the first visit.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Scope

from whisper_farm.coordinator.layers.auth import Caller, KnownSecrets, KnownTokens, must_have, secret_of
from whisper_farm.coordinator.layers.headers import header
from whisper_farm.coordinator.layers.quotas import is_in
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import Forbidden, Unauthorized
from whisper_farm.protocol.administration import Scope as TokenScope
from whisper_farm.settings import ServerSettings
from whisper_farm.store.accounts import (
    SESSION_SECONDS,
    SessionRow,
    find_account,
    find_sessions,
    make_account,
    touch_session,
)
from whisper_farm.store.shares import is_shared

COOKIE = "farm_session"
SECURE = "__Host-"
"""How the name of a cookie begins that only HTTPS carries."""
PEOPLE: tuple[TokenScope, ...] = ("user", "admin")
APP_HEADER = "whisper-farm-app"
"""Sent by the app with everything that changes something."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
READ = re.compile(r"/transcriptions/([A-Za-z0-9._-]{1,64})(?:/(?:transcripts?|audio|peaks))?")
"""What a link opens, by GET and HEAD."""
PERSON = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
"""The name of an account."""


class KnownSessions(KnownSecrets[SessionRow]):
    def __init__(self, store: StoreThreads) -> None:
        super().__init__(store, find_sessions, touch_session)

    async def caller(self, secret: str) -> Caller:
        """Whose session this is; raises `Unauthorized`."""
        if (found := await self.look_up(secret)) is not None:
            return found
        raise Unauthorized("You are not signed in any more.")


class OwnNames:
    """The names by which browsers may reach this server: addresses, this machine's names, and those of the settings.

    An address cannot be made to lead elsewhere, a name can: somebody else's name that leads here is an attack.
    """

    def __init__(self, settings: ServerSettings) -> None:
        machine = socket.gethostname().lower()
        names = {"localhost", machine, f"{machine.split('.')[0]}.local", settings.host.lower(), *settings.allowed_hosts}
        if settings.public_url:
            names.add(urlsplit(settings.public_url).hostname or "")
        self._names = {name.lower() for name in names}

    def check(self, scope: Scope) -> None:
        """Raise `Forbidden` for a request to a name that is not ours."""
        host = urlsplit(f"//{header(scope, 'host')}").hostname or ""
        if host in self._names or host.endswith(".localhost") or _is_address(host):
            return
        raise Forbidden(
            f"This server does not know itself as {host[:100] or 'nothing'}. If that is its name, its administrator "
            f"says so with WHISPER_FARM_ALLOWED_HOSTS='[\"{host[:100]}\"]' or WHISPER_FARM_PUBLIC_URL."
        )


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


@dataclass(frozen=True, slots=True)
class WaysIn:
    """All the ways into the client API and the app: a token, and what browsers and their proxies send."""

    store: StoreThreads
    settings: ServerSettings
    tokens: KnownTokens
    sessions: KnownSessions
    names: OwnNames

    async def enter(self, scope: Scope) -> Caller:
        """Whoever calls, by the first of the ways that leads in."""
        if header(scope, "authorization"):
            return must_have(await self.tokens.caller(secret_of(scope), scope), *PEOPLE)
        wanted = asked_of_a_link(scope)
        link = wanted and cookie(scope, share_cookie(wanted))
        proxied, session = proxied_name(scope, self.settings), cookie(scope, COOKIE)
        if not (link or proxied or session):
            raise Unauthorized
        must_come_from_our_page(scope, self.names)
        if wanted and link and (known := await reader(self.store, wanted, link)):
            return known
        if proxied:
            return must_have(await proxied_person(self.store, proxied), *PEOPLE)
        if session:
            return must_have(await self.sessions.caller(session), *PEOPLE)
        raise Unauthorized("This link works no more.")


def must_come_from_our_page(scope: Scope, names: OwnNames) -> None:
    """Raise `Forbidden` for what another site's page may have sent."""
    names.check(scope)
    if scope["method"] in SAFE_METHODS:
        return
    if header(scope, APP_HEADER) != "1" or header(scope, "sec-fetch-site") not in ("", "same-origin"):
        raise Forbidden("A change by a browser must come from the farm's own page.")


def cookie(scope: Scope, name: str) -> str | None:
    """The secret in the request's cookie of that name, or in the one that only HTTPS carries."""
    try:
        cookies = SimpleCookie(header(scope, "cookie"))
    except CookieError:
        return None
    found = cookies.get(SECURE + name) or cookies.get(name)
    return found.value if found is not None and found.value else None


def give_cookie(answer: Response, scope: Scope, name: str, secret: str, settings: ServerSettings) -> None:
    """Let the browser keep a secret; over HTTPS in a cookie that only HTTPS carries."""
    secure = over_https(scope, settings)
    answer.set_cookie(
        SECURE + name if secure else name,
        secret,
        max_age=int(SESSION_SECONDS),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def take_cookie(answer: Response) -> None:
    """Let the browser forget the session."""
    answer.delete_cookie(SECURE + COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def over_https(scope: Scope, settings: ServerSettings) -> bool:
    """Whether the browser speaks HTTPS: to us, or to the proxy that stands at our public address."""
    public = urlsplit(settings.public_url or "")
    host = urlsplit(f"//{header(scope, 'host')}").hostname
    return scope["scheme"] == "https" or (public.scheme == "https" and public.hostname == host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
