"""Webhooks: say where finished transcriptions are to be told, look what arrived, and stop it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import Field

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import ID, PageSize
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.errors import AddressRefused, NotFound, WrongState
from whisper_farm.ingest.addresses import MOST_URL, check_url
from whisper_farm.protocol.wire import Answer, Id, Name, Request
from whisper_farm.store import webhooks
from whisper_farm.store.events import newest_event

router = routes_for("webhooks", "/webhooks")
_ONE = documented(NotFound)
WebhookId = Annotated[str, Path(pattern=ID)]


class NewWebhook(Request):
    """Where the messages go."""

    url: Annotated[str, Field(min_length=1, max_length=MOST_URL)]


class WebhookView(Answer):
    """A webhook. `secret` verifies its messages: only in the answer that makes it."""

    id: Id
    owner: Name
    url: str
    created_at: float
    secret: str | None = None


class WebhookList(Answer):
    webhooks: tuple[WebhookView, ...]


class DeliveryView(Answer):
    """One message: `tries` so far, the answer's `status` and why the last one was in vain."""

    id: Id
    kind: str
    transcription_id: Id
    state: webhooks.DeliveryState
    tries: int
    next_at: float
    status: int | None = None
    error: str | None = None
    created_at: float


class DeliveryList(Answer):
    deliveries: tuple[DeliveryView, ...]


@router.post("", status_code=201, responses=documented(WrongState, AddressRefused))
async def create_webhook(body: NewWebhook, caller: AnyCaller, farm: Farm) -> WebhookView:
    """Tell an address of the own transcriptions that end. The secret is in this answer alone."""
    url = check_url(body.url)
    row = await farm.store.write(lambda tx: webhooks.add_webhook(tx, caller.owner, url, newest_event(tx)))
    farm.log.info("a webhook was made", action="webhook_created", webhook_id=row.id, owner=row.owner)
    return WebhookView.of(row)


@router.get("")
async def list_webhooks(caller: AnyCaller, farm: Farm) -> WebhookList:
    """The own webhooks, or for an admin all."""
    rows = await farm.store.read(lambda tx: webhooks.webhooks_of(tx, caller.sees))
    return WebhookList(webhooks=tuple(WebhookView.of(row, secret=None) for row in rows))


@router.delete("/{webhook_id}", status_code=204, responses=_ONE)
async def remove_webhook(webhook_id: WebhookId, caller: AnyCaller, farm: Farm) -> None:
    """Send nothing there any more."""
    await farm.store.write(lambda tx: webhooks.delete_webhook(tx, webhook_id, caller.sees))


@router.get("/{webhook_id}/deliveries", responses=_ONE)
async def list_deliveries(webhook_id: WebhookId, caller: AnyCaller, farm: Farm, limit: PageSize = 100) -> DeliveryList:
    """Its newest messages, and what became of them. Those that have ended are kept for a week."""
    rows = await farm.store.read(
        lambda tx: webhooks.deliveries_of(tx, webhooks.find_webhook(tx, webhook_id, caller.sees).id, limit)
    )
    return DeliveryList(deliveries=tuple(DeliveryView.of(row) for row in rows))
