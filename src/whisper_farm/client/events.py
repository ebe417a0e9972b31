"""The farm's events as a client sees them: one endless sequence over as many connections as it takes.

Promises: no event is left out and none comes twice, whatever becomes of a connection. A connection that says nothing
for too long counts as lost. An event of kind `reset` says that events were missed for good: look at everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from whisper_farm.client.transport import MAX_ERROR_BYTES, HttpRequest, NoAnswerError, Reply, Transport, understood
from whisper_farm.errors import ServerUnreachable
from whisper_farm.protocol.client import EventView

PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
"""How long a stream keeps trying to come back before it gives up."""
SILENCE_SECONDS = 45.0
"""A stream that says nothing for this long, not even that it is alive, is dead."""


class AsyncEventStream:
    """The events of a farm, one after another, for ever. It comes back by itself after a lost connection."""

    def __init__(self, transport: Transport, after: int | None = None, transcription: str | None = None) -> None:
        self.last_id, self._transport = after, transport
        self._filter: dict[str, str | int | float] = {} if transcription is None else {"transcription": transcription}

    async def __aiter__(self) -> AsyncGenerator[EventView, None]:
        loop = asyncio.get_running_loop()
        failing_since: float | None = None
        while True:
            try:
                async for event in self._connected():
                    failing_since = None
                    if event is not None:
                        yield event
            except (ServerUnreachable, NoAnswerError) as error:
                failing_since = failing_since or loop.time()
                if loop.time() - failing_since > PATIENCE_SECONDS:
                    reason = f"The farm at {self._transport.server} does not answer ({error})."
                    raise ServerUnreachable(reason) from error
            await asyncio.sleep(PAUSE_SECONDS)

    async def _connected(self) -> AsyncIterator[EventView | None]:
        """The events of one connection; None for a sign of life."""
        loop = asyncio.get_running_loop()
        query = self._filter if self.last_id is None else {**self._filter, "after": self.last_id}
        request = HttpRequest("GET", "/api/events", query)
        async with self._transport.stream(request, SILENCE_SECONDS) as (answer, deadline):
            if answer.is_error:
                content = b"".join([part async for part in answer.aiter_bytes(MAX_ERROR_BYTES)])
                raise self._transport.error_of(Reply(answer.status_code, answer.reason_phrase, content))
            yield None
            seen = self.last_id
            async for line in answer.aiter_lines():
                deadline.reschedule(loop.time() + SILENCE_SECONDS)
                if line.startswith("data:"):
                    yield understood(EventView, line.removeprefix("data:"))
                elif (number := line.removeprefix("id:").strip()) != line and number.isdecimal():
                    seen = int(number)
                elif not line:
                    self.last_id = seen
                    yield None
