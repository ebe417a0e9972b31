"""The event log for everybody in this coordinator who follows it: one reader, any number of listeners.

After every commit that emitted events the reader fetches what is new, once, and hands it to all. Order is commit
order, nothing is left out and nothing comes twice. A listener that does not keep up is dropped rather than
buffered without bound: its client comes back with the last id it saw and reads the rest from the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import StorageError
from whisper_farm.log import logger
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import Event, events_after, missed, newest_event

PAGE = 500
LISTENER_EVENTS = 2000
"""Events a listener may lag behind before it is dropped."""
GATHER_SECONDS = 0.02
"""How long after a wake-up the log is read: what many commits emit in a moment is read once, and the read does not
compete with the claims that the same commit woke."""
LOOK_SECONDS = 5.0
"""How often the log is looked at without having been woken, should a wake-up ever be lost."""
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a listener wants. None means all."""

    owner: str | None = None
    transcription_id: str | None = None

    def wants(self, event: Event) -> bool:
        return (self.owner is None or event.owner == self.owner) and (
            self.transcription_id is None or event.transcription_id == self.transcription_id
        )


@dataclass(frozen=True, slots=True)
class Reset:
    """Instead of events: those after the id asked for are gone. The listener reads the state anew and goes on here."""

    id: int
    at: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing came for a while; everything wanted up to this id has been given."""

    id: int


Followed = Event | Reset | Idle


class Listener:
    """One follower's share of the log, from the moment it was made."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._events: deque[Event] = deque()
        self._ready = asyncio.Event()
        self.over = False
        """Dropped for being slow, or the log is followed no more."""

    def give(self, event: Event) -> None:
        """Take an event, or be dropped."""
        if self.over or not self._wanted.wants(event):
            return
        if len(self._events) >= LISTENER_EVENTS:
            self.end()
            return
        self._events.append(event)
        self._ready.set()

    def end(self) -> None:
        """Give nothing more."""
        self.over = True
        self._events.clear()
        self._ready.set()

    async def take(self, seconds: float) -> list[Event]:
        """What has come; waits up to `seconds` for the first."""
        if not self._events and not self.over:
            self._ready.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ready.wait()
        taken = list(self._events)
        self._events.clear()
        return taken


class EventLog:
    """The one reader of the event log."""

    def __init__(self, store: StoreThreads, heed: Callable[[Event], None] = lambda _: None) -> None:
        """`heed` is called on the event loop for every event from the start on. It must be quick and not raise."""
        self._store, self._heed = store, heed
        self._listeners: set[Listener] = set()
        self._woken = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._closed = False
        self._log = logger()
        self.position = 0
        """Id of the last event handed out."""

    async def start(self) -> None:
        """Begin at the newest event. `run` must follow."""
        loop = asyncio.get_running_loop()
        self._unsubscribe = await self._store.run(lambda: self._store.database.listen(lambda: _wake(loop, self._woken)))
        self.position = await self._store.read(newest_event)

    async def run(self) -> None:
        """Read and hand out until closed."""
        while not self._closed:
            await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
                    await asyncio.sleep(GATHER_SECONDS)
        self._unsubscribe()

    def close(self) -> None:
        """End every listener's stream, and `run`, now."""
        self._closed = True
        self._woken.set()
        for listener in self._listeners:
            listener.end()

    async def follow(
        self, after: int, wanted: Filter, once: bool, idle_seconds: float
    ) -> AsyncGenerator[Followed, None]:
        """Events after the id `after`, then new ones as they come; `Idle` when there were none for `idle_seconds`.

        `once` ends after what is there. A `Reset` comes where some were missed.
        """
        position = after
        listener = Listener(wanted)
        if not once:
            self._listeners.add(listener)
            if self._closed:
                listener.end()
        try:
            async for event_or_reset in self._past(position, wanted):
                position = event_or_reset.id
                yield event_or_reset
            while not once and not listener.over:
                events = await listener.take(idle_seconds)
                if not events and not listener.over:
                    position = max(position, self.position)
                    yield Idle(position)
                for event in events:
                    if event.id > position:
                        position = event.id
                        yield event
        finally:
            self._listeners.discard(listener)

    async def _past(self, position: int, wanted: Filter) -> AsyncIterator[Event | Reset]:
        page: Sequence[Event | Reset] = ()
        while not self._closed:
            page = await self._store.read(partial(_page, after=position, wanted=wanted))
            for one in page:
                yield one
            if len(page) < PAGE:
                return
            position = page[-1].id

    async def _look(self) -> None:
        self._woken.clear()
        try:
            while True:
                page = await self._store.read(lambda tx: _page(tx, self.position, Filter()))
                for one in page:
                    self._hand_out(one)
                if len(page) < PAGE:
                    return
        except StorageError as error:
            self._log.warning("the event log cannot be read", action="feed_read", error=error.message)
        except Exception:
            self._log.exception("the event log was not read", action="feed_read")
        await asyncio.sleep(RETRY_SECONDS)
        self._woken.set()

    def _hand_out(self, one: Event | Reset) -> None:
        self.position = one.id
        if isinstance(one, Reset):  # who listens comes back with the last id it saw, and hears it then
            for listener in self._listeners:
                listener.end()
            return
        self._heed(one)
        for listener in list(self._listeners):
            listener.give(one)


def _page(tx: Transaction, after: int, wanted: Filter) -> Sequence[Event | Reset]:
    """The next events, or that some are gone: old ones may be retired while the past is being read."""
    if missed(tx, after):
        return [Reset(newest_event(tx), tx.now)]
    return events_after(tx, after, wanted.transcription_id, wanted.owner, PAGE)


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    """From any thread, also while the loop is being closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(woken.set)
