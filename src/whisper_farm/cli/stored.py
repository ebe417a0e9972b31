"""`whisper-farm doctor --data FOLDER`: whether what a farm keeps is there and whole.

It changes nothing, and reads every blob that the database names. A server may run meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_farm.cli.words import counted

if TYPE_CHECKING:
    from whisper_farm.store.blobs import Blobs

MOST_NAMED = 10


def stored(data: Path) -> Iterator[tuple[bool, str, str]]:
    """What was looked at, as whether it is fine, its name, and what was found."""
    from whisper_farm.cli.serve import server_settings
    from whisper_farm.errors import FarmError
    from whisper_farm.store.blobs import Blobs
    from whisper_farm.store.database import Database
    from whisper_farm.store.references import every_blob

    settings = server_settings(data=data)
    place = settings.database or data / "farm.db"
    if isinstance(place, Path) and not place.is_file():
        yield False, "database", f"there is none in {data}"
        return
    try:
        database = Database.open(place)
        try:
            named = database.read(every_blob)
        finally:
            database.close()
    except FarmError as error:
        yield False, "database", error.message
        return
    yield True, "database", f"{database.place} names {counted(len(named), 'blob')}"
    blobs = Blobs.open(settings.blobs or data / "blobs", settings.blobs_public_endpoint)
    troubles = asyncio.run(_compared(blobs, named))
    for line in troubles[:MOST_NAMED]:
        yield False, "blob", line
    counts = Counter(line.rpartition(" is ")[2] for line in troubles)
    what = ", ".join(f"{count} {trouble}" for trouble, count in counts.items())
    yield not troubles, "blobs", what or f"all are there and whole, in {blobs.place}"


async def _compared(blobs: Blobs, named: list[tuple[str, str, str | None]]) -> list[str]:
    from whisper_farm.errors import StorageError

    troubles = []
    for transcription_id, key, sha256 in named:
        try:
            digest = hashlib.sha256()
            async for piece in await blobs.get_range(key):
                digest.update(piece)
            if sha256 not in (None, digest.hexdigest()):
                troubles.append(f"{key} of transcription {transcription_id} is damaged")
        except StorageError:
            troubles.append(f"{key} of transcription {transcription_id} is missing")
    return troubles
