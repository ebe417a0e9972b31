"""Serves connections on loopback, and leaves none open at its end, not even one that was accepted in that moment.

An open one is told of when garbage is collected: then a test fails that has nothing to do with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Connection(asyncio.StreamReaderProtocol):
    """One that is in `all_open` while it is."""

    def __init__(
        self,
        limit: int,
        begin: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None],
        all_open: set[asyncio.BaseTransport],
    ) -> None:
        super().__init__(asyncio.StreamReader(limit), begin)
        self._all_open = all_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own = transport
        self._all_open.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._all_open.discard(self._own)
        super().connection_lost(error)


@asynccontextmanager
async def connections(talk: Talk, limit: int) -> AsyncIterator[int]:
    """The port whose connections are talked to. At the end every task of this event loop is awaited, and talks end."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    talks: set[asyncio.Task[None]] = set()
    all_open: set[asyncio.BaseTransport] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking = loop.create_task(talk(reader, writer))
        talks.add(talking)  # the loop holds its tasks weakly
        talking.add_done_callback(talks.discard)

    server = await loop.create_server(lambda: Connection(limit, begin, all_open), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.remove_reader(server.sockets[0].fileno())  # one that is accepted as the server closes would stay open
        cancelled: set[asyncio.Task[None]] = set()
        while all_open or asyncio.all_tasks() - {me}:  # among these those of asyncio that accept
            for transport in all_open:
                transport.abort()  # type: ignore[attr-defined] # of a connection
            for talking in talks - cancelled:
                talking.cancel()
            cancelled |= talks
            await asyncio.sleep(0.001)
        server.close()
