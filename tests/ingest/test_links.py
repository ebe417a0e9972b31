"""Requests to addresses of users: they reach no network that is not public, whatever a name says it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from ipaddress import ip_network
from typing import Any

import httpcore
import pytest
from support.web_server import Canary

from whisper_farm.errors import AddressRefused
from whisper_farm.ingest.addresses import check_url
from whisper_farm.ingest.links import NoSuchHost, check_reach, guarded_pool

LOOPBACK = ip_network("127.0.0.0/8")


@pytest.fixture
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


def ask(url: str, *private: Any) -> int:
    """The status of an answer, through the guard."""

    async def go() -> int:
        async with guarded_pool(private) as pool:
            return (await pool.request("GET", check_url(url), extensions={"timeout": {"connect": 60}})).status

    return asyncio.run(go())


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "0.0.0.0", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001::1]"),
        *("169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "[ff02::1]"),
    ],
)
def test_no_request_leads_to_a_network_that_is_not_public(canary: Canary, host: str) -> None:
    with pytest.raises(AddressRefused):
        ask(f"http://{host}:{canary.port}/")
    assert canary.visits == 0


def test_a_name_with_one_address_that_is_not_public_is_refused(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, canary.port)) for ip in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(AddressRefused, match=r"innocent\.example leads to 127\.0\.0\.1"):
        ask(f"http://innocent.example:{canary.port}/")
    assert canary.visits == 0


def test_a_name_that_changes_its_address_is_connected_where_it_was_checked(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked once: the second answer would lead somewhere else."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *more: Any, **named: Any) -> Any:
        if host != "rebinding.example":
            return real(host, *more, **named)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, canary.port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert ask(f"http://rebinding.example:{canary.port}/", LOOPBACK) == 200
    assert (len(asked), canary.visits) == (1, 1)


@pytest.mark.parametrize(("number", "known"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_a_host_that_nobody_knows_is_told_from_a_resolver_that_is_away(
    monkeypatch: pytest.MonkeyPatch, number: int, known: bool
) -> None:
    def in_vain(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", in_vain)
    with pytest.raises(httpcore.ConnectError) as raised:
        ask("http://mistyped.example/")
    assert isinstance(raised.value, NoSuchHost) != known
    with nullcontext() if known else pytest.raises(AddressRefused, match="There is no host mistyped"):
        asyncio.run(check_reach("http://mistyped.example/", ()))


def test_a_name_that_cannot_be_one_is_no_host() -> None:
    with pytest.raises(NoSuchHost):
        ask(f"http://{'x' * 64}.example/")


def test_a_network_that_is_allowed_is_reached_and_no_other(canary: Canary) -> None:
    assert ask(f"http://127.0.0.1:{canary.port}/", LOOPBACK) == 200
    assert ask(f"http://[::ffff:127.0.0.1]:{canary.port}/", LOOPBACK) == 200
    with pytest.raises(AddressRefused):
        ask(f"http://10.0.0.1:{canary.port}/", LOOPBACK)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "farm",
            "ftp://example.org/",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "//example.org",
            "gopher://x",
        ),
        *("http://user@example.org/", "http://:secret@example.org/", "http://example.org:99999/", "http://a b/"),
        *("http://example.org/\r\nX: y", "http://[::1/", "javascript:alert(1)", "http://ex\u00e4mple.org/"),
        "http://example.org/" + "x" * 3000,
    ],
)
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(url)
