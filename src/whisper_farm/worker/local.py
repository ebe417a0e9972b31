"""A worker beside a farm in one program: it runs in an event loop that the farm may use, too.

Promises: it looks around and loads its model at once, while the farm is still to be started. It works as soon as it is
told where that is. `close` ends it with everything it started.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, wait

from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.errors import ModelUnavailable
from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.agent import Agent, Ending
from whisper_farm.worker.notices import Notice, Tell, tell_nobody

STOP_SECONDS = 10.0


class LocalWorker:
    """A worker that waits for `work_for`."""

    def __init__(self, loop: LoopThread, settings: WorkerSettings, tell: Tell = tell_nobody) -> None:
        self.loop, self._tell = loop, tell
        self.unavailable: ModelUnavailable | None = None
        """Why it was without its model at some time."""
        self._agent = Agent(settings, self._heed, waits=True)
        self._running: Future[Ending] = loop.start(self._agent.run(asyncio.Event()))

    @property
    def worker_id(self) -> str:
        return self._agent.worker_id

    def work_for(self, server: str, token: str) -> None:
        """Work for the farm at this address."""
        self.loop.call(lambda: self._agent.work_for(server, token))

    def ending(self) -> Ending | None:
        """Why it has ended; None while it works. Raises what it died of."""
        return self._running.result() if self._running.done() else None

    def close(self) -> None:
        """Leave at once: children are ended, what was not finished is handed back."""
        self.loop.call(self._agent.leave_now)
        wait([self._running], STOP_SECONDS)

    def _heed(self, notice: Notice) -> None:
        if notice.kind == "model_unavailable":
            self.unavailable = ModelUnavailable(notice.message)
        self._tell(notice)
