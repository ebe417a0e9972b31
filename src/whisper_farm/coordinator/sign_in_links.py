"""Links that sign in to the web app, made on the server's own machine: at its first start, and on demand."""

from __future__ import annotations

from whisper_farm.errors import NotFound
from whisper_farm.store.accounts import anybody_signed_in, find_account, make_account, make_link
from whisper_farm.store.database import Database, Transaction

FIRST_ACCOUNT = "admin"
LINK_SECONDS = 900.0


def first_link(database: Database) -> str | None:
    """A link that signs the first admin in, while nobody has ever signed in."""
    return database.write(lambda tx: None if anybody_signed_in(tx) else link_for(tx, FIRST_ACCOUNT))


def link_for(tx: Transaction, name: str) -> str:
    """A link that signs in to an account; the first admin's account is made where it is missing."""
    if find_account(tx, name) is None:
        if name != FIRST_ACCOUNT:
            raise NotFound(f"There is no account {name}.")
        make_account(tx, name, "admin")
    return make_link(tx, name, LINK_SECONDS)


def sign_in_address(address: str, link: str) -> str:
    """The link as a browser takes it. What is behind the # is not sent, so the secret is in no log of a server."""
    return f"{address.rstrip('/')}/#/sign-in/{link}"
