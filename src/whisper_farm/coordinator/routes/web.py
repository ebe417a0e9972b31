"""The web app: its page and files, and signing in and out.

What the app shows comes from the client API, which takes a session as it takes a token. Files are named by their
content, so a browser keeps them for good; the page itself is made anew each time, with a fresh nonce for its styles.
"""

from __future__ import annotations

import asyncio
import re
from functools import cache
from importlib import metadata
from importlib.metadata import PackageMetadata
from typing import Annotated
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import Field

from whisper_farm import DEFAULT_ENGINE, __version__
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import CheckedRoute, Dialect, routes_for, sub_application
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.coordinator.layers.headers import header
from whisper_farm.coordinator.layers.quotas import address_of
from whisper_farm.coordinator.layers.sessions import (
    COOKIE,
    cookie,
    give_cookie,
    must_come_from_our_page,
    share_cookie,
    take_cookie,
)
from whisper_farm.coordinator.web_app import best_encoding, content_policy
from whisper_farm.errors import Forbidden, InvalidRequest, NotFound, TooManyTries, Unauthorized
from whisper_farm.models import engine_and_model, may_be_folder
from whisper_farm.protocol.administration import Scope
from whisper_farm.protocol.wire import Answer, Id
from whisper_farm.protocol.wire import Request as Body
from whisper_farm.protocol.worker import EngineOffer
from whisper_farm.store import accounts
from whisper_farm.store.database import Transaction
from whisper_farm.store.shares import is_shared
from whisper_farm.store.workers import list_workers
from whisper_farm.transcript.options import MOST_SPEAKERS, Task

FOR_GOOD = "public, max-age=31536000, immutable"
FILE_POLICY = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'"
"""A shared worker lives by the policy of its own file."""
Password = Annotated[str, Field(min_length=10, max_length=256)]

page_router = APIRouter(route_class=CheckedRoute, include_in_schema=False)
router = routes_for("web")


class SignIn(Body):
    """Either the secret of a sign-in link, or a name and a password."""

    link: Annotated[str, Field(max_length=128)] | None = None
    name: Annotated[str, Field(max_length=64)] | None = None
    password: Annotated[str, Field(max_length=256)] | None = None


class OpenLink(Body):
    """The link that lets anybody read one transcription."""

    transcription_id: Id
    secret: Annotated[str, Field(max_length=128)]


class NewPassword(Body):
    """`current` is needed where there is one."""

    password: Password
    current: Annotated[str, Field(max_length=256)] | None = None


