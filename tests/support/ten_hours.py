"""Ten hours of recording without the ten hours: a farm is told what was heard in each chunk, word by word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.farm_processes import Farm
from support.hand_worker import HandWorker
from whisper_farm.protocol.client import Submission
from whisper_farm.protocol.jobs import ChunkResult
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word

CHUNK_SECONDS = 30.0
AT_ONCE = 40
DOUBTFUL = 500
"""One of so many words is doubtful."""


def told(farm: Farm, name: str, hours: float = 10, words: int = 100_000) -> str:
    """Submit a recording, and hand in `word0 word1 …` for it; returns its id when it is done. Leases must be long."""
    sound = farm.folder / name
    sound.write_bytes(bytes(250_000))  # a shorter file may not have so many hours
    chunks = int(hours * 3600 / CHUNK_SECONDS)
    worker = HandWorker(farm.url, farm.token, "teller")
    worker.register()
    options = RecognitionOptions(engine="tones", model="instant")
    upload = farm.client.upload(sound)
    made = farm.client.submit(Submission(name=name, upload_id=upload, options=options, peaks=False))
    (claim,) = worker.claim(transcribe=0, chunk=1, wait=10)
    for first in range(0, chunks, AT_ONCE):
        _append(worker, claim, range(first, min(chunks, first + AT_ONCE)))
    ended = ChunkResult(duration_seconds=chunks * CHUNK_SECONDS, chunks=chunks)
    worker.complete([worker.completion(claim, ended)])
    each = words // chunks
    while claims := worker.claim(transcribe=AT_ONCE):
        heard = [worker.heard(one, segments=tuple(_segments(one["position"], each))) for one in claims]
        worker.complete([worker.completion(one, said) for one, said in zip(claims, heard, strict=True)])
    worker.close()
    farm.finished(made.id)
    return made.id


def _append(worker: HandWorker, claim: dict[str, Any], positions: range) -> None:
    chunks = [worker.upload(claim, position) for position in positions]
    for position, chunk in zip(positions, chunks, strict=True):
        chunk |= {"start_seconds": position * CHUNK_SECONDS, "end_seconds": (position + 1) * CHUNK_SECONDS}
    worker.told("append", token=claim["token"], chunks=chunks, duration_seconds=None)


def _segments(position: int, each: int) -> Iterator[Segment]:
    """What was said in a chunk, ten words a segment."""
    pace = CHUNK_SECONDS / each
    for first in range(0, each, 10):
        numbers = range(first, min(each, first + 10))
        words = [_word(position * each + n, position * CHUNK_SECONDS + n * pace, pace) for n in numbers]
        yield Segment(words[0].start, words[-1].end, "".join(word.text for word in words) + ".", tuple(words))


def _word(number: int, start: float, pace: float) -> Word:
    return Word(start, start + 0.9 * pace, f" word{number}", 0.3 if number % DOUBTFUL == 7 else 0.9)
