"""Requests to addresses that users have given: never to this machine, its network, or the cloud's own addresses.

A name is resolved here, every address that it has is looked at, and the connection goes to an address that was looked
at: a name that changes its address meanwhile leads nowhere else. Redirects are not followed. No proxy is used. Networks
in the setting `private_networks` are allowed. Times and sizes are bounded by who asks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpcore

from whisper_farm.errors import AddressRefused
from whisper_farm.ingest.addresses import host_of

Network = IPv4Network | IPv6Network
RESOLVE_SECONDS = 10.0
CONNECTIONS = 16
HIDING: tuple[Network, ...] = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 networks whose addresses stand for one of IPv4, which may be any."""


def guarded_pool(private_networks: Sequence[Network]) -> httpcore.AsyncConnectionPool:
    """Connections that lead outside only. Close it."""
    return httpcore.AsyncConnectionPool(
        ssl_context=_trusted(),
        max_connections=CONNECTIONS,
        max_keepalive_connections=0,
        network_backend=GuardedNetwork(private_networks),
    )


async def check_reach(url: str, private_networks: Sequence[Network]) -> None:
    """Raise `AddressRefused` if this leads where no request may go or nowhere, as far as can be known at the moment."""
    try:
        await GuardedNetwork(private_networks).looked_at(host_of(url), 443)
    except NoSuchHost as lost:
        raise AddressRefused(f"{lost}; check the address.") from lost
    except httpcore.ConnectError:  # a resolver that does not answer says nothing of the address
        return


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that this machine trusts. To read them takes the event loop some 30 ms, so they are kept."""
    return ssl.create_default_context()


class NoSuchHost(httpcore.ConnectError):
    """Nobody knows this name; a resolver that does not answer is another matter."""


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Makes the connections."""

    def __init__(self, private_networks: Sequence[Network]) -> None:
        self._private = private_networks
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to an address of this host that may be used; raises `AddressRefused` if it has one that may not."""
        address = await self.looked_at(host, port)
        return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)

    async def looked_at(self, host: str, port: int) -> str:
        """An address of this host; raises `AddressRefused` if it has one that may not be used."""
        addresses = await _resolved(host, port)
        for address in addresses:
            if not self._allowed(address):
                what = f"{host} is" if host == str(address) else f"{host} leads to {address}, which is"
                raise AddressRefused(f"{what} no public address; WHISPER_FARM_PRIVATE_NETWORKS may allow it.")
        return str(addresses[0])

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    def _allowed(self, address: IPv4Address | IPv6Address) -> bool:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._private):
            return True
        is_public = address.is_global and not address.is_multicast
        return is_public and not any(address in network for network in HIDING)


async def _resolved(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        if isinstance(error, UnicodeError) or error.errno == socket.EAI_NONAME:
            raise NoSuchHost(f"There is no host {host}") from error
        raise httpcore.ConnectError(f"the address of {host} could not be looked up") from error
    return [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
