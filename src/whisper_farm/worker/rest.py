"""A worker outside of its working hours: no agent and no child is there, the machine is free.

It offers nothing and only beats. So the farm sees that it rests, and can give it other hours.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from whisper_farm.errors import FarmError
from whisper_farm.protocol.worker import HeartbeatRequest, ReleaseRequest
from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.api import FATAL, WorkerApi
from whisper_farm.worker.machine import Hours, introduction
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.tasks import ended

LOOK_SECONDS = 1.0
"""How often a resting worker looks at the clock."""
LEAVE_SECONDS = 1.0


async def rest(settings: WorkerSettings, hours: Hours, worker_id: str, asked: asyncio.Event, say: Tell) -> bool:
    """Wait for the working hours to begin; False if the worker is asked to end before, by its owner or by the farm.

    Raises a `FarmError` if the farm refuses this worker.
    """
    if hours.go_on():
        return not asked.is_set()
    say(Notice("ending", f"This worker rests; it works from {hours.in_force}."))
    api = WorkerApi(settings.server, settings.token, settings.request_timeout_seconds, worker_id=worker_id)
    beating = asyncio.create_task(_beat(api, settings, hours))
    try:
        while not (hours.go_on() or asked.is_set() or beating.done()):
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), LOOK_SECONDS)
        if beating.done():
            await beating
        elif not asked.is_set():
            return True
        with suppress(FarmError):
            await api.release(ReleaseRequest(worker_id=worker_id, leaving=True), LEAVE_SECONDS)
        return False
    finally:
        await ended(beating)
        await api.close()


async def _beat(api: WorkerApi, settings: WorkerSettings, hours: Hours) -> None:
    """Be there until the farm wants this worker to go."""
    pause = 1.0

    async def introduce() -> None:
        nonlocal pause
        answer = await api.register(introduction(settings, api.worker_id, engines=()))
        pause = answer.heartbeat_seconds
        hours.heed(answer.hours)

    api.on_unknown = introduce
    await introduce()
    while True:
        await asyncio.sleep(pause)
        try:
            answer = await api.heartbeat(HeartbeatRequest(worker_id=api.worker_id, tokens=()), api.timeout_seconds)
        except FATAL:
            raise
        except FarmError:  # it is asked again with the next beat
            continue
        pause = answer.heartbeat_seconds
        hours.heed(answer.hours)
        if answer.drain or answer.dismissed:
            return
