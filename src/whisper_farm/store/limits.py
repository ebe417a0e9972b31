"""The limits in force: those that a server was given, and over them what administrators changed.

They are read in the transaction that heeds them. So a change counts at once, at every coordinator.
"""

from __future__ import annotations

from typing import Any

from whisper_farm.errors import QuotaReached
from whisper_farm.protocol.events import LimitsChanged
from whisper_farm.settings import Limits
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query
from whisper_farm.store.transcriptions import usage

MOST_FLOWS = 100
"""Labels and models that the unfinished transcriptions of one owner may have: each claim looks at all of them."""


CHANGED = Query[tuple[dict[str, Any]]]("SELECT changed FROM limits")
CHANGE = Change("""
    INSERT INTO limits (id, changed) VALUES (1, :changed) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed
""")


def given(server: Limits) -> dict[str, Any]:
    """The limits that a server was given."""
    return server.model_dump(include=set(Limits.model_fields))


def limits_in_force(tx: Transaction, server: Limits) -> Limits:
    return Limits.model_validate(given(server) | _changed(tx))


def room_for(tx: Transaction, server: Limits, owner: str, stores: bool = True) -> int:
    """How many more transcriptions this owner may have under way; raises `QuotaReached` where it is none.

    One that `stores` nothing goes on with a recording that is there.
    """
    has, most = usage(tx, owner), limits_in_force(tx, server)
    if has.unfinished >= most.max_unfinished:
        raise QuotaReached(f"You may have {most.max_unfinished} unfinished at a time; wait until one is done.")
    if has.flows > MOST_FLOWS:
        raise QuotaReached(
            f"Your unfinished transcriptions have more than {MOST_FLOWS} labels and models; wait until some are done."
        )
    if has.waiting_seconds > most.max_waiting_seconds:
        raise QuotaReached(
            f"{has.waiting_seconds / 3600:.0f} hours of yours wait to be recognised; wait until fewer do."
        )
    if stores and has.stored_bytes > most.max_stored_bytes:
        raise QuotaReached(f"Your recordings have more than {most.max_stored_bytes} bytes; delete some.")
    return most.max_unfinished - has.unfinished


def change_limits(tx: Transaction, server: Limits, change: dict[str, Any], author: str) -> None:
    """Change some of them. What is as the server was given it is not kept: it follows the server's settings again."""
    wanted = _changed(tx) | change
    ours = given(server)
    tx.change(CHANGE, {"changed": Json({name: one for name, one in wanted.items() if one != ours[name]})})
    emit(tx, LimitsChanged(author=author, changed=change))


def _changed(tx: Transaction) -> dict[str, Any]:
    """By name."""
    (changed,) = tx.first(CHANGED) or ({},)
    return changed
