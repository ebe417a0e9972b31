"""Webhooks: addresses that want to hear of finished transcriptions, and every message to them until it has arrived.

A message is made of an event once, by whichever coordinator reads the event first; the place in the log is kept with
the webhook. A try takes a message for a while, so that two coordinators do not send it together.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict, dataclass
from typing import Any, Literal

from whisper_farm.errors import WrongState
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Json, Query, columns, insert

MOST_WEBHOOKS = 20
"""Of one owner."""
KEPT_SECONDS = 7 * 86_400.0
"""How long a message that has ended is kept for people to look at."""
TAKEN_SECONDS = 60.0
"""How long a try may last; then somebody else may send the message."""

DeliveryState = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """One row of `webhooks`. `position` is the last event that was looked at for it."""

    id: str
    owner: str
    url: str
    secret: str
    position: int
    created_at: float


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One message. `error` says why the last try was in vain."""

    id: str
    webhook_id: str
    kind: str
    transcription_id: str
    body: dict[str, Any]
    state: DeliveryState
    tries: int
    next_at: float
    status: int | None
    error: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A message to be sent now."""

    id: str
    url: str
    secret: str
    body: dict[str, Any]
    tries: int


COUNT = Query[int]("SELECT count(*) AS webhooks FROM webhooks WHERE owner = :owner")
ADD = insert("webhooks", WebhookRow)
ROW = f"SELECT {columns(WebhookRow)} FROM webhooks WHERE (CAST(:owner AS TEXT) IS NULL OR owner = :owner)"
OF_OWNER = Query[WebhookRow](f"{ROW} ORDER BY created_at, id")
FIND = Query[WebhookRow](f"{ROW} AND id = :id")
MOVE = Change("UPDATE webhooks SET position = :position WHERE id = :id AND position < :position")
DELETE_DELIVERIES = Change("DELETE FROM deliveries WHERE webhook_id = :id")
DELETE = Change("DELETE FROM webhooks WHERE id = :id")
ADD_DELIVERY = Change("""
    INSERT INTO deliveries (id, webhook_id, kind, transcription_id, body, state, tries, next_at, created_at)
    VALUES (:id, :webhook, :kind, :transcription, :body, 'pending', 0, :now, :now)
""")
DELIVERIES = Query[DeliveryRow](f"""
    SELECT {columns(DeliveryRow)} FROM deliveries WHERE webhook_id = :id ORDER BY created_at DESC, id LIMIT :limit
""")
DUE = Query[DueDelivery]("""
    SELECT deliveries.id AS id, url, secret, body, tries FROM deliveries JOIN webhooks ON webhooks.id = webhook_id
     WHERE state = 'pending' AND next_at <= :now ORDER BY next_at, deliveries.id LIMIT :limit
""")
TAKE = Change("UPDATE deliveries SET next_at = :until, tries = tries + 1 WHERE id IN :ids")
NOTE = Change("""
    UPDATE deliveries SET state = :state, status = :status, error = :error, next_at = :next_at
     WHERE id = :id AND state = 'pending'
""")
PRUNE = Change("DELETE FROM deliveries WHERE state <> 'pending' AND created_at < :before")


def add_webhook(tx: Transaction, owner: str, url: str, position: int) -> WebhookRow:
    """Tell that address of this owner's transcriptions, from the event after `position` on."""
    if (tx.first(COUNT, {"owner": owner}) or 0) >= MOST_WEBHOOKS:
        raise WrongState(f"{owner} has {MOST_WEBHOOKS} webhooks already; delete one first.")
    made = WebhookRow(secrets.token_hex(8), owner, url, _new_secret(), position, tx.now)
    tx.change(ADD, asdict(made))
    return made


def webhooks_of(tx: Transaction, owner: str | None = None) -> list[WebhookRow]:
    """The webhooks of one owner, or all, the oldest first."""
    return tx.rows(OF_OWNER, {"owner": owner})


def find_webhook(tx: Transaction, webhook_id: str, owner: str | None) -> WebhookRow:
    """One webhook, if it is this owner's (or anybody's, for None); raises `NotFound`."""
    return tx.one(FIND, {"id": webhook_id, "owner": owner}, f"webhook {webhook_id}")


def delete_webhook(tx: Transaction, webhook_id: str, owner: str | None) -> None:
    """Forget a webhook with its messages; raises `NotFound`."""
    found = find_webhook(tx, webhook_id, owner)
    tx.change(DELETE_DELIVERIES, {"id": found.id})
    tx.change(DELETE, {"id": found.id})


def move_on(tx: Transaction, webhook_id: str, position: int) -> bool:
    """Note that events up to this one were looked at; False if somebody else did already."""
    return tx.changed(MOVE, {"id": webhook_id, "position": position}) == 1


def add_delivery(tx: Transaction, webhook_id: str, kind: str, transcription_id: str, body: dict[str, Any]) -> None:
    """A message to be sent."""
    message = f"msg_{secrets.token_hex(12)}"
    given = {"id": message, "webhook": webhook_id, "kind": kind, "transcription": transcription_id}
    tx.change(ADD_DELIVERY, given | {"body": Json(body)})


def deliveries_of(tx: Transaction, webhook_id: str, limit: int) -> list[DeliveryRow]:
    """The newest messages of a webhook."""
    return tx.rows(DELIVERIES, {"id": webhook_id, "limit": limit})


def take_due(tx: Transaction, limit: int) -> list[DueDelivery]:
    """The messages whose time has come, for the caller alone to try."""
    due = tx.rows(DUE, {"limit": limit})
    if due:
        tx.change(TAKE, {"ids": [each.id for each in due], "until": tx.now + TAKEN_SECONDS})
    return due


def note_try(
    tx: Transaction, delivery_id: str, state: DeliveryState, status: int | None, error: str | None, wait_seconds: float
) -> None:
    """What came of a try; one that is `pending` still is tried again after so many seconds."""
    told = {"id": delivery_id, "state": state, "status": status, "error": error}
    tx.change(NOTE, told | {"next_at": tx.now + wait_seconds})


def prune_deliveries(tx: Transaction) -> int:
    """Forget messages that have ended long ago."""
    return tx.changed(PRUNE, {"before": tx.now - KEPT_SECONDS})


def _new_secret() -> str:
    """As Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
