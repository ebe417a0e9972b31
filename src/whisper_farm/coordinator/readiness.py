"""Whether this coordinator may serve: its database and blob store are of one farm, and can be read and written.

Both carry the id of their farm, or the one would call everything in the other unknown. A server that finds two ids does
not start, and nothing is swept. Nor does it start with a database that knows nothing beside a store that is full: the
database was replaced, or is another farm's.

Whoever asks whether it is ready costs little, since nobody needs a token for it. All who ask at the same time share one
look, and what is written for it is written once in `WRITTEN_SECONDS`. What has failed is looked at anew each time. It
tells strangers no places; the log does.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from whisper_farm.coordinator.coalescing import Coalescing
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import PREFIXES
from whisper_farm.errors import BlobMissing, FarmMismatch, NoSpace, StorageError, StoreUnavailable
from whisper_farm.log import logger
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database
from whisper_farm.store.references import farm_id, knows_blobs, set_farm_id
from whisper_farm.store.schema import can_write, check

ID_KEY = "farm-id"
ID_BYTES = 64
REMEDY = (
    "Bring the right database back (`whisper-farm db restore`), or give this farm a blob store of its own. If no farm"
    f" uses the store any more, empty it, its file `{ID_KEY}` as well."
)
READY_SECONDS = 5.0
"""What does not answer in this time is not ready."""
WRITTEN_SECONDS = 1.0
MOST_ASKING = 10_000
READY_KEY = "ready"
"""A blob that is written to find out whether that can be done."""


async def settle_identity(store: StoreThreads, blobs: Blobs) -> None:
    """Give both the id of their farm at its first start; later raise `FarmMismatch` unless they have the same."""
    there = await stored_id(blobs)  # looked at first, as it is written last: others may start at the same moment
    full = there is None and await _is_full(blobs)
    there = await stored_id(blobs) if full else there  # and take uploads, but not before they have written it
    here = await store.read(farm_id)
    if there is None and full and not await store.read(knows_blobs):
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


class Readiness:
    """Looks at the stores, for all who ask."""

    def __init__(self, database: Database, store: StoreThreads, blobs: Blobs) -> None:
        self._database, self._store, self._blobs = database, store, blobs
        self._looks = Coalescing(self._look, MOST_ASKING, READY_SECONDS)
        self._written_at = float("-inf")

    async def ensure(self) -> None:
        """Return if all is well; raises `StoreUnavailable`, `ObjectStoreRefused` or `SchemaMismatch`."""
        try:
            await self._looks.ask(None)
        except StorageError as error:
            logger().warning("the server is not ready", action="readyz", error=error.message)
            raise (StoreUnavailable if isinstance(error, NoSpace) else type(error))() from None

    async def _look(self, askers: Sequence[None]) -> Sequence[None]:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._store.run(lambda: check(self._database))
                await self._blobs.check()
                if time.monotonic() - self._written_at >= WRITTEN_SECONDS:
                    await self._store.write(can_write)
                    await self._blobs.put_all({READY_KEY: b"ready"})
                    self._written_at = time.monotonic()
        except TimeoutError:
            raise StoreUnavailable("The database or the blob store does not answer in time.") from None
        return askers