class Defaults(Body):
    """The options that the app fills in for the next recording. `model` may be `ENGINE: MODEL`."""

    model: Annotated[str, Field(max_length=255)] = ""
    language: Annotated[str, Field(pattern=r"^([a-z]{2,3}|several)?$")] = ""
    task: Task = "transcribe"
    prompt: Annotated[str, Field(max_length=4000)] = ""
    diarize: bool = False
    speakers: Annotated[int, Field(ge=0, le=MOST_SPEAKERS)] = 0
    """How many there are; 0 lets the voices decide."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0


class NewPreferences(Body):
    """What is to change of them."""

    glossary: Annotated[str, Field(max_length=1000)] | None = None
    defaults: Defaults | None = None


class Preferences(Answer):
    """What somebody wants of the app. The glossary is part of the prompt of whatever the app submits."""

    glossary: str
    defaults: Defaults


class Part(Answer):
    """A library that this farm is built on."""

    name: str
    version: str
    licence: str


class Parts(Answer):
    """All of them that are installed here."""

    parts: tuple[Part, ...]


class Session(Answer):
    """Who is signed in, all None if nobody is; what workers offer, and the model where nobody has chosen another."""

    version: str
    owner: str | None = None
    scope: Scope | None = None
    has_account: bool = False
    has_password: bool = False
    offers: tuple[EngineOffer, ...] = ()
    model: str = ""


def web_app(coordinator: Coordinator, people: APIRouter) -> FastAPI:
    """The dialect of the app at `/app`. Its files and the way in are open; the rest needs a session or a token."""
    files = coordinator.web_app.files
    own = Dialect(coordinator.enter, open_paths=frozenset({"/session", "/shared", *files}))
    app = sub_application(coordinator, [router, people], own)

    async def file(path: str, request: Request) -> Response:
        found = files.get(f"/{path}")
        if found is None:
            raise NotFound("There is nothing at this address.")
        encoding = best_encoding(request.headers.get("Accept-Encoding", ""), found)
        headers = {"Cache-Control": FOR_GOOD, "Vary": "Accept-Encoding", "Content-Security-Policy": FILE_POLICY}
        if encoding is None:
            return Response(found.content, headers=headers, media_type=found.media_type)
        headers["Content-Encoding"] = encoding
        return Response(found.encoded[encoding], headers=headers, media_type=found.media_type)

    app.add_api_route("/{path:path}", file, methods=["GET"], include_in_schema=False)
    return app


@page_router.get("/")
async def page(request: Request, farm: Farm) -> Response:
    """The page that begins the app."""
    farm.names.check(request.scope)
    content, nonce = farm.web_app.begin()
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": content_policy(nonce, _blob_origin(farm))}
    return Response(content, 200 if farm.web_app.page else 503, headers, "text/html")


@router.get("/session")
async def get_session(request: Request, farm: Farm) -> Session:
    """Who is signed in, if anybody is."""
    try:
        caller = await farm.enter(request.scope)
    except Unauthorized:
        return Session(version=__version__)

    def view(tx: Transaction) -> Session:
        account = accounts.find_account(tx, caller.owner)
        offers = tuple(_choosable(offer, farm) for row in list_workers(tx) for offer in row.engines)
        return Session(
            version=__version__,
            owner=caller.owner,
            scope=caller.scope,
            has_account=account is not None,
            has_password=account is not None and account.password_hash is not None,
            offers=offers,
            model=_usual(farm.settings.default_model, offers),
        )

    return await farm.store.read(view)


@router.post("/session", status_code=204, responses=documented(TooManyTries))
async def sign_in(body: SignIn, request: Request, farm: Farm, response: Response) -> None:
    """Sign in by a link or by name and password; the session is in a cookie."""
    must_come_from_our_page(request.scope, farm.names)
    link, address = body.link, address_of(request.scope)
    keys = (address, f"account {body.name}") if body.name else (address,)
    with farm.failed_tries.one_try(*keys):
        account = await (farm.store.write(lambda tx: accounts.use_link(tx, link)) if link else _by_password(farm, body))
        if account is None:
            raise Unauthorized("This link works no more." if link else "Name or password is wrong.")
    name = account.name
    before = cookie(request.scope, COOKIE)

    def start(tx: Transaction) -> str:
        if before is not None:
            accounts.end_session(tx, before)
        return accounts.start_session(tx, name)

    give_cookie(response, request.scope, COOKIE, await farm.store.write(start), farm.settings)
    farm.sessions.forget()
    farm.log.info("somebody signed in", action="signed_in", owner=name)


@router.post("/shared", status_code=204, responses=documented(TooManyTries))
async def open_link(body: OpenLink, request: Request, farm: Farm, response: Response) -> None:
    """Let this browser read the transcription that a link shares; the secret is in a cookie."""
    must_come_from_our_page(request.scope, farm.names)
    with farm.failed_tries.one_try(address_of(request.scope)):
        if not await farm.store.read(lambda tx: is_shared(tx, body.transcription_id, body.secret)):
            raise Unauthorized("This link works no more.")
    give_cookie(response, request.scope, share_cookie(body.transcription_id), body.secret, farm.settings)


@router.delete("/session", status_code=204)
async def sign_out(
    request: Request,
    farm: Farm,
    response: Response,
    everywhere: Annotated[bool, Query(description="End all sessions of this account.")] = False,
) -> None:
    """Sign out, here or everywhere."""
    must_come_from_our_page(request.scope, farm.names)
    secret = cookie(request.scope, COOKIE)
    if secret is not None:
        caller = await farm.sessions.caller(secret) if everywhere else None
        await farm.store.write(
            lambda tx: accounts.end_sessions(tx, caller.owner) if caller else accounts.end_session(tx, secret)
        )
        farm.sessions.forget()
    take_cookie(response)


@router.get("/preferences")
async def get_preferences(caller: AnyCaller, farm: Farm) -> Preferences:
    """The own names and words to expect, and the own options."""
    row = await farm.store.read(lambda tx: accounts.preferences(tx, caller.owner))
    return Preferences(glossary=row.glossary, defaults=Defaults.model_validate(row.defaults))


@router.patch("/preferences", status_code=204)
async def change_preferences(body: NewPreferences, caller: AnyCaller, farm: Farm) -> None:
    """Change some of them."""

    def change(tx: Transaction) -> None:
        had = accounts.preferences(tx, caller.owner)
        glossary = had.glossary if body.glossary is None else body.glossary.strip()
        defaults = had.defaults if body.defaults is None else body.defaults.model_dump()
        accounts.prefer(tx, caller.owner, accounts.PreferencesRow(glossary, defaults))

    await farm.store.write(change)


@router.get("/parts")
async def get_parts(caller: AnyCaller) -> Parts:
    """The libraries that this server is built on, with their licences."""
    return Parts(parts=await asyncio.to_thread(_parts))


@router.put("/password", status_code=204, responses=documented(NotFound, TooManyTries))
async def change_password(body: NewPassword, request: Request, caller: AnyCaller, farm: Farm) -> None:
    """Set the own password. All other sessions of the account end."""
    if cookie(request.scope, COOKIE) is None or header(request.scope, "authorization"):
        raise Forbidden("A password is set by whoever is signed in, not by a token.")
    account = await farm.store.read(lambda tx: accounts.find_account(tx, caller.owner))
    if account is None:
        raise NotFound(f"There is no account {caller.owner}.")
    if account.password_hash is not None:
        with farm.failed_tries.one_try(f"account {caller.owner}"):
            if not await _fits(farm, account.password_hash, body.current or ""):
                raise InvalidRequest("The current password is wrong.")
    async with farm.one_password:
        made = await farm.store.run(lambda: PasswordHasher().hash(body.password))
    await farm.store.write(lambda tx: accounts.set_password(tx, caller.owner, made, caller.token_id))
    farm.sessions.forget()
    farm.log.info("a password was set", action="password_set", owner=caller.owner)


def _choosable(offer: object, farm: Coordinator) -> EngineOffer:
    """What a worker offers, without folders where the server takes none."""
    found = EngineOffer.model_validate(offer)
    if farm.settings.local_models:
        return found
    models = found.models and tuple(model for model in found.models if not may_be_folder(model))
    loaded = tuple(model for model in found.loaded if not may_be_folder(model))
    return found.model_copy(update={"models": models, "loaded": loaded})


def _usual(default: str, offers: tuple[EngineOffer, ...]) -> str:
    """The farm's default model, as the app writes it; where its workers have none but others, the first of those."""
    engine, model = engine_and_model(default)
    if not any(one.engine == engine and (one.models is None or model in one.models) for one in offers):
        others = ((one.engine, name) for one in offers for name in (*(one.models or ()), *one.loaded))
        engine, model = next(others, (engine, model))
    return model if engine == DEFAULT_ENGINE else f"{engine}: {model}"


