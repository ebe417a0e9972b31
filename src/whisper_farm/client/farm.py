"""The Python client of a farm: submit recordings, watch them, take the transcripts.

::

    with FarmClient("http://farm.example:8765", token) as farm:
        view = farm.submit_file(Path("talk.mp3"), options=RecognitionOptions(model="turbo"))
        for event in farm.events(transcription=view.id):
            ...
        print(farm.transcript(view.id).text)

It is a thin front of `AsyncFarmClient`, which says what each call takes and promises. It runs that in a thread with an
event loop. Safe to use from several threads; what a call tells of its progress is told in another thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from whisper_farm.client.async_farm import AsyncFarmClient
from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.protocol.client import EventView

P = ParamSpec("P")
T = TypeVar("T")


def _waits(
    call: Callable[Concatenate[AsyncFarmClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[FarmClient, P], T]:
    """The same call for who has no event loop: it waits for the answer."""

    @wraps(call)
    def waiting(self: FarmClient, /, *given: P.args, **named: P.kwargs) -> T:
        return self._loop.run(call(self._farm, *given, **named))

    return waiting


def _goes_through(
    call: Callable[Concatenate[AsyncFarmClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[FarmClient, P], Generator[T, None, None]]:
    """The same call for who has no event loop: its answers come one after another, as they are asked for."""

    @wraps(call)
    def going(self: FarmClient, /, *given: P.args, **named: P.kwargs) -> Generator[T, None, None]:
        return self._loop.iterate(call(self._farm, *given, **named))

    return going


class FarmClient:
    """One farm, seen through one access token."""

    def __init__(self, server: str, token: str, timeout: float = 30.0, loop: LoopThread | None = None) -> None:
        """`loop` is one that others use, too; without it the client has its own."""
        self._farm = AsyncFarmClient(server, token, timeout)
        self._has_own_loop = loop is None
        self._loop = loop or LoopThread("farm client")
        self.address = self._farm.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._loop.run(self._farm.close())
        if self._has_own_loop:
            self._loop.close()

    server = _waits(AsyncFarmClient.server)
    limits = _waits(AsyncFarmClient.limits)
    change_limits = _waits(AsyncFarmClient.change_limits)
    submit = _waits(AsyncFarmClient.submit)
    submit_batch = _waits(AsyncFarmClient.submit_batch)
    submit_file = _waits(AsyncFarmClient.submit_file)
    upload = _waits(AsyncFarmClient.upload)
    get = _waits(AsyncFarmClient.get)
    list = _goes_through(AsyncFarmClient.list)
    search = _waits(AsyncFarmClient.search)
    jobs = _goes_through(AsyncFarmClient.jobs)
    cancel = _waits(AsyncFarmClient.cancel)
    retry = _waits(AsyncFarmClient.retry)
    delete = _waits(AsyncFarmClient.delete)
    transcript = _waits(AsyncFarmClient.transcript)
    rendered = _waits(AsyncFarmClient.rendered)
    segments = _waits(AsyncFarmClient.segments)
    events = _goes_through(AsyncFarmClient.events)
    workers = _waits(AsyncFarmClient.workers)
    add_feed = _waits(AsyncFarmClient.add_feed)
    feeds = _waits(AsyncFarmClient.feeds)
    remove_feed = _waits(AsyncFarmClient.remove_feed)
    add_webhook = _waits(AsyncFarmClient.add_webhook)
    webhooks = _waits(AsyncFarmClient.webhooks)
    remove_webhook = _waits(AsyncFarmClient.remove_webhook)
    test_webhook = _waits(AsyncFarmClient.test_webhook)
    deliveries = _waits(AsyncFarmClient.deliveries)
    redeliver = _waits(AsyncFarmClient.redeliver)
    drain = _waits(AsyncFarmClient.drain)
    change_hours = _waits(AsyncFarmClient.change_hours)
    machines = _waits(AsyncFarmClient.machines)
    sync_machines = _waits(AsyncFarmClient.sync_machines)
    machine_log = _waits(AsyncFarmClient.machine_log)
    change_pool = _waits(AsyncFarmClient.change_pool)
    change_machine = _waits(AsyncFarmClient.change_machine)
    create_token = _waits(AsyncFarmClient.create_token)
    tokens = _waits(AsyncFarmClient.tokens)
    revoke_token = _waits(AsyncFarmClient.revoke_token)

    def on_event(self, told: Callable[[EventView], None]) -> Future[None]:
        """Call this, in another thread, with all that happens from now on, until the future is cancelled."""

        async def following() -> None:
            async for event in self._farm.events():
                told(event)

        return self._loop.start(following())
