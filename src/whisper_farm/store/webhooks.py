"""Webhooks: addresses that want to hear of transcriptions, and every message to them until it has arrived.

A message is made of an event once, by whichever coordinator reads the event first; the place in the log is kept with
the webhook. Of the progress of a transcription there is one message for each tenth, however often it gets there. A try
takes a message for a while, so that two coordinators do not send it together.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import asdict, dataclass
from typing import Any

from whisper_farm.errors import WrongState
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.protocol.subscriptions import DeliveryState
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query, columns, insert

MOST_WEBHOOKS = 20
"""Of one owner."""
KEPT_SECONDS = 7 * 86_400.0
"""How long a message that has ended is kept for people to look at."""
TAKEN_SECONDS = 60.0
"""How long a try may last; then somebody else may send the message."""

TEST, PROGRESS = "webhook_test", "transcription_progress"
"""Kinds of messages that are no events."""


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """One row of `webhooks`. `position` is the last event that was looked at for it."""

    id: str
    owner: str
    url: str
    secret: str
    position: int
    progress: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One message. `error` says why the last try was in vain."""

    id: str
    webhook_id: str
    kind: str
    transcription_id: str | None
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
    kind: str
    url: str
    secret: str
    body: dict[str, Any]
    tries: int


ADD = insert("webhooks", WebhookRow)
ROW = f"SELECT {columns(WebhookRow)} FROM webhooks WHERE (CAST(:owner AS TEXT) IS NULL OR owner = :owner)"
OF_OWNER = Query[WebhookRow](f"{ROW} ORDER BY created_at, id")
FIND = Query[WebhookRow](f"{ROW} AND id = :id")
MOVE = Change("UPDATE webhooks SET position = :position WHERE id = :id AND position < :position")
DELETE_DELIVERIES = Change("""
    DELETE FROM deliveries WHERE webhook_id = :id AND (CAST(:kind AS TEXT) IS NULL OR kind = :kind)
""")
DELETE = Change("DELETE FROM webhooks WHERE id = :id")
ADD_DELIVERY = Change("""
    INSERT INTO deliveries (id, webhook_id, kind, transcription_id, body, state, tries, next_at, created_at)
    VALUES (:id, :webhook, :kind, :transcription, :body, 'pending', 0, :now, :now)
    ON CONFLICT (id) DO NOTHING
""")
DELIVERIES = Query[DeliveryRow](f"""
    SELECT {columns(DeliveryRow)} FROM deliveries WHERE webhook_id = :id ORDER BY created_at DESC, id LIMIT :limit
""")
DELIVERY = Query[DeliveryRow](f"SELECT {columns(DeliveryRow)} FROM deliveries WHERE webhook_id = :webhook AND id = :id")
AGAIN = Change("""
    UPDATE deliveries SET state = 'pending', tries = 0, status = NULL, error = NULL, next_at = :now WHERE id = :id
""")
DUE = Query[DueDelivery]("""
    SELECT id, kind, url, secret, body, tries
      FROM (SELECT deliveries.id AS id, kind, url, secret, body, tries, next_at,
                   row_number() OVER (PARTITION BY webhooks.owner ORDER BY next_at, deliveries.id) AS place
              FROM deliveries JOIN webhooks ON webhooks.id = webhook_id
             WHERE state = 'pending' AND next_at <= :now) AS due
     ORDER BY place, next_at, id LIMIT :limit
""")
"""One of each owner, then another of each: whose receiver never answers holds up no other owner's."""
TAKE = Change("UPDATE deliveries SET next_at = :until, tries = tries + 1 WHERE id IN :ids")
NOTE = Change("""
    UPDATE deliveries SET state = :state, status = :status, error = :error, next_at = :next_at
     WHERE id = :id AND state = 'pending'
""")
PRUNE = Change("DELETE FROM deliveries WHERE state <> 'pending' AND created_at < :before")


def add_webhook(tx: Transaction, owner: str, url: str, progress: bool, position: int) -> WebhookRow:
    """Tell that address of this owner's transcriptions, from the event after `position` on."""
    if len(webhooks_of(tx, owner)) >= MOST_WEBHOOKS:
        raise WrongState(f"{owner} has {MOST_WEBHOOKS} webhooks already; delete one first.")
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"  # as Standard Webhooks writes it
    made = WebhookRow(secrets.token_hex(8), owner, url, secret, position, progress, tx.now)
    tx.change(ADD, asdict(made))
    emit(tx, SettingsChanged(what="webhooks"), owner=owner)
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
    tx.change(DELETE_DELIVERIES, {"id": found.id, "kind": None})
    tx.change(DELETE, {"id": found.id})
    emit(tx, SettingsChanged(what="webhooks"), owner=found.owner)


def move_on(tx: Transaction, webhook_id: str, position: int) -> bool:
    """Note that events up to this one were looked at; False if somebody else did already."""
    return tx.changed(MOVE, {"id": webhook_id, "position": position}) == 1


def add_delivery(
    tx: Transaction, webhook_id: str, kind: str, transcription_id: str | None, body: dict[str, Any], once: str = ""
) -> str:
    """A message to be sent; its id. There is one at most of those that are to be sent `once` by the same name."""
    number = hashlib.sha256(f"{webhook_id}:{once}".encode()).hexdigest()[:24] if once else secrets.token_hex(12)
    given = {"id": f"msg_{number}", "webhook": webhook_id, "kind": kind, "transcription": transcription_id}
    tx.change(ADD_DELIVERY, given | {"body": Json(body)})
    return f"msg_{number}"


def add_test(tx: Transaction, webhook_id: str, body: dict[str, Any]) -> DeliveryRow:
    """A message that tells of nothing, in the place of the one before."""
    tx.change(DELETE_DELIVERIES, {"id": webhook_id, "kind": TEST})
    return find_delivery(tx, webhook_id, add_delivery(tx, webhook_id, TEST, None, body))


def find_delivery(tx: Transaction, webhook_id: str, delivery_id: str) -> DeliveryRow:
    """One message of a webhook; raises `NotFound`."""
    return tx.one(DELIVERY, {"webhook": webhook_id, "id": delivery_id}, f"message {delivery_id}")


def send_again(tx: Transaction, webhook_id: str, delivery_id: str) -> DeliveryRow:
    """Send a message now, whatever became of it, and again for a day until it has arrived; raises `NotFound`."""
    tx.change(AGAIN, {"id": find_delivery(tx, webhook_id, delivery_id).id})
    return find_delivery(tx, webhook_id, delivery_id)


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
