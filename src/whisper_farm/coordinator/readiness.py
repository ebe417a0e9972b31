"""Whether requests may be sent to this coordinator: its database and its blob store can be read and written.

Promises: whoever asks costs little, since nobody needs a token for it. All who ask at the same time share one look, and
what is written for it is written once in `WRITTEN_SECONDS`. What has failed is looked at anew each time. It tells
strangers no places; the log does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from whisper_farm.coordinator.coalescing import Coalescing
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import NoSpace, StorageError, StoreUnavailable
from whisper_farm.log import logger
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database
from whisper_farm.store.schema import can_write, check

READY_SECONDS = 5.0
"""What does not answer in this time is not ready."""
WRITTEN_SECONDS = 1.0
MOST_ASKING = 10_000
READY_KEY = "ready"
"""A blob that is written to find out whether that can be done."""


class Readiness:
    """Looks at the stores, for all who ask."""

    def __init__(self, database: Database, store: StoreThreads, blobs: Blobs) -> None:
        self._database = database
        self._store = store
        self._blobs = blobs
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
