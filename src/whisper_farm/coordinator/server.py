"""Runs a coordinator: opens its database and blob store, listens, and stops within two seconds when told to.

Works in any thread; signals are left to whoever starts it. What goes wrong at start is raised as a `FarmError`
that says what to do: a port that is taken, an old schema, a folder that cannot be written.

What a peer may cost before anybody knows who it is, is bounded in `connection.py`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from whisper_farm.coordinator.app import Dialects, create_app
from whisper_farm.coordinator.connection import HttpConnection
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.tls import accept_encrypted, tls_context
from whisper_farm.errors import FarmError
from whisper_farm.log import logger
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.schema import check, upgrade
from whisper_farm.store.tokens import find_token, has_admin, mint_token
from whisper_farm.whole_files import (
    ADDRESS_FILE,
    ADMIN_TOKEN_FILE,
    WORKER_TOKEN_FILE,
    make_data_folder,
    write_secret,
)

ADMIN_OWNER = "admin"
GRACE_SECONDS = 1
"""How long a request under way may still take when the server stops; waits and streams end at once."""
LOOK_SECONDS = 0.01
"""How often to look, in that time, whether all are gone."""
KEEP_ALIVE_SECONDS = 75
"""An idle connection stays open for this long: workers and browsers come back to it."""
BACKLOG = 2048
Stores = tuple[Database, Blobs]
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


async def serve_stores(
    settings: ServerSettings,
    policy: Policy,
    stores: Stores,
    ready: Callable[[str], None],
    stop: threading.Event,
    dialects: Dialects | None = None,
) -> None:
    """Serve until `stop` is set, in an event loop that others may use, too, and on stores that are open.

    `ready` is called with the address once requests are answered. A farm's first start writes the first admin token to
    `admin-token` in the data folder. Without `dialects` it speaks all of them, which take a while to be loaded.
    """
    if dialects is None:
        from whisper_farm.coordinator.dialects import dialects as every_dialect

        dialects = every_dialect
    database, _ = stores
    first_admin_token(database, settings.data)
    tls = tls_context(settings.tls_cert, settings.tls_key)
    listener = listening_socket(settings.host, settings.port)
    try:
        app = create_app(settings, policy, *stores, dialects)
        own_address = _address(settings.host, listener, "http" if tls is None else "https")
        write_secret(settings.data / ADDRESS_FILE, own_address)  # the tokens beside it are for no other
        address = settings.public_url or own_address
        if app.state.coordinator.machines is not None:
            app.state.coordinator.machines.place(address, worker_token(database, settings.data))
        await _Server(app, stop, lambda: ready(address), tls).serve(sockets=[listener])
    finally:
        listener.close()


@contextmanager
def open_stores(settings: ServerSettings) -> Iterator[Stores]:
    """The database, with its tables up to date, and the blob store. SQLite is upgraded, PostgreSQL only checked."""
    make_data_folder(settings.data)
    if os.name == "posix" and settings.data.stat().st_mode & 0o077:
        remedy = f"chmod 700 {settings.data}"
        logger().warning("other users of this machine can look into the data folder", action="open_folder", do=remedy)
    database = Database.open(settings.database or settings.data / "farm.db")
    try:
        if database.dialect == "sqlite":
            upgrade(database)
        if check(database) == "newer":
            logger().warning("the database is of a newer release; this one may use it", database=database.place)
        yield database, Blobs.open(settings.blobs or settings.data / "blobs", settings.blobs_public_endpoint)
    finally:
        database.close()


def first_admin_token(database: Database, data: Path) -> None:
    """Make the first admin token and write it to the data folder, unless the farm has an admin already."""

    def mint(tx: Transaction) -> None:
        if not has_admin(tx):
            secret = mint_token(tx, "first admin", ADMIN_OWNER, "admin")[1]
            write_secret(data / ADMIN_TOKEN_FILE, secret)  # before the commit: a token nobody knows would lock us out

    database.write(mint)


def worker_token(database: Database, data: Path) -> str:
    """A token for workers of this farm, kept in the data folder so that it stays the same."""
    file = data / WORKER_TOKEN_FILE
    if secret := known_token(database, file):
        return secret
    secret = database.write(lambda tx: mint_token(tx, "workers", ADMIN_OWNER, "worker")[1])
    write_secret(file, secret)
    return secret


def known_token(database: Database, file: Path) -> str | None:
    """The token in a file, if the farm knows it."""
    with suppress(OSError):
        secret = file.read_text(encoding="utf-8").strip()
        if database.read(lambda tx: find_token(tx, secret)):
            return secret
    return None


class _Server(uvicorn.Server):
    """uvicorn, stopped by an event, quick to stop, and without signal handling of its own."""

    def __init__(
        self, app: Starlette, stop: threading.Event, ready: Callable[[], None], tls: ssl.SSLContext | None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=HttpConnection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self._coordinator: Coordinator = app.state.coordinator
        self._stop, self._ready, self._tls = stop, ready, tls
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets if self._tls is None else [])
        except SystemExit as error:
            raise self._coordinator.start_error or FarmError("The server did not start; its log says why.") from error
        if self._tls is not None:
            encrypted = (accept_encrypted(listener, self._tls, self._connection) for listener in sockets or ())
            self._accepting = [asyncio.create_task(each) for each in encrypted]
        self._ready()

    def _connection(self) -> HttpConnection:
        return HttpConnection(self.config, self.server_state, self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        return self._stop.is_set() or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but waits no longer than somebody is there: every `transcribe` ends with this."""
        for accepting in self._accepting:
            accepting.cancel()
        for each in (*self.servers, *(sockets or ())):
            each.close()
        await self._coordinator.end_waits()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn's sets
                    await asyncio.sleep(LOOK_SECONDS)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket bound to that address, or an error that says why not. Port 0 takes any free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # asyncio switches Nagle's delay off only if it is told TCP
    except OSError as error:
        raise FarmError(f"{host} is no address to listen on: {error.strerror or error}.") from error
    try:
        if os.name == "posix":  # elsewhere it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason, other = error.strerror or error, "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise FarmError(f"Cannot listen on {host}, port {port}: {reason}. Choose another with {other}.") from error
    return listener


def _address(host: str, listener: socket.socket, scheme: str) -> str:
    host = WILDCARDS.get(host, host)
    port = listener.getsockname()[1]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
