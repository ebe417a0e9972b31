"""A coordinator on a real socket, in a thread of the test, with clients of every scope."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from uvicorn.loops.auto import auto_loop_factory

from whisper_farm.coordinator import server as serve_module
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.server import open_stores, serve_stores
from whisper_farm.errors import every_error
from whisper_farm.protocol.wire import ErrorBody
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.statements import Change

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
LAPSED = Change("UPDATE attempts SET lease_until = 0 WHERE state = 'live'")


def files_in(folder: Path) -> list[Path]:
    """Every file below it. A folder of a farm that runs: what vanishes meanwhile is not there."""
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names]


def eventually(look: Callable[[], T], what: str = "it", seconds: float = PATIENCE_SECONDS) -> T:
    """Look until there is something to see."""
    deadline, pause = time.monotonic() + seconds, 0.005
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(pause)
        pause = min(pause * 1.1, 0.05)
    return found


def serve(settings: ServerSettings, policy: Policy, ready: Callable[[str], None], stop: threading.Event) -> None:
    """Serve in this thread until `stop` is set; `ready` hears the address."""
    with open_stores(settings) as stores, asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve_stores(settings, policy, stores, ready, stop))


class ServedFarm:
    """`serve` in a thread. `admin` is an HTTP client with the first admin token."""

    def __init__(self, data: Path, policy: Policy | None = None, **settings: Any) -> None:
        self.data = data
        self.policy = policy or Policy()
        self.settings = ServerSettings(port=0, data=data, **settings)
        self.coordinator: Coordinator
        self._stop = threading.Event()
        self._clients: list[httpx.Client] = []
        self._thread = threading.Thread(target=self._run, name="served-farm")
        self._ready: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._thread.start()
        told = self._ready.get(timeout=PATIENCE_SECONDS)
        if isinstance(told, BaseException):
            self._thread.join(PATIENCE_SECONDS)
            raise told
        self.url = told
        token_file = self.data / "admin-token"
        self.token = token_file.read_text().strip() if token_file.exists() else ""
        self.admin = self.client(self.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self.stop()

    def stop(self) -> float:
        """Stop it; returns how many seconds that took."""
        started = time.monotonic()
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return time.monotonic() - started

    def client(self, token: str) -> httpx.Client:
        """A client with that token, closed at the end."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, verify=False
        )
        self._clients.append(client)
        return client

    def token_for(self, scope: str, owner: str) -> str:
        """A new token, made over the API."""
        answer = self.admin.post("/api/tokens", json={"name": f"{owner}'s", "scope": scope, "owner": owner})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def user(self, owner: str) -> httpx.Client:
        """A client with a token of scope user."""
        return self.client(self.token_for("user", owner))

    def lapse(self) -> None:
        """Let every lease run out, as time does."""
        self.coordinator.database.write(lambda tx: tx.change(LAPSED))

    def on_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something on the coordinator's event loop (a background service, say)."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work(), self._loop)
        return future.result(PATIENCE_SECONDS)

    def _run(self) -> None:
        def ready(url: str) -> None:
            self._loop = asyncio.get_running_loop()
            self._ready.put(url)

        try:
            serve(self.settings, self.policy, ready, self._stop)
        except BaseException as error:
            self._ready.put(error)


def catch_coordinator(farm: ServedFarm) -> Callable[..., Any]:
    """A `create_app` that also keeps the coordinator for the test to look at."""
    real = serve_module.create_app

    def create_app(*arguments: Any) -> Any:
        app = real(*arguments)
        farm.coordinator = app.state.coordinator
        return app

    return create_app


StartFarm = Callable[..., ServedFarm]
"""What the fixture `start_farm` is."""


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error answer, whose shape must be the one."""
    error = ErrorBody.model_validate_json(answer.content).error
    assert error.code in every_error()
    assert error.message
    assert answer.headers["Content-Type"] == "application/json"
    assert not re.search(r"Traceback|sqlalchemy|SELECT|File \"", answer.text)
    return answer.status_code, error.code
