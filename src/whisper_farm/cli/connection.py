"""What a command is told by flags and by the environment: which farm, as whom, with which settings.

The flag wins, then the environment, then the server of this machine. A setting that cannot be is one line.

A server started here leaves the admin's token in its data folder, and commands on the same machine use it. So nothing
needs to be copied after `whisper-farm serve`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whisper_farm.errors import InvalidRequest, Unauthorized

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from whisper_farm.client.farm import FarmClient

    Settings = TypeVar("Settings", bound=BaseSettings)

DEFAULT_SERVER = "http://127.0.0.1:8765"
ADMIN_TOKEN_FILE = "admin-token"
TOKEN = re.compile(r"[!-~]+")
"""What can be a token, as part of the head of a request."""


def server_flags(command: Callable[..., object]) -> Callable[..., object]:
    """The flags `--server` and `--token` of every command that talks to a farm."""
    command = click.option("--token", metavar="TOKEN", help="Access token; else WHISPER_FARM_TOKEN.")(command)
    server_help = f"The farm's server; else WHISPER_FARM_SERVER, else {DEFAULT_SERVER}."
    return click.option("--server", metavar="URL", help=server_help)(command)


def on_farm(command: Callable[..., object]) -> Callable[..., object]:
    """The flags `--server` and `--token` for a command whose first argument is a client of the farm that they name."""

    @wraps(command)
    def connected(server: str | None, token: str | None, **flags: Any) -> object:
        with connect(server, token) as farm:
            return command(farm, **flags)

    return server_flags(connected)


def server_address(flag: str | None) -> str:
    """The address of the server, with its scheme."""
    from whisper_farm.client.transport import checked_address

    address = (flag or os.environ.get("WHISPER_FARM_SERVER") or DEFAULT_SERVER).strip()
    if "://" not in address:
        address = f"http://{address}"
    return checked_address(address)


def access_token(flag: str | None, address: str) -> str:
    """The token to present. A token that was left in the data folder is only for a server on this machine."""
    if token := (flag or os.environ.get("WHISPER_FARM_TOKEN") or "").strip():
        if TOKEN.fullmatch(token) is None:
            raise Unauthorized("This is no access token: it holds characters that none has.")
        return token
    if on_this_machine(address):
        with suppress(OSError):
            return admin_token_file().read_text(encoding="utf-8").strip()
        raise Unauthorized(
            f"A token is needed for {address}, and no server has left one in {admin_token_file().parent}: "
            "start one with `whisper-farm serve`, or give --token or set WHISPER_FARM_TOKEN."
        )
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
    from whisper_farm.client.farm import FarmClient

    address = server_address(server)
    return FarmClient(address, access_token(token, address))


def on_this_machine(address: str) -> bool:
    """Whether an address is one that only this machine can mean."""
    from urllib.parse import urlsplit

    return urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}


def settled(kind: type[Settings], **given: Any) -> Settings:
    """Settings of a kind: what was given, else the environment, else the defaults."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] != "tuple_type":
            raise InvalidRequest(f"The setting {name} cannot be {first.get('input')!r}: {first['msg']}.") from error
    except SettingsError as error:  # says in words only which setting it is about
        name = str(error).partition('field "')[2].partition('"')[0]
    variable = f"{kind.model_config['env_prefix']}{name}".upper()
    value = os.environ.get(variable, "")
    example = json.dumps([part.strip() for part in value.split(",")])
    raise InvalidRequest(
        f"The setting {name} cannot be {value!r}: it is a list and wants JSON, as in {variable}='{example}'."
    )
