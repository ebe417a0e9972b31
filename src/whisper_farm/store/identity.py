"""Which farm a database belongs to, and the trash: blobs that no row names wait here before they are deleted."""

from __future__ import annotations

from collections.abc import Collection

from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query

ID = Query[str]("SELECT farm_id FROM identity")
SET_ID = Change("INSERT INTO identity (id, farm_id) VALUES (1, :farm_id) ON CONFLICT (id) DO NOTHING")
KNOWS_BLOBS = Query[bool](
    "SELECT EXISTS (SELECT 1 FROM transcriptions) OR EXISTS (SELECT 1 FROM uploads) AS knows_blobs"
)
NOTE = Change("INSERT INTO trash (key, found_at) VALUES (:key, :now) ON CONFLICT (key) DO NOTHING")
RIPE = Query[str]("SELECT key FROM trash WHERE key IN :keys AND found_at <= :before")
EMPTY = Change("DELETE FROM trash WHERE key IN :keys")


def farm_id(tx: Transaction) -> str | None:
    """The id of the farm whose database this is; None before its first start."""
    return tx.first(ID)


def set_farm_id(tx: Transaction, wanted: str) -> str:
    """Give the database this id, unless it has one; returns the one it has."""
    tx.change(SET_ID, {"farm_id": wanted})
    return tx.first(ID) or wanted


def knows_blobs(tx: Transaction) -> bool:
    """Whether the database has anything that was uploaded or submitted."""
    return bool(tx.first(KNOWS_BLOBS))


def note_trash(tx: Transaction, keys: Collection[str], before: float) -> list[str]:
    """Note that no row names these blobs; returns those of which that was noted before that time already."""
    tx.change(NOTE, [{"key": key, "now": tx.now} for key in sorted(keys)])
    return tx.rows(RIPE, {"keys": sorted(keys), "before": before})


def empty_trash(tx: Transaction, keys: Collection[str]) -> None:
    """Forget these blobs: they are deleted, or a row names them after all."""
    tx.change(EMPTY, {"keys": sorted(keys)})
