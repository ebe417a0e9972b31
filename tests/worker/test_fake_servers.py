"""Servers of tests: what they leave behind would fail a test that comes long after."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
from support.bare_farm import FakeServer, serving
from support.fake_farm import FakeFarm
from support.fault_proxy import FaultProxy


@pytest.mark.parametrize("serve", [lambda: serving(FakeFarm()), lambda: FaultProxy(1)], ids=["farm", "proxy"])
def test_a_server_that_stops_as_others_call_leaves_no_connection_open(
    serve: Callable[[], AbstractContextManager[FakeServer | FaultProxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: left.append(told.exc_value))
    with ExitStack() as callers:
        for _ in range(5):
            go_on = threading.Event()
            with serve() as server:
                server._loop.call_soon_threadsafe(go_on.wait, 60)  # so that all comes at once: calls, and the end
                port = int(server.url.rpartition(":")[2])
                for _ in range(5):
                    callers.enter_context(socket.create_connection(("127.0.0.1", port)))
                threading.Timer(0.05, go_on.set).start()
    del server
    gc.collect()
    assert left == []
