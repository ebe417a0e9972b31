"""`whisper-farm sign-in-link`: a way into the web app for whoever runs the server."""

from __future__ import annotations

import click

from whisper_farm.cli.whisper_flags import Command


@click.command(cls=Command)
@click.argument("name", default="admin")
@click.option("--data", metavar="FOLDER", help="The server's data folder.")
@click.option("--database", metavar="URL", help="The server's database, where it is not in the data folder.")
@click.option("--public_url", metavar="URL", help="The server's address. [default: http://127.0.0.1:8765]")
def sign_in_link(name: str, **flags: str | None) -> None:
    """Print a link that signs NAME in to the web app, once, within 15 minutes. [default: admin]

    Run it on the server's machine: for the first sign-in, or when the password is forgotten.
    """
    from whisper_farm.cli.connection import DEFAULT_SERVER
    from whisper_farm.cli.serve import server_settings
    from whisper_farm.coordinator.server import open_stores
    from whisper_farm.coordinator.sign_in_links import link_for, sign_in_address

    settings = server_settings(**flags)
    with open_stores(settings) as (database, _):
        link = database.write(lambda tx: link_for(tx, name))
    print(sign_in_address(settings.public_url or DEFAULT_SERVER, link))
