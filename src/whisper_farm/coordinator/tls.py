"""A server that speaks HTTPS itself, without a proxy before it: its certificate, and the handshakes.

The web server would know of a connection only when its handshake is done. So handshakes are bounded here, in time and
in number.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from whisper_farm.coordinator.connection import HEAD_SECONDS, MOST_CONNECTIONS
from whisper_farm.errors import FarmError

MOST_HANDSHAKES = MOST_CONNECTIONS // 8
"""With more of them unfinished the oldest ends."""
NO_ROOM_SECONDS = 0.1
"""A pause when the system has no room for another connection."""


async def accept_encrypted(
    listener: socket.socket, tls: ssl.SSLContext, connection: Callable[[], asyncio.Protocol]
) -> None:
    """Take connections and encrypt them, until cancelled."""
    loop, unfinished = asyncio.get_running_loop(), dict[asyncio.Task[None], None]()
    try:
        while True:
            try:
                peer, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(NO_ROOM_SECONDS)
                continue
            handshake = loop.create_task(_encrypt(peer, tls, connection))
            unfinished[handshake] = None
            handshake.add_done_callback(lambda done: unfinished.pop(done, None))
            await asyncio.sleep(0)  # whoever connects again and again holds up nobody
            if len(unfinished) > MOST_HANDSHAKES:
                next(iter(unfinished)).cancel()
    finally:
        for handshake in unfinished:
            handshake.cancel()


async def _encrypt(peer: socket.socket, tls: ssl.SSLContext, connection: Callable[[], asyncio.Protocol]) -> None:
    peer.setblocking(False)
    with suppress(OSError):  # no handshake came of it
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                connection, peer, ssl=tls, ssl_handshake_timeout=HEAD_SECONDS
            )
        except BaseException:
            peer.close()
            raise


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What the server shows and signs with; None for plain HTTP. Says which file is wrong, and how.

    Without a file of its own the key stands in that of the certificate.
    """
    if certificate is None:
        if key is not None:
            raise FarmError("A key needs its certificate: give --tls_cert, too.")
        return None
    for file in (certificate, key or certificate):
        try:
            file.open("rb").close()
        except OSError as error:
            raise FarmError(f"{file} cannot be read: {error.strerror}. Give files in PEM form.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_locked)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise FarmError(f"The key in {key or certificate} does not belong to the certificate.") from error
        raise FarmError(f"{certificate} and {key or certificate} hold no certificate and key in PEM form.") from error
    return context


def _locked() -> str:
    raise FarmError("The key is locked with a password, which nobody can type here: give one without.")
