"""The people of the farm, for its administrators: invite, sign in again by a link, remove."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import Admin
from whisper_farm.coordinator.layers.sessions import PERSON
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.protocol.administration import Scope
from whisper_farm.protocol.wire import Answer, Name
from whisper_farm.protocol.wire import Request as Body
from whisper_farm.store import accounts
from whisper_farm.store.database import Transaction

INVITATION_SECONDS = 3 * 86_400.0

PersonName = Annotated[str, Field(pattern=PERSON)]

router = routes_for("web")


class NewPerson(Body):
    """Invite somebody."""

    name: PersonName
    scope: Literal["admin", "user"] = "user"


class Person(Answer):
    """Somebody with an account. `link` is the secret that signs in once: only in the answer that makes it."""

    name: Name
    scope: Scope
    created_at: float
    signed_in_at: float | None = None
    link: str | None = None


class People(Answer):
    """Everybody with an account."""

    people: tuple[Person, ...]


@router.get("/people")
async def get_people(caller: Admin, farm: Farm) -> People:
    """Everybody with an account."""
    rows = await farm.store.read(accounts.list_accounts)
    return People(people=tuple(Person.of(row) for row in rows))


@router.post("/people", status_code=201, responses=documented(WrongState))
async def invite(body: NewPerson, caller: Admin, farm: Farm) -> Person:
    """Make an account; its link signs in once, within three days."""

    def make(tx: Transaction) -> Person:
        account = accounts.make_account(tx, body.name, body.scope)
        return Person.of(account, link=accounts.make_link(tx, account.name, INVITATION_SECONDS))

    made = await farm.store.write(make)
    farm.log.info("somebody was invited", action="invited", owner=body.name, scope=body.scope)
    return made


@router.post("/people/{name}/link", status_code=201, responses=documented(NotFound))
async def new_link(name: PersonName, caller: Admin, farm: Farm) -> Person:
    """Another link for somebody, who lost the first one or the password."""

    def make(tx: Transaction) -> Person:
        account = accounts.find_account(tx, name)
        if account is None:
            raise NotFound(f"There is no account {name}.")
        return Person.of(account, link=accounts.make_link(tx, name, INVITATION_SECONDS))

    return await farm.store.write(make)


@router.delete("/people/{name}", status_code=204, responses=documented(NotFound, WrongState))
async def remove_person(name: PersonName, caller: Admin, farm: Farm) -> None:
    """Remove an account with its sessions, tokens, webhooks and feeds. What it submitted stays."""
    gone = await farm.store.write(lambda tx: accounts.remove_account(tx, name))
    farm.sessions.forget()
    farm.tokens.forget()
    await farm.blobs.delete(gone)
    farm.log.info("an account was removed", action="account_removed", owner=name)
