"""`whisper-farm serve`: run a farm's server in the foreground, with a worker beside it if asked.

It says where it is and stops when told to. What becomes of the worker never ends the server.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from whisper_farm import DEFAULT_ENGINE, __version__
from whisper_farm.cli.connection import DEFAULT_SERVER, LOOPBACK, on_this_machine, settled
from whisper_farm.cli.recognition_flags import engine_name
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.worker import worker_settings
from whisper_farm.whole_files import ADMIN_TOKEN_FILE, WORKER_TOKEN_FILE, write_secret

if TYPE_CHECKING:
    from whisper_farm.settings import Policy, ServerSettings
    from whisper_farm.worker.local import LocalWorker
    from whisper_farm.worker.notices import Notice

UNSAID = frozenset({"chunks_appended", "job_finished"})
"""Notices of a worker's daily work: too many to be read."""
SIGN_IN_FILE = "sign-in-link"
LOOK_SECONDS = 0.2


@click.command(
    cls=Command,
    epilog="Every setting has an environment variable too (WHISPER_FARM_PORT, WHISPER_FARM_DATABASE, …); flags win.",
)
@click.option("--host", metavar="HOST", help="Listen on this address; 0.0.0.0 for all. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), metavar="PORT", help="[default: 8765]")
@click.option("--data", metavar="FOLDER", help="Where state is kept. [default: the user's data folder]")
@click.option(
    "--database", metavar="URL", help="sqlite:///PATH or postgresql://… [default: farm.db in the data folder]"
)
@click.option("--blobs", metavar="PLACE", help="A folder, or s3://BUCKET/PREFIX. [default: blobs in the data folder]")
@click.option("--public_url", metavar="URL", help="The address under which others reach this server.")
@click.option("--tls_cert", metavar="FILE", help="The server's certificate (PEM): it speaks HTTPS.")
@click.option("--tls_key", metavar="FILE", help="The key of that certificate. [default: it is in the same file]")
@click.option("--pools", metavar="FILE", help="The machines that this farm may start, as a TOML file.")
@truth("--pools_dry_run", help="Say which machines would be started and ended, and do nothing.")
@click.option(
    "--verify", type=click.FloatRange(0, 1), metavar="SHARE", help="Of all chunks: to be recognised by two workers."
)
@click.option("--log_format", type=click.Choice(("console", "json")), help="How log lines look. [default: console]")
@truth("--worker", help="Let this machine work for the farm, too.")
@click.option("--engine", type=engine_name, metavar="NAME", help=f"Of that worker. [default: {DEFAULT_ENGINE}]")
def serve(worker: bool, engine: str | None, verify: float | None, **flags: Any) -> None:
    """Run a farm's server: it takes recordings in, hands chunks to workers, puts transcripts together.

    Prints its address, where the admin's token is (made at the first start), and how to start a worker elsewhere.
    """
    from whisper_farm.settings import Policy

    if engine and not worker:
        raise click.UsageError("--engine is that of a worker on this machine: give --worker, too.")
    flags["pools_dry_run"] = flags["pools_dry_run"] or None
    settings = server_settings(**flags)
    if settings.tls_cert and not settings.public_url and (worker or settings.pools):
        raise click.UsageError("The worker must know the name in the certificate: give --public_url https://NAME:PORT.")
    policy = {} if verify is None else {"verify": verify}
    run(settings, settled(Policy, **policy), (engine or DEFAULT_ENGINE) if worker else None)


def server_settings(**given: Any) -> ServerSettings:
    """Settings of a server: what was given, else the environment, else the defaults."""
    from whisper_farm.settings import ServerSettings

    return settled(ServerSettings, **{name: value for name, value in given.items() if value is not None})


def settings_of_farm(**given: Any) -> ServerSettings:
    """The same for a farm that is there already; raises `StorageError` where none is, instead of making one."""
    from whisper_farm.errors import StorageError

    settings = server_settings(**given)
    if not settings.database and not (settings.data / "farm.db").exists():
        raise StorageError(f"There is no farm in {settings.data}. Give its server's folder with --data.")
    return settings


def run(settings: ServerSettings, policy: Policy, engine: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM; `engine` is that of a worker in this process, None for no worker."""
    from whisper_farm.coordinator.server import open_stores, worker_token
    from whisper_farm.farm import FarmThread
    from whisper_farm.log import logger, set_up_logging
    from whisper_farm.store.accounts import first_link
    from whisper_farm.worker.local import LocalWorker

    os.umask(0o077)  # whatever is written is this user's alone
    set_up_logging(settings.log_format)
    log = logger()

    def note(notice: Notice) -> None:
        if notice.kind not in UNSAID:
            log.info(notice.message, action=f"worker_{notice.kind}")

    with stop_signals() as told, open_stores(settings) as (database, blobs):
        token = worker_token(database, settings.data)
        with FarmThread(settings, policy, database, blobs) as farm:
            greet(settings, farm.address, token, database.write(first_link))
            if engine:
                farm.employ(LocalWorker(farm.loop, worker_settings(engines=(engine,)), note), token)
            while not told.wait(LOOK_SECONDS):
                farm.check()
                if farm.worker is not None and (line := last_words(farm.worker)):
                    log.warning(line, action="worker_ended")
                    farm.worker = None


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_words(worker: LocalWorker) -> str | None:
    """What to say of the worker beside the server if it has ended."""
    from whisper_farm.errors import FarmError

    try:
        return "The worker of this server has left: it was sent away. The server goes on." if worker.ending() else None
    except FarmError as error:
        return f"The worker of this server has ended: {error.message} The server goes on."


def greet(settings: ServerSettings, address: str, token: str, link: str | None = None) -> None:
    """Say where the server is and how others come to it. The token itself is shown to a person only, not to a log."""
    from whisper_farm.coordinator.web_app import FOLDER, PAGE

    to_person = sys.stdout.isatty()
    elsewhere = f"whisper-farm worker --server {outside(settings, address)}"
    print(f"Whisper Farm {__version__} is at {address}")
    print(f"  admin token          {settings.data / ADMIN_TOKEN_FILE}")
    print(f"  a worker here        whisper-farm worker{flags_here(settings, address)}")
    print(f"  a worker elsewhere   WHISPER_FARM_WORKER_TOKEN={token if to_person else 'TOKEN'} {elsewhere}")
    if not to_person:
        print(f"                       TOKEN is in {settings.data / WORKER_TOKEN_FILE}")
    if settings.host in LOOPBACK and settings.public_url is None:
        print("  Only this machine reaches it as it is: `--host 0.0.0.0` lets others in.")
    behind_tls = settings.tls_cert or (settings.public_url or "").startswith("https://") or settings.proxy_user_header
    if settings.host not in LOOPBACK and not behind_tls:
        print("  Warning: tokens, passwords and recordings cross the network in clear text. Give a certificate")
        print("  (`--tls_cert`), or put a proxy with TLS before it and say its address: `--public_url https://…`.")
    if not (FOLDER / PAGE).is_file():
        print("  The web app is not built here. In a checkout `./run web` builds it; all else works without it.")
    if link is not None:
        file = settings.data / SIGN_IN_FILE
        write_secret(file, sign_in_address(address, link))
        print(f"  sign in (once, within 15 minutes): {sign_in_address(address, link) if to_person else f'see {file}'}")
    sys.stdout.flush()


def flags_here(settings: ServerSettings, address: str) -> str:
    """The flags of a worker on this machine: those without which it would look for another server or token."""
    from whisper_farm.settings import data_folder

    server = "" if address == DEFAULT_SERVER else f" --server {quote(address)}"
    if on_this_machine(address) and settings.data == data_folder() and "WHISPER_FARM_DATA" not in os.environ:
        return server
    return f"{server} --token_file {quote(str(settings.data.absolute() / WORKER_TOKEN_FILE))}"


def outside(settings: ServerSettings, address: str) -> str:
    """The server's address as another machine should know it."""
    if settings.public_url:
        return settings.public_url
    parts = urlsplit(address)
    host = own_address() if parts.hostname in LOOPBACK else str(parts.hostname)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port}"


def own_address() -> str:
    """This machine's address in its network, or its name. Nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def sign_in_address(address: str, link: str) -> str:
    """The link as a browser takes it. What is behind the # is not sent, so the secret is in no log of a server."""
    return f"{address.rstrip('/')}/#/sign-in/{link}"
