"""`whisper-farm token create|list|revoke` and `sign-in-link`: who may speak to a farm, and as what."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from whisper_farm.cli.connection import on_farm, token_address
from whisper_farm.cli.transcriptions import each
from whisper_farm.cli.whisper_flags import Command
from whisper_farm.cli.words import columns, when
from whisper_farm.showing import printable, say

if TYPE_CHECKING:
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.administration import Scope

SCOPES = ("user", "worker", "admin")


@click.group()
def token() -> None:
    """Make, list and revoke access tokens.

    A worker's token can do nothing but work; a user's token sees its owner's transcriptions and no others.
    """


@token.command(cls=Command)
@click.argument("name")
@click.option("--scope", type=click.Choice(SCOPES), default="user", help="What it may do.")
@click.option("--owner", metavar="WHO", help="Whom it acts for. [default: NAME for users, else you]")
@click.option("--days", type=float, metavar="N", help="It ends after so many days. [default: never]")
@on_farm
def create(farm: FarmClient, name: str, scope: str, owner: str | None, days: float | None) -> None:
    """Make a token called NAME and print it: it cannot be shown again. It ends with the token that makes it."""
    print(farm.create_token(name, cast("Scope", scope), owner or (name if scope == "user" else None), days).token)


@token.command("list", cls=Command)
@on_farm
def list_(farm: FarmClient) -> None:
    """List the tokens, without their secrets."""
    rows = [
        (one.id, one.scope, one.owner, when(one.last_used_at) if one.last_used_at else "never", printable(one.name))
        for one in farm.tokens()
    ]
    say(columns([("ID", "SCOPE", "OWNER", "LAST USED", "NAME"), *rows]))


@token.command(cls=Command)
@click.argument("token_id", nargs=-1, required=True, metavar="ID...")
@click.option("--only", is_flag=True, help="Keep the tokens that were made with them.")
@on_farm
def revoke(farm: FarmClient, token_id: tuple[str, ...], only: bool) -> int:
    """Make tokens useless, with all that were made with them, at once and for good."""
    return each(token_id, lambda one: farm.revoke_token(one, only), "revoked")


@click.command(cls=Command)
@click.argument("name", default="admin")
@click.option("--data", metavar="FOLDER", help="The server's data folder.")
@click.option("--database", metavar="URL", help="The server's database, where it is not in the data folder.")
@click.option("--public_url", metavar="URL", help="The server's address. [default: that of the data folder's server]")
def sign_in_link(name: str, **flags: str | None) -> None:
    """Print a link that signs NAME in to the web app, once, within 15 minutes. [default: admin]

    Run it on the server's machine: for the first sign-in, or when the password is forgotten.
    """
    from whisper_farm.cli.serve import settings_of_farm, sign_in_address
    from whisper_farm.coordinator.server import open_stores
    from whisper_farm.store.accounts import link_for

    settings = settings_of_farm(**flags)
    with open_stores(settings) as (database, _):
        link = database.write(lambda tx: link_for(tx, name))
    print(sign_in_address(settings.public_url or token_address(settings.data), link))
    print(f"It signs {name} in once, within 15 minutes.", file=sys.stderr)