async def _by_password(farm: Coordinator, body: SignIn) -> accounts.AccountRow | None:
    """An unknown name costs as much time as a wrong password."""
    if body.name is None or body.password is None:
        raise InvalidRequest("Signing in needs a link, or a name and a password.")
    name = body.name
    account = await farm.store.read(lambda tx: accounts.find_account(tx, name))
    known = account.password_hash if account is not None else None
    fits = await _fits(farm, known, body.password)
    return account if fits and known is not None else None


async def _fits(farm: Coordinator, password_hash: str | None, password: str) -> bool:
    def verify() -> bool:
        try:
            return PasswordHasher().verify(password_hash or nobodys_hash(), password)
        except (VerificationError, InvalidHashError):
            return False

    async with farm.one_password:
        return await farm.store.run(verify)


@cache
def _parts() -> tuple[Part, ...]:
    wanted = {re.split(r"[^\w.-]", line, maxsplit=1)[0].casefold() for line in metadata.requires("whisper-farm") or ()}
    found = [one.metadata for one in metadata.distributions() if one.name.casefold() in wanted]
    parts = [Part(name=one["Name"], version=one["Version"], licence=_licence(one)) for one in found]
    return tuple(sorted(parts, key=lambda part: part.name.casefold()))


def _licence(about: PackageMetadata) -> str:
    """In the words of its authors: an expression, a line, or what their classifiers say."""
    said = [*(about.get_all("License-Expression") or ()), *(about.get_all("License") or ())]
    classified = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or () if one.startswith("License")]
    return said[0].partition("\n")[0] if said else ", ".join(classified) or "?"


@cache
def nobodys_hash() -> str:
    """What a password for an unknown name is held against."""
    return PasswordHasher().hash("nobody's password")


def _blob_origin(farm: Coordinator) -> str | None:
    """Where browsers send recordings and fetch audio, if not from here."""
    parts = urlsplit(farm.settings.blobs_public_endpoint or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
