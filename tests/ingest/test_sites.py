"""Pages of video sites are left to yt-dlp, which reaches nothing that a link could not reach. A stand-in plays it."""

from __future__ import annotations

import asyncio
import gc
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import pytest
from support.processes import all_end
from support.web_server import Canary, WebServer
from uvicorn.loops.auto import auto_loop_factory

from whisper_farm.errors import FetchFailed, LinkIsPage
from whisper_farm.ingest import sites
from whisper_farm.settings import ServerSettings

PAGE = LinkIsPage("example.org answers with a page.")
FETCH = """
import os, sys, urllib.request
proxy, url = sys.argv[sys.argv.index("--proxy") + 1], sys.argv[-1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
"""


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


def stand_in(folder: Path, script: str) -> str:
    """A program that is called as yt-dlp is."""
    path = folder / "stand-in"
    path.write_text(f"#!{sys.executable}\n{FETCH}{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def taken(program: str, url: str, *networks: str) -> bytes:
    settings = ServerSettings(private_networks=tuple(map(ip_network, networks)))

    async def go() -> bytes:
        return b"".join([piece async for piece in sites.site_pieces(program, url, settings, PAGE)])

    return asyncio.run(go())


def test_the_recording_of_a_page_comes_through_the_guarded_proxy(web: WebServer, tmp_path: Path) -> None:
    web.put("/video", b"<html>")
    web.put("/sound", b"sound" * 50_000)
    program = stand_in(tmp_path, 'sys.stdout.buffer.write(opener.open(url.replace("video", "sound")).read())')
    assert taken(program, f"{web.url}/video?x=1", "127.0.0.0/8") == b"sound" * 50_000
    assert web.paths == ["/sound?x=1"]
    assert web.asked[0].headers["connection"] == "close"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_a_page_names_is_checked_as_strictly_as_a_link(
    canary: Canary, tmp_path: Path, host: str, scheme: str
) -> None:
    program = stand_in(tmp_path, f'opener.open("{scheme}://{host}:{canary.port}/secret")')
    with pytest.raises(LinkIsPage, match="yt-dlp found no recording"):
        taken(program, "http://example.org/video")
    assert canary.visits == 0


def test_a_tunnel_leads_where_it_may(web: WebServer, tmp_path: Path) -> None:
    web.put("/sound", b"sound")
    script = """
import http.client
host, port = proxy.removeprefix("http://").split(":")
there = http.client.HTTPConnection(host, int(port))
host, port = url.removeprefix("http://").split("/")[0].split(":")
there.set_tunnel(host, int(port))
there.request("GET", "/sound")
sys.stdout.buffer.write(there.getresponse().read())
"""
    assert taken(stand_in(tmp_path, script), f"{web.url}/video", "127.0.0.0/8") == b"sound"


def test_nonsense_is_refused_by_the_proxy() -> None:
    lines = (b"GET / HTTP/1.1", b"", b"CONNECT  HTTP/1.1", b"GET file:///etc/passwd HTTP/1.1", b"CONNECT [::1 HTTP/1.1",
             b"GET http://a:99999/ HTTP/1.1", b"\xff\xfe\x00 x")  # fmt: skip

    async def go() -> list[bytes]:
        answers = []
        async with sites.guarded_proxy(()) as proxy:
            for line in lines:
                reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2]))
                writer.write(line + b"\r\n\r\n")
                answers.append(await asyncio.wait_for(reader.read(), 60))
                writer.close()
        return answers

    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 403") for answer in asyncio.run(go()))


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, auto_loop_factory()])
def test_a_proxy_that_ends_as_others_connect_leaves_no_connection_open(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment between a call and its answer; an open one would be told of when garbage is collected."""
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: left.append(told.exc_value))

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: left.append(told))
        for turns in range(8):
            with ExitStack() as callers:
                async with sites.guarded_proxy(()) as proxy:
                    for _ in range(3):
                        callers.enter_context(socket.create_connection(("127.0.0.1", int(proxy.rpartition(":")[2]))))
                    for _ in range(turns):
                        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(go())
    gc.collect()
    assert left == []


def test_it_is_told_no_secrets_and_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_FARM_TOKEN", "secret")
    program = stand_in(tmp_path, 'print(os.environ.get("WHISPER_FARM_TOKEN"), os.getcwd() == os.environ["HOME"])')
    assert taken(program, "http://example.org/video").split() == [b"None", b"True"]


def test_one_that_breaks_off_is_an_error_with_its_reason(tmp_path: Path) -> None:
    program = stand_in(tmp_path, 'print("sound", flush=True); sys.exit("ERROR: the site is tired")')
    with pytest.raises(FetchFailed, match="the site is tired"):
        taken(program, "http://example.org/video")


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import subprocess, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), other.pid, flush=True)
time.sleep(600)
"""

    async def go() -> bytes:
        program = stand_in(tmp_path, script)
        pieces = sites.site_pieces(program, "http://example.org/video", ServerSettings(), PAGE)
        pids = await anext(pieces)
        monkeypatch.setattr(sites, "SILENT_SECONDS", 0.1)
        with pytest.raises(FetchFailed, match="sent nothing"):
            await anext(pieces)
        return pids

    all_end(map(int, asyncio.run(go()).split()))
