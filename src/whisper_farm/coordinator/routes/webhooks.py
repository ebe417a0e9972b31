"""Webhooks: say where transcriptions are to be told of, try it, look what arrived, send it again, and stop it."""

from __future__ import annotations

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import IdInPath, PageSize
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.coordinator.services.webhooks import message
from whisper_farm.errors import AddressRefused, NotFound, WrongState
from whisper_farm.ingest.addresses import check_url
from whisper_farm.ingest.links import check_reach
from whisper_farm.protocol.subscriptions import DeliveryList, DeliveryView, NewWebhook, WebhookList, WebhookView
from whisper_farm.store import webhooks
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import newest_event

router = routes_for("webhooks", "/webhooks")
_ONE = documented(NotFound)


@router.post("", status_code=201, responses=documented(WrongState, AddressRefused))
async def create_webhook(body: NewWebhook, caller: AnyCaller, farm: Farm) -> WebhookView:
    """Tell an address of the own transcriptions that end, or of their progress, too. This answer has the secret."""
    url = check_url(body.url)
    await check_reach(url, farm.settings.private_networks)
    row = await farm.store.write(
        lambda tx: webhooks.add_webhook(tx, caller.owner, url, body.progress, newest_event(tx))
    )
    farm.log.info("a webhook was made", action="webhook_created", webhook_id=row.id, owner=row.owner)
    return WebhookView.of(row)


@router.get("")
async def list_webhooks(caller: AnyCaller, farm: Farm) -> WebhookList:
    """The own webhooks, or for an admin all."""
    rows = await farm.store.read(lambda tx: webhooks.webhooks_of(tx, caller.sees))
    return WebhookList(webhooks=tuple(WebhookView.of(row, secret=None) for row in rows))


@router.delete("/{webhook_id}", status_code=204, responses=_ONE)
async def remove_webhook(webhook_id: IdInPath, caller: AnyCaller, farm: Farm) -> None:
    """Send nothing there any more."""
    await farm.store.write(lambda tx: webhooks.delete_webhook(tx, webhook_id, caller.sees))


@router.post("/{webhook_id}/test", status_code=201, responses=_ONE)
async def test_webhook(webhook_id: IdInPath, caller: AnyCaller, farm: Farm) -> DeliveryView:
    """Send a message that tells of nothing, once. What became of it is among the deliveries."""

    def add(tx: Transaction) -> webhooks.DeliveryRow:
        hook = webhooks.find_webhook(tx, webhook_id, caller.sees)
        return webhooks.add_test(tx, hook.id, message(webhooks.TEST, tx.now, {"id": hook.id}))

    row = await farm.store.write(add)
    farm.services.wake("webhooks")
    return DeliveryView.of(row)


@router.get("/{webhook_id}/deliveries", responses=_ONE)
async def list_deliveries(webhook_id: IdInPath, caller: AnyCaller, farm: Farm, limit: PageSize = 100) -> DeliveryList:
    """Its newest messages, and what became of them. Those that have ended are kept for a week."""
    rows = await farm.store.read(
        lambda tx: webhooks.deliveries_of(tx, webhooks.find_webhook(tx, webhook_id, caller.sees).id, limit)
    )
    return DeliveryList(deliveries=tuple(DeliveryView.of(row) for row in rows))


@router.post("/{webhook_id}/deliveries/{message_id}/redeliver", responses=_ONE)
async def redeliver(webhook_id: IdInPath, message_id: IdInPath, caller: AnyCaller, farm: Farm) -> DeliveryView:
    """Send a message once more, with the same `webhook-id`, whether it had arrived or not."""
    row = await farm.store.write(
        lambda tx: webhooks.send_again(tx, webhooks.find_webhook(tx, webhook_id, caller.sees).id, message_id)
    )
    farm.services.wake("webhooks")
    return DeliveryView.of(row)
