"""Takes the recording out of a page of a video site, with yt-dlp where it is installed.

It runs as a bounded child. Its only way out is a proxy of ours on loopback, which leads where links may lead and
nowhere else: what a page names is checked as strictly as what a user names.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpcore

from whisper_farm.errors import FarmError, FetchFailed
from whisper_farm.ingest.addresses import host_of
from whisper_farm.ingest.links import GuardedNetwork, Network
from whisper_farm.ingest.program import run_program
from whisper_farm.settings import ServerSettings

HEAD_SECONDS = 20.0
CONNECT_SECONDS = 20.0
ACCEPT_SECONDS = 0.1
SILENT_SECONDS = 300.0
"""How long it may work without a byte of the recording: it reads pages and waits between them."""
PIECE_BYTES = 1 << 16
_ASKED = re.compile(rb"([A-Z]{1,10}) (\S{1,4000}) HTTP/1\.[01]\r\n")
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def site_pieces(program: str, url: str, settings: ServerSettings, page: FarmError) -> AsyncGenerator[bytes, None]:
    """The recording that a page is about; raises `page` where there is none, as it is known by then."""
    async with guarded_proxy(settings.private_networks) as proxy:
        command = [program, *_FLAGS, "--max-filesize", str(settings.max_upload_bytes), "--proxy", proxy, "--", url]
        names = ("http_proxy", "https_proxy", "all_proxy")
        async with run_program(command, dict.fromkeys((*names, *map(str.upper, names)), proxy)) as running:
            any_piece = False
            pieces = aiter(running.pieces())
            while piece := await _within(SILENT_SECONDS, pieces, url):
                any_piece = True
                yield piece
            status, said = await running.ended()
    if status != 0 and any_piece:
        raise FetchFailed(f"{host_of(url)}: yt-dlp broke off ({said[:300]}).", again=True)
    if not any_piece:
        raise type(page)(f"{page.message} yt-dlp found no recording in it ({said[:300]}).")


_FLAGS = (
    *("--ignore-config", "--no-playlist", "--no-cache-dir", "--no-part", "--no-progress", "--downloader", "native"),
    *("--format", "bestaudio/best", "--output", "-"),
)


async def _within(seconds: float, pieces: AsyncIterator[bytes], url: str) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await anext(pieces, b"")
    except TimeoutError:
        raise FetchFailed(f"{host_of(url)}: yt-dlp sent nothing for {seconds:g} s.", again=True) from None


@asynccontextmanager
async def guarded_proxy(private_networks: Sequence[Network]) -> AsyncIterator[str]:
    """The address of a proxy that leads where the guard allows, while the block runs."""
    ended = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as last:
        listener.setblocking(False)
        accepting = asyncio.ensure_future(_accept(listener, ended, GuardedNetwork(private_networks)))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            last.setblocking(False)
            last.connect_ex(listener.getsockname())  # wakes it: to cancel it might lose a connection just accepted
            await asyncio.wait({accepting}, timeout=CONNECT_SECONDS)
            accepting.cancel()


async def _accept(listener: socket.socket, ended: asyncio.Event, network: GuardedNetwork) -> None:
    """Serve whoever connects; once it has ended, the next connection is the last. None is left open."""
    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    while not ended.is_set():
        try:
            there, _ = await asyncio.get_running_loop().sock_accept(listener)
            reader, writer = await asyncio.open_connection(sock=there, limit=PIECE_BYTES)
        except OSError:  # it has gone again, or too many files are open
            await asyncio.sleep(ACCEPT_SECONDS)
            continue
        talk = asyncio.ensure_future(_serve(network, reader, writer))
        talks[talk] = writer
        talk.add_done_callback(talks.pop)
    for talk, writer in talks.items():
        writer.transport.abort()
        talk.cancel()
    await asyncio.gather(*talks, return_exceptions=True)


async def _serve(network: GuardedNetwork, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of a client: to another host by CONNECT, or one request by its full address."""
    try:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            await _lead(network, head, reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _lead(
    network: GuardedNetwork, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    asked = _ASKED.match(head)
    method, target = (asked[1], asked[2].decode("latin-1")) if asked else (b"", "")
    parts = urlsplit(f"//{target}" if method == b"CONNECT" else target)
    port = parts.port or 80
    try:
        if not parts.hostname or (method != b"CONNECT" and parts.scheme != "http"):
            raise ValueError(target)
        stream = await network.connect_tcp(parts.hostname, port, CONNECT_SECONDS)
    except (FarmError, httpcore.NetworkError, httpcore.TimeoutException, ValueError):
        writer.write(_REFUSED)
        await writer.drain()
        return
    try:
        if method == b"CONNECT":
            writer.write(_CONNECTED)
        else:  # one request a connection: the next one may be for another host
            rest = re.sub(rb"(?im)^(proxy-)?(connection|authorization):[^\n]*\n", b"", head.partition(b"\r\n")[2])
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            await stream.write(b"%s %s HTTP/1.1\r\nConnection: close\r\n%s" % (method, path.encode("latin-1"), rest))
        there, back = asyncio.ensure_future(_there(reader, stream)), asyncio.ensure_future(_back(stream, writer))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
    finally:
        await stream.aclose()


async def _there(reader: asyncio.StreamReader, stream: httpcore.AsyncNetworkStream) -> None:
    while piece := await reader.read(PIECE_BYTES):
        await stream.write(piece)
    await asyncio.Event().wait()  # it has asked all; the answer may still be coming


async def _back(stream: httpcore.AsyncNetworkStream, writer: asyncio.StreamWriter) -> None:
    while piece := await stream.read(PIECE_BYTES, SILENT_SECONDS):
        writer.write(piece)
        await writer.drain()
