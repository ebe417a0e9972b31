"""Database and blob store must belong to the same farm, or the one would call everything in the other unknown.

Both carry the id of their farm. A server that finds two different ids does not start, and nothing is swept. Nor does it
start with a database that knows nothing beside a store that is full: the database was replaced, or is another farm's.
"""

from __future__ import annotations

import secrets

from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import PREFIXES
from whisper_farm.errors import BlobMissing, FarmMismatch
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.references import farm_id, knows_blobs, set_farm_id

ID_KEY = "farm-id"
ID_BYTES = 64
REMEDY = (
    "Bring the right database back (`whisper-farm db restore`), or give this farm a blob store of its own. If no farm"
    f" uses the store any more, empty it, its file `{ID_KEY}` as well."
)


async def settle_identity(store: StoreThreads, blobs: Blobs) -> None:
    """Give both the id of their farm at its first start; later raise `FarmMismatch` unless they have the same."""
    here, there = await store.read(farm_id), await stored_id(blobs)
    if there is None and await _is_full(blobs) and not await store.read(knows_blobs):
        raise FarmMismatch(
            f"The blob store {blobs.place} is full, and the database {store.database.place} knows nothing of it."
            f" {REMEDY}"
        )
    if there is None:
        here = await store.write(lambda tx: set_farm_id(tx, secrets.token_hex(16)))
        await blobs.put(ID_KEY, here.encode())
        there = await stored_id(blobs)
    if here != there:
        raise FarmMismatch(
            f"The database {store.database.place} and the blob store {blobs.place} belong to different farms. {REMEDY}"
        )


async def stored_id(blobs: Blobs) -> str | None:
    """The id that the blob store carries."""
    try:
        return (await blobs.get(ID_KEY, limit=ID_BYTES)).decode("ascii", "replace").strip()
    except BlobMissing:
        return None


async def _is_full(blobs: Blobs) -> bool:
    for prefix in PREFIXES:
        async for _ in blobs.list(prefix):
            return True
    return False
