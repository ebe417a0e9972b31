"""Search in everything that was said."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.protocol.client import Hit, HitList
from whisper_farm.protocol.wire import Id
from whisper_farm.store.search import find_said

router = routes_for("transcriptions")


@router.get("/search")
async def search(
    caller: AnyCaller,
    farm: Farm,
    words: Annotated[str, Query(max_length=200, description='All must be said together; "just so" in quotes.')],
    feed: Annotated[Id | None, Query(description="Only in episodes of this feed.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="At most this many passages.")] = 50,
) -> HitList:
    """Passages in which these words are said, a few of each transcription, the newest transcription first.

    The end of a word may be missing; accents and capital letters do not matter.
    """
    async with farm.one_search.of(caller.owner):
        found = await farm.store.read(lambda tx: find_said(tx, words, caller.sees, limit, feed))
    return HitList(hits=tuple(Hit.of(one) for one in found))
