"""What a command is told by flags and by the environment: which farm, as whom, with which settings.

The flag wins, then the environment, then the server of this machine. A setting that cannot be is one line.

A server started here leaves tokens in its data folder, and its address beside them. Commands on the same machine use
them: a worker that for workers, others the admin's. So nothing needs to be copied after `whisper-farm serve`. Such a
token is sent to that address and to no other, whatever else listens on this machine.
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
from whisper_farm.whole_files import ADDRESS_FILE, ADMIN_TOKEN_FILE

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from whisper_farm.client.farm import FarmClient

    Settings = TypeVar("Settings", bound=BaseSettings)

DEFAULT_SERVER = "http://127.0.0.1:8765"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_TOKEN_FILE_BYTES = 4096
TOKEN = re.compile(r"[!-~]+")
"""What can be a token, as part of the head of a request."""


def server_flags(command: Callable[..., object]) -> Callable[..., object]:
    """The flags `--server`, `--token` and `--token_file` of every command that talks to a farm."""
    command = token_flags("Access token; else WHISPER_FARM_TOKEN.")(command)
    server_help = f"The farm's server; else WHISPER_FARM_SERVER, else this machine's, else {DEFAULT_SERVER}."
    return click.option("--server", metavar="URL", help=server_help)(command)


def token_flags(help: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """The flag `--token`; and `--token_file`, for other users of a machine see what commands are given."""

    def keep(ctx: click.Context, _: click.Parameter, file: str | None) -> None:
        ctx.meta[ADMIN_TOKEN_FILE] = file

    def chosen(ctx: click.Context, _: click.Parameter, token: str | None) -> str | None:
        file = ctx.meta.get(ADMIN_TOKEN_FILE)
        return token or (_token_in(Path(file)) if file else None)

    def both(command: Callable[..., object]) -> Callable[..., object]:
        file_help = "A file that holds the access token."
        file_flag = click.option(
            "--token_file", metavar="FILE", help=file_help, is_eager=True, expose_value=False, callback=keep
        )
        return click.option("--token", metavar="TOKEN", help=help, callback=chosen)(file_flag(command))

    return both


def _token_in(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MAX_TOKEN_FILE_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidRequest(f"The token cannot be read from {file}: {why}.") from error


def on_farm(command: Callable[..., object]) -> Callable[..., object]:
    """The flags `--server` and `--token` for a command whose first argument is a client of the farm that they name."""

    @wraps(command)
    def connected(server: str | None, token: str | None, **flags: Any) -> object:
        with connect(server, token) as farm:
            return command(farm, **flags)

    return server_flags(connected)


def server_address(flag: str | None) -> str:
    """The address of the server, with its scheme: where none is named, of the one that left its tokens here."""
    from whisper_farm.client.transport import checked_address

    address = (flag or os.environ.get("WHISPER_FARM_SERVER") or token_address(admin_token_file().parent)).strip()
    if "://" not in address:
        address = f"http://{address}"
    return checked_address(address)


def access_token(flag: str | None, address: str, files: tuple[str, ...] = (ADMIN_TOKEN_FILE,)) -> str:
    """The token to present. One that was left in `files` of the data folder is for the server that left it, only.

    A token that is about to cross a network in clear is warned about.
    """
    here = on_this_machine(address)
    if address.startswith("http://") and not here:
        click.echo(
            f"whisper-farm: {address} is no https address: whoever is on the way can read the token and all"
            " that is sent.",
            err=True,
        )
    if token := (flag or os.environ.get("WHISPER_FARM_TOKEN") or "").strip():
        if TOKEN.fullmatch(token) is None:
            raise Unauthorized("This is no access token: it holds characters that none has.")
        return token
    folder = admin_token_file().parent
    there = [folder / name for name in files if (folder / name).exists()]
    if here and there:
        if not same_place(address, bound := token_address(folder)):
            raise Unauthorized(
                f"A token is needed for {address}: the one in {folder} is for the server at {bound} and is sent to"
                " no other. Give --token or --token_file, or set WHISPER_FARM_TOKEN."
            )
        with suppress(OSError):
            return there[0].read_text(encoding="utf-8").strip()
    if here:
        raise Unauthorized(
            f"A token is needed for {address}, and no server has left one in {folder}: "
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


def token_address(folder: Path) -> str:
    """The address of the server that left its tokens in this data folder."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / ADDRESS_FILE).read_text(encoding="utf-8").strip()
    return DEFAULT_SERVER


def same_place(one: str, other: str) -> bool:
    """Whether two addresses of this machine lead to the same port in the same way."""
    from urllib.parse import urlsplit

    def place(address: str) -> tuple[str, int | None]:
        parts = urlsplit(address)
        return parts.scheme, parts.port or {"http": 80, "https": 443}.get(parts.scheme)

    return place(one) == place(other)


def connect(server: str | None, token: str | None) -> FarmClient:
    """A client of the farm that the flags or the environment name."""
    from whisper_farm.client.farm import FarmClient

    address = server_address(server)
    return FarmClient(address, access_token(token, address))


def on_this_machine(address: str) -> bool:
    """Whether an address is one that only this machine can mean."""
    from urllib.parse import urlsplit

    return urlsplit(address).hostname in LOOPBACK


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
            examples = kind.model_fields[name].examples if name in kind.model_fields else None
            why = f"it is written as {examples[0]}" if examples else first["msg"]
            raise InvalidRequest(f"The setting {name} cannot be {first.get('input')!r}: {why}.") from error
    except SettingsError as error:  # says in words only which setting it is about
        name = str(error).partition('field "')[2].partition('"')[0]
    variable = f"{kind.model_config['env_prefix']}{name}".upper()
    value = os.environ.get(variable, "")
    example = json.dumps([part.strip() for part in value.split(",")])
    raise InvalidRequest(
        f"The setting {name} cannot be {value!r}: it is a list and wants JSON, as in {variable}='{example}'."
    )
