"""Which farm a command talks to, and as whom: the flag, else the environment, else the server of this machine.

A server started here leaves the admin's token in its data folder; commands on the same machine use it, so that
after `whisper-farm serve` nothing needs to be copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whisper_farm.errors import InvalidRequest, Unauthorized

if TYPE_CHECKING:
    from whisper_farm.client import FarmClient

DEFAULT_SERVER = "http://127.0.0.1:8765"
ADMIN_TOKEN_FILE = "admin-token"


def server_flags(command: Callable[..., object]) -> Callable[..., object]:
    """The flags `--server` and `--token` of every command that talks to a farm."""
    command = click.option("--token", metavar="TOKEN", help="Access token; else WHISPER_FARM_TOKEN.")(command)
    server_help = f"The farm's server; else WHISPER_FARM_SERVER, else {DEFAULT_SERVER}."
    return click.option("--server", metavar="URL", help=server_help)(command)


def server_address(flag: str | None) -> str:
    """The address of the server, with its scheme."""
    address = (flag or os.environ.get("WHISPER_FARM_SERVER") or DEFAULT_SERVER).strip().rstrip("/")
    if "://" not in address:
        address = f"http://{address}"
    if not address.startswith(("http://", "https://")):
        raise InvalidRequest(f"{address} is no address of a server; write it as http://HOST:PORT.")
    return address


def access_token(flag: str | None, address: str) -> str:
    """The token to present. A token that was left in the data folder is only for a server on this machine."""
    if token := flag or os.environ.get("WHISPER_FARM_TOKEN"):
        return token.strip()
    if on_this_machine(address):
        try:
            return admin_token_file().read_text(encoding="utf-8").strip()
        except OSError:
            pass
    raise Unauthorized(
        f"A token is needed for {address}: give --token or set WHISPER_FARM_TOKEN "
        "(the server's owner makes one with `whisper-farm token create`)."
    )


def admin_token_file() -> Path:
    """Where a server on this machine leaves its admin's token."""
    from whisper_farm.settings import data_folder

    return data_folder() / ADMIN_TOKEN_FILE


def connect(server: str | None, token: str | None) -> FarmClient:
    """A client of the farm that the flags or the environment name."""
    from whisper_farm.client import FarmClient

    address = server_address(server)
    return FarmClient(address, access_token(token, address))


def on_this_machine(address: str) -> bool:
    """Whether an address is one that only this machine can mean."""
    from urllib.parse import urlsplit

    return urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}
