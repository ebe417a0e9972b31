"""`whisper-farm doctor --data FOLDER`: whether what a farm keeps is there and whole.

It reads every blob that the database names. A transcript that is gone or damaged is made again from the results, if
they are there; nothing else is changed. A server may run meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from whisper_farm.cli.words import counted

if TYPE_CHECKING:
    from whisper_farm.store.blobs import Blobs
    from whisper_farm.store.database import Database

MOST_NAMED = 10
Line = tuple[bool, str, str]
"""Whether it is fine, its name, and what was found."""


class Trouble(NamedTuple):
    """A blob that is not as it should be."""

    transcription_id: str
    key: str
    how: str


def stored(data: Path) -> Iterator[Line]:
    """What was looked at, line by line."""
    from whisper_farm.cli.serve import server_settings
    from whisper_farm.errors import FarmError
    from whisper_farm.store.blobs import Blobs
    from whisper_farm.store.database import Database

    settings = server_settings(data=data)
    place = settings.database or data / "farm.db"
    if isinstance(place, Path) and not place.is_file():
        yield False, "database", f"there is none in {data}"
        return
    try:
        database = Database.open(place)
        blobs = Blobs.open(settings.blobs or data / "blobs", settings.blobs_public_endpoint)
        try:
            yield from asyncio.run(_looked_at(database, blobs))
        finally:
            database.close()
    except FarmError as error:
        yield False, "database", error.message


async def _looked_at(database: Database, blobs: Blobs) -> list[Line]:
    from whisper_farm.coordinator.readiness import stored_id
    from whisper_farm.store.references import every_blob, farm_id

    named, here, there = *database.read(lambda tx: (every_blob(tx), farm_id(tx))), await stored_id(blobs)
    lines = [(True, "database", f"{database.place} names {counted(len(named), 'blob')}")]
    if named and here != there:
        return [*lines, (False, "blobs", f"{blobs.place} is the store of another farm, or of none")]
    troubles = await _compared(blobs, named)
    lines += [(False, "blob", f"{key} of transcription {one} is {how}") for one, key, how in troubles[:MOST_NAMED]]
    counts = Counter(trouble.how for trouble in troubles)
    what = ", ".join(f"{count} {how}" for how, count in counts.items())
    lines.append((not troubles, "blobs", what or f"all are there and whole, in {blobs.place}"))
    return [*lines, *[line async for line in _made_again(database, blobs, troubles)]]


async def _compared(blobs: Blobs, named: Sequence[tuple[str, str, str | None]]) -> list[Trouble]:
    from whisper_farm.errors import StorageError

    troubles = []
    for transcription_id, key, sha256 in named:
        try:
            digest = hashlib.sha256()
            async for piece in await blobs.get_range(key):
                digest.update(piece)
            if sha256 not in (None, digest.hexdigest()):
                troubles.append(Trouble(transcription_id, key, "damaged"))
        except StorageError:
            troubles.append(Trouble(transcription_id, key, "missing"))
    return troubles


async def _made_again(database: Database, blobs: Blobs, troubles: Sequence[Trouble]) -> AsyncIterator[Line]:
    """The transcripts among them, made again where all results are there."""
    from whisper_farm.coordinator.services.assembler import Assembler
    from whisper_farm.coordinator.threads import StoreThreads
    from whisper_farm.leases.transcriptions import rebuild

    store = StoreThreads(database)
    lost = Counter(one.transcription_id for one in troubles if one.key.startswith("results/"))
    for one, key, _ in troubles:
        if not key.startswith("transcripts/"):
            continue
        if lost[one]:
            yield (
                False,
                "transcript",
                f"of {one} cannot be made again: {counted(lost[one], 'result')} of it are not there",
            )
            continue
        database.write(lambda tx, one=one: rebuild(tx, one))  # type: ignore[misc]
        await Assembler(store, blobs).assemble(one)
        yield True, "transcript", f"of {one} is made again from its results"
    await store.close()
