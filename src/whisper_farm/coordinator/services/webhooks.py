"""Sends signed messages about transcriptions to the addresses that want them, and tries again for a day.

The form is that of Standard Webhooks: an id that stays the same, the time of the try, and a signature of both with the
body. A message may come twice, never less than once within the day. Messages about progress, and those that only try
an address, are sent once: what comes later says more. An address is tried as `links.py` allows; a
redirect is not followed and counts as a failure.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpcore
from standardwebhooks import Webhook

from whisper_farm import __version__
from whisper_farm.coordinator.services.service import Report, Service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import AddressRefused, NotFound
from whisper_farm.ingest.links import guarded_pool
from whisper_farm.protocol.client import FINISHED
from whisper_farm.protocol.events import EventKind, JobDone
from whisper_farm.protocol.subscriptions import DeliveryState
from whisper_farm.settings import ServerSettings
from whisper_farm.store import webhooks
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import Event, events_after
from whisper_farm.store.transcriptions import TranscriptionRow, find

TOLD: frozenset[EventKind] = frozenset({"transcription_done", "transcription_incomplete", "transcription_failed"})
WAIT_SECONDS = (5, 300, 1800, 7200, 18_000, 28_800, 28_800)
"""After each try in vain; they make a day together."""
TRY_SECONDS = 20.0
TRIES_AT_ONCE = 10
PAGE = 500
MOST_ERROR = 300
TENTHS = 10
"""Progress is told at each of them but the last: what ends is told by itself."""
LOST = (AddressRefused, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)
"""What may come of a try instead of an answer."""


class Webhooks(Service):
    name = "webhooks"
    woken_by = TOLD
    period_seconds = 2
    timeout_seconds = 60

    def __init__(self, store: StoreThreads, settings: ServerSettings) -> None:
        self._store = store
        self._networks = settings.private_networks

    async def run_once(self) -> Report:
        """Make messages of what happened, and send those whose time has come."""
        hooks = await self._store.read(webhooks.webhooks_of)
        if not hooks:
            return Report()
        looked = [await self._look(hook) for hook in hooks]
        made = sum(number for number, _ in looked)
        due = await self._store.write(lambda tx: webhooks.take_due(tx, TRIES_AT_ONCE))
        arrived = await self._send_all(due) if due else []
        forgotten = await self._store.write(webhooks.prune_deliveries) if made else 0
        delivered = sum(arrived)
        more = len(arrived) >= TRIES_AT_ONCE or any(behind for _, behind in looked)
        return Report(more, made=made, delivered=delivered, in_vain=len(arrived) - delivered, forgotten=forgotten)

    async def _look(self, hook: webhooks.WebhookRow) -> tuple[int, bool]:
        """Make messages of what happened since; how many, and whether there may be more."""
        events = await self._store.read(lambda tx: events_after(tx, hook.position, None, hook.owner, PAGE))
        made = await self._store.write(lambda tx: _make(tx, hook, events)) if events else 0
        return made, len(events) == PAGE

    async def _send_all(self, due: list[webhooks.DueDelivery]) -> list[bool]:
        async with guarded_pool(self._networks) as pool:
            return await asyncio.gather(*(self._send(pool, each) for each in due))

    async def _send(self, pool: httpcore.AsyncConnectionPool, due: webhooks.DueDelivery) -> bool:
        status, error = None, None
        try:
            async with asyncio.timeout(TRY_SECONDS):
                status = await _post(pool, due)
            if not 200 <= status < 300:
                error = f"answered with {status}"
        except TimeoutError:
            error = f"no answer within {TRY_SECONDS:g} seconds"
        except LOST as lost:
            error = (str(lost) or type(lost).__name__)[:MOST_ERROR]
        waits = () if due.kind in (webhooks.TEST, webhooks.PROGRESS) else WAIT_SECONDS
        wait = waits[due.tries] if due.tries < len(waits) else None
        state: DeliveryState = "delivered" if error is None else "failed" if wait is None else "pending"
        await self._store.write(lambda tx: webhooks.note_try(tx, due.id, state, status, error, wait or 0))
        return error is None


async def _post(pool: httpcore.AsyncConnectionPool, due: webhooks.DueDelivery) -> int:
    body, now = json.dumps(due.body), datetime.now(UTC)
    headers: dict[str | bytes, str | bytes] = {
        "content-type": "application/json",
        "user-agent": f"whisper-farm/{__version__}",
        "webhook-id": due.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(due.secret).sign(due.id, now, body),
    }
    async with pool.stream("POST", due.url, headers=headers, content=body.encode()) as answer:
        return int(answer.status)  # what it says beside that is not read


def _make(tx: Transaction, hook: webhooks.WebhookRow, events: list[Event]) -> int:
    if not webhooks.move_on(tx, hook.id, events[-1].id):
        return 0
    ends = [event for event in events if event.kind in TOLD and event.transcription_id is not None]
    for event in ends:
        row = _row(tx, event.transcription_id)
        about = {"id": event.transcription_id, "name": row and row.name}
        told = message(event.kind, event.at, about | event.data)
        webhooks.add_delivery(tx, hook.id, event.kind, event.transcription_id, told)
    newest = {event.transcription_id: event for event in events if event.kind == JobDone.kind} if hook.progress else {}
    ended = {event.transcription_id for event in ends}
    return len(ends) + sum(_tell_progress(tx, hook.id, event) for of, event in newest.items() if of not in ended)


def _tell_progress(tx: Transaction, hook_id: str, event: Event) -> bool:
    """A message about the tenths that are done, if it is known how long the recording is."""
    row = _row(tx, event.transcription_id)
    whole = row and (row.duration_seconds or row.declared_seconds)
    if row is None or not whole or row.state in FINISHED:
        return False
    done = min(max(float(event.data["done_seconds"]), 0), whole)
    tenth = min(int(done / whole * TENTHS), TENTHS - 1)
    if tenth == 0:
        return False
    progress = {"id": row.id, "name": row.name, "done_seconds": done, "duration_seconds": whole}
    told = message(webhooks.PROGRESS, event.at, progress)
    webhooks.add_delivery(tx, hook_id, webhooks.PROGRESS, row.id, told, once=f"{row.id}:{tenth}")
    return True


def _row(tx: Transaction, transcription_id: str | None) -> TranscriptionRow | None:
    with suppress(NotFound):  # deleted meanwhile
        return find(tx, transcription_id or "")
    return None


def message(kind: str, at: float, data: dict[str, Any]) -> dict[str, Any]:
    """What is sent: of which type, when that happened, and what."""
    return {
        "type": kind.replace("_", ".", 1),
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(),
        "data": data,
    }
