"""The event log as Server-Sent Events: what happens, as it happens, with resume by the last id seen."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import Header, Query, Request
from starlette.responses import StreamingResponse

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.files import HeldStream
from whisper_farm.coordinator.answers.openapi import ID, MAX_EVENT_ID
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.event_log import Filter, Followed, Idle, Reset
from whisper_farm.coordinator.layers.auth import AnyCaller, ended, own
from whisper_farm.errors import NotFound
from whisper_farm.protocol.client import EventView
from whisper_farm.store.events import newest_event

KEEP_ALIVE_SECONDS = 15.0
"""A sign of life on a quiet stream: proxies and clients give up on silence."""
RETRY_MILLISECONDS = 1000
"""How soon a browser comes back after a lost connection."""
MEDIA_TYPE = "text/event-stream"

router = routes_for("events", "/events")
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "A stream of events.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


@router.get("", response_class=StreamingResponse, responses={**documented(NotFound), **_STREAM})
async def follow_events(
    request: Request,
    caller: AnyCaller,
    farm: Farm,
    after: Annotated[int | None, Query(ge=0, le=MAX_EVENT_ID, description="Begin after this event.")] = None,
    transcription: Annotated[str | None, Query(pattern=ID, description="Only events of this one.")] = None,
    once: Annotated[bool, Query(description="End after what is there, instead of waiting for more.")] = False,
    limit: Annotated[int | None, Query(ge=1, le=100_000, description="End after so many events.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=32, description="As `after`; browsers send it.")] = None,
) -> StreamingResponse:
    """Follow what happens: `id`, `event` (its kind) and `data` (an `EventView`) of each.

    Without `after` and `Last-Event-ID` it begins now. A `reset` event says that events were missed for good: look at
    everything again. Users see the events of their own transcriptions only. A stream ends when its token is revoked.
    """
    if transcription is not None:
        wanted_id = transcription
        await farm.store.read(lambda tx: own(tx, caller, wanted_id))
    resumed = re.fullmatch(r"\d{1,16}", last_event_id or "")  # a browser sends back whatever it was given
    position = int(resumed[0]) if resumed else after
    if position is None:  # now, before the client hears that it is connected
        position = await farm.store.read(newest_event)
    wanted = Filter(caller.sees, transcription)
    followed = farm.event_log.follow(position, wanted, once, KEEP_ALIVE_SECONDS)
    revoked = partial(ended, farm.enter, request.scope)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    async with AsyncExitStack() as held:
        held.enter_context(farm.streams_at_once.one_more(caller.owner))
        frames = _frames(position, followed, limit, revoked)
        return HeldStream(held.pop_all(), frames, media_type=MEDIA_TYPE, headers=headers)


async def _frames(
    position: int, followed: AsyncIterator[Followed], limit: int | None, revoked: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\nid: {position}\n\n"  # who is cut off before the first event goes on here
    sent = 0
    async for one in followed:
        if await revoked():
            return
        yield _frame(one)
        sent += not isinstance(one, Idle)
        if limit is not None and sent >= limit:
            return


def _frame(one: Followed) -> str:
    if isinstance(one, Idle):  # an id without data moves the client's place on, and shows nothing
        return f": still here\nid: {one.id}\n\n"
    view = EventView.of(one, kind="reset") if isinstance(one, Reset) else EventView.of(one)
    data = json.dumps(view.model_dump(mode="json"))  # in ASCII: some clients break lines at more than line feeds
    return f"id: {view.id}\nevent: {view.kind}\ndata: {data}\n\n"
