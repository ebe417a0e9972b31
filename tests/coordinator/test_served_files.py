"""A file of this machine that is served is closed, however the request ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from starlette.requests import Request

from whisper_farm.coordinator.answers.files import serve_file
from whisper_farm.coordinator.layers.auth import Caller
from whisper_farm.coordinator.layers.quotas import Turns


def test_a_file_is_closed_though_the_request_ends_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened = tmp_path / "talk.wav", list[IO[Any]]()
    began, go_on = threading.Event(), threading.Event()
    file.write_bytes(b"sound")
    open_at_once = Path.open

    def open_late(path: Path, mode: str) -> IO[Any]:
        began.set()
        go_on.wait(60)
        opened.append(open_at_once(path, mode))
        return opened[0]

    async def scene() -> None:
        app = SimpleNamespace(state=SimpleNamespace(coordinator=SimpleNamespace(downloads=Turns(2))))
        state = {"caller": Caller("token", "ann", "user")}
        request = Request({"type": "http", "method": "GET", "headers": [], "app": app, "state": state})
        asked = asyncio.create_task(serve_file(request, file, 5))
        await asyncio.to_thread(began.wait, 60)
        asked.cancel()
        await asyncio.wait([asked])
        go_on.set()

    monkeypatch.setattr(Path, "open", open_late)
    asyncio.run(scene())
    assert [one.closed for one in opened] == [True]
