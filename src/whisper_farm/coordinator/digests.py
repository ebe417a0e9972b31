"""What this coordinator itself has just stored: sizes and digests it need not read again to verify.

Only a saving. What another coordinator stored, or a worker sent to the object store directly, is read and hashed.
"""

from __future__ import annotations

from collections import OrderedDict

from whisper_farm.errors import DigestMismatch
from whisper_farm.protocol.wire import MAX_CHUNK_BYTES
from whisper_farm.store.blobs import BlobFacts, Blobs

REMEMBERED = 20_000


class KnownDigests:
    """Remembers the newest blobs stored here."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, BlobFacts] = OrderedDict()

    def note(self, key: str, facts: BlobFacts) -> None:
        """A blob was stored here."""
        self._known[key] = facts
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def verify(self, blobs: Blobs, key: str, size: int, sha256: str) -> None:
        """Raise `BlobMissing` or `DigestMismatch` unless the blob is what was announced."""
        known = self._known.get(key)
        if known is None:
            await blobs.verify(key, size, sha256, MAX_CHUNK_BYTES)
        elif known != BlobFacts(size, sha256):
            announced = f"{size} bytes with SHA-256 {sha256} were announced"
            raise DigestMismatch(f"{announced}; {known.size} bytes with {known.sha256} have arrived. Send them again.")
