"""Runs a farm's server in the foreground, with a worker beside it if asked: says where it is, stops when told to."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from urllib.parse import urlsplit

from whisper_farm import __version__
from whisper_farm.cli.connection import DEFAULT_SERVER, on_this_machine
from whisper_farm.cli.given import settled
from whisper_farm.cli.machine_flags import worker_settings
from whisper_farm.coordinator.log import logger, set_up_logging
from whisper_farm.coordinator.server import ADMIN_TOKEN_FILE, open_stores, serve
from whisper_farm.farm import WORKER_TOKEN_FILE, Background, LocalWorker, worker_token
from whisper_farm.settings import Policy, ServerSettings, data_folder
from whisper_farm.worker.notices import Notice

UNSAID = frozenset({"chunks_appended", "job_finished"})
"""Notices of a worker's daily work: too many to be read."""
LOOK_SECONDS = 0.2
STOP_SECONDS = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(settings: ServerSettings, engine: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM; `engine` is that of a worker in this process, None for no worker."""
    policy = settled(Policy)
    set_up_logging(settings.log_format)
    with open_stores(settings) as (database, _):
        token = worker_token(database, settings.data)
    stop, told = threading.Event(), threading.Event()
    addresses: list[str] = []

    def ready(address: str) -> None:
        addresses.append(address)
        greet(settings, address, token)

    with signals_to(told):
        server = Background("server", lambda: serve(settings, policy, ready, stop))
        worker: LocalWorker | None = None
        while not told.is_set() and not server.ended.wait(LOOK_SECONDS):
            if engine and addresses and worker is None:
                worker = LocalWorker(worker_settings(server=addresses[0], token=token, engines=(engine,)), note)
            if worker is not None:
                worker.check()
        if worker is not None:
            worker.stop()
        stop.set()
        server.join(STOP_SECONDS)
        server.check()


def note(notice: Notice) -> None:
    """A line of the log for what the worker beside the server has to say."""
    if notice.kind not in UNSAID:
        logger().info(notice.message, action=f"worker_{notice.kind}")


def greet(settings: ServerSettings, address: str, token: str) -> None:
    """Say where the server is and how others come to it. The token itself is shown to a person only, not to a log."""
    to_person = sys.stdout.isatty()
    elsewhere = f"--server {outside(settings, address)} --token {token if to_person else 'TOKEN'}"
    print(f"Whisper Farm {__version__} is at {address}")
    print(f"  admin token          {settings.data / ADMIN_TOKEN_FILE}")
    print(f"  a worker here        whisper-farm worker{flags_here(settings, address)}")
    print(f"  a worker elsewhere   whisper-farm worker {elsewhere}")
    if not to_person:
        print(f"                       TOKEN is in {settings.data / WORKER_TOKEN_FILE}")
    if settings.host in LOOPBACK and settings.public_url is None:
        print("  Only this machine reaches it as it is: `--host 0.0.0.0` lets others in.")
    sys.stdout.flush()


def flags_here(settings: ServerSettings, address: str) -> str:
    """The flags of a worker on this machine: those without which it would look for another server or token."""
    server = "" if address == DEFAULT_SERVER else f" --server {quote(address)}"
    if on_this_machine(address) and settings.data == data_folder() and "WHISPER_FARM_DATA" not in os.environ:
        return server
    return f'{server} --token "$(cat {quote(str(settings.data.absolute() / WORKER_TOKEN_FILE))})"'


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


@contextmanager
def signals_to(told: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set an event."""
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
