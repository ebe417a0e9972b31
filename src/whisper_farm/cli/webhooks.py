"""`whisper-farm webhook add|list|test|log|redeliver|remove`: addresses that a farm tells of transcriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whisper_farm.cli.connection import on_farm
from whisper_farm.cli.transcriptions import checked, each
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.words import show_table, when
from whisper_farm.showing import printable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.subscriptions import DeliveryView

TRY_SECONDS = 30
"""Longer than the farm waits for an answer."""


@click.group()
def webhook() -> None:
    """Have the farm tell an address when transcriptions of yours end, in signed messages (Standard Webhooks)."""


@webhook.command(cls=Command)
@click.argument("url")
@truth("--progress", help="Tell of each tenth that is done, too.")
@on_farm
def add(farm: FarmClient, url: str, progress: bool) -> None:
    """Add an address; prints its id, and the secret that verifies its messages: it cannot be shown again."""
    from whisper_farm.protocol.subscriptions import NewWebhook

    made = farm.add_webhook(NewWebhook(url=url, progress=progress))
    say(f"{made.id}  {made.secret}")


@webhook.command("list", cls=Command)
@on_farm
def list_(farm: FarmClient) -> None:
    """List the addresses."""
    rows = [
        (one.id, one.owner, "progress, ends" if one.progress else "ends", printable(one.url)) for one in farm.webhooks()
    ]
    show_table(("ID", "OWNER", "TOLD OF", "ADDRESS"), rows, "There are no webhooks.")


@webhook.command(cls=Command)
@click.argument("webhook_id", metavar="ID")
@on_farm
def test(farm: FarmClient, webhook_id: str) -> int:
    """Send a message that tells of nothing, and say what came of it."""
    return _outcome(farm, webhook_id, farm.test_webhook(checked(webhook_id)))


@webhook.command(cls=Command)
@click.argument("webhook_id", metavar="ID")
@on_farm
def log(farm: FarmClient, webhook_id: str) -> None:
    """Show the newest messages and what became of them, those of the last week."""
    _show(farm.deliveries(checked(webhook_id)))


@webhook.command(cls=Command)
@click.argument("webhook_id", metavar="ID")
@click.argument("message_id", metavar="MESSAGE")
@on_farm
def redeliver(farm: FarmClient, webhook_id: str, message_id: str) -> int:
    """Send a message of the log once more, and say what came of it."""
    return _outcome(farm, webhook_id, farm.redeliver(checked(webhook_id), checked(message_id)))


@webhook.command(cls=Command)
@click.argument("webhook_id", nargs=-1, required=True, metavar="ID...")
@on_farm
def remove(farm: FarmClient, webhook_id: tuple[str, ...]) -> int:
    """Send nothing there any more."""
    return each(webhook_id, farm.remove_webhook, "removed")


def _outcome(farm: FarmClient, webhook_id: str, sent: DeliveryView) -> int:
    import time

    give_up_at = time.monotonic() + TRY_SECONDS
    while sent.state == "pending" and sent.error is None and time.monotonic() < give_up_at:
        time.sleep(0.2)
        sent = next((one for one in farm.deliveries(webhook_id) if one.id == sent.id), sent)
    _show([sent])
    return 0 if sent.state == "delivered" else 1


def _show(messages: Sequence[DeliveryView]) -> None:
    rows = [
        (one.id, when(one.created_at), one.kind.replace("_", ".", 1), one.state, str(one.tries),
         printable(one.error or one.transcription_id or ""))
        for one in messages
    ]  # fmt: skip
    show_table(("MESSAGE", "MADE", "TYPE", "STATE", "TRIES", "ABOUT"), rows, "No messages were sent in the last week.")
