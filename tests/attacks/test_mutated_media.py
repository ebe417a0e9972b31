"""Recordings with mistakes by a fixed seed, through a real cutter in its sandbox: each ends, cut or refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import cast

import pytest
from support import recordings
from support.strangers import tries

from whisper_farm.protocol.jobs import ChunkTask, Source
from whisper_farm.protocol.wire import Transfer
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child
from whisper_farm.worker.pipe import CutChunk, CutEnded, CutFailed
from whisper_farm.worker.reading import Reading

KINDS = [("wav", "pcm_s16le"), ("flac", "flac"), ("ogg", "libopus"), ("mp4", "aac"), ("mp3", "libmp3lame")]
FILES = 12
"""Of each kind; one cutter reads them one after the other."""
SECONDS = 60.0


class Held:
    """A farm that holds one recording."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, transfer: Transfer, first: int, last: int, patience_seconds: float) -> bytes:
        return self._data[first : last + 1]


def mutated(whole: bytes, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    for _ in tries(FILES):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4, 32))):
            place = dice.randrange(len(data)) if dice.random() < 0.5 else dice.randrange(min(200, len(data)))
            match dice.randrange(4):
                case 0:
                    data[place] = dice.randrange(256)
                case 1:
                    data[place : place + 4] = dice.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
                case 2:
                    del data[place : place + dice.randrange(1, 64)]
                case _:
                    data[place:place] = data[: dice.randrange(1, 256)]
            data = data or bytearray(1)
        yield bytes(data)


async def end_of(child: Child, data: bytes) -> CutEnded | CutFailed:
    source = Source(name="x", size=len(data), transfer=Transfer(url="/", method="GET"))
    reading = Reading(child, cast(WorkerApi, Held(data)), ChunkTask(source=source, chunk_seconds=5), SECONDS)
    try:
        await reading.begin()
        while True:
            message, _ = await reading.receive()
            if isinstance(message, CutEnded | CutFailed):
                return message
            assert isinstance(message, CutChunk)
    finally:
        await reading.close()


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_every_mutated_recording_is_cut_or_refused_and_the_cutter_lives_on(container: str, codec: str) -> None:
    whole = recordings.encoded(recordings.noise(1.0), container, codec, 48_000)

    async def scene() -> list[CutEnded | CutFailed]:
        child = await Child.start("cutter")
        try:
            ends = [await end_of(child, data) for data in mutated(whole, seed=11)]
            return [*ends, await end_of(child, whole)]
        finally:
            await child.close()

    *ends, last = asyncio.run(scene())
    assert isinstance(last, CutEnded), "the one without a mistake"
    assert all(end.permanent for end in ends if isinstance(end, CutFailed))
