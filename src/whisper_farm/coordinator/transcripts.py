"""What became of a transcription: its text in order, its gaps, what recognised it, and its transcript as a file.

There is one way from results to text: `heard_in` reads the result of each chunk back, in order, with its segments in
place. A page of segments and the assembler both use it. What is assembled is a document, and files are rendered from
that. Memory holds a handful of chunks, however long the recording is; only rendering holds a whole transcript.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import ValidationError

from whisper_farm.coordinator.layers.quotas import OneEach
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import BlobMissing, DigestMismatch, InvalidTranscript, ServerBusy, TooLarge, WrongState
from whisper_farm.leases.transcriptions import DoneChunk, rebuild
from whisper_farm.protocol.client import FINISHED, Gap, SegmentPage
from whisper_farm.protocol.jobs import ChunkVoices, TranscribeResult
from whisper_farm.protocol.worker import digest_of
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.edits import edits_after
from whisper_farm.store.jobs import FailedJob, chunk_jobs, failed_jobs, makers_of
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.edits import Edit, laid
from whisper_farm.transcript.formats import OutputFormat
from whisper_farm.transcript.stitch import ChunkText, joined, stitch
from whisper_farm.transcript.transcript import Maker, Segment, Transcript, damage_in_words

if TYPE_CHECKING:  # NumPy is loaded where speakers are told apart, and nowhere else
    from whisper_farm.transcript.speakers import Speakers, Voices

PAGE_CHUNKS = 50
"""Chunks in one page of segments."""
AHEAD = 8
"""Results fetched before they are needed."""
MAX_RESULT_BYTES = 64 << 20
LOST = f"{BlobMissing.code}: The stored result is gone or damaged."
DAMAGED = "The stored transcript was damaged; it is put together again from what was recognised. Ask again."
ENDED = frozenset({"done", "failed", "cancelled"})
RENDERS_AT_ONCE = 2
"""Each holds a whole transcript in memory; ten hours of speech are some fifty megabytes."""
RENDER_SECONDS = 60.0
"""Longest wait for a rendering, its turn included."""
CUT_OFF_SECONDS = 2.0
CUT_OFF_SHARE = 0.01
"""A file that decodes to less than it declares, by more than both of these, was cut off."""
DAMAGE_SECONDS = 1.0
"""Damage that lasts longer is a gap: words may be lost in it. Shorter damage is only counted."""


async def heard_in(
    blobs: Blobs, chunks: Iterable[DoneChunk], speakers: Speakers | None = None
) -> AsyncIterator[tuple[DoneChunk, ChunkText | None]]:
    """Every chunk with its text, in the order given; None where the stored result is gone or damaged.

    With `speakers` every word is given to one of them.
    """
    rest = iter(chunks)
    ahead: deque[tuple[DoneChunk, asyncio.Task[ChunkText | None]]] = deque()
    held: tuple[DoneChunk, ChunkText | None] | None = None
    try:
        while True:
            for chunk in islice(rest, AHEAD - len(ahead)):
                ahead.append((chunk, asyncio.create_task(_text_of(blobs, chunk, speakers))))
            if not ahead:
                break
            chunk, task = ahead.popleft()
            text = await task
            if held is not None:
                if held[1] is not None and text is not None:
                    before, text = joined(held[1], text)
                    held = held[0], before
                yield held
            held = chunk, text
        if held is not None:
            yield held
    finally:
        for _, task in ahead:
            task.cancel()


async def voices_in(blobs: Blobs, chunks: Sequence[DoneChunk]) -> list[Voices]:
    found = []
    for first in range(0, len(chunks), AHEAD):
        read = [_result_of(blobs, chunk.result_key) for chunk in chunks[first : first + AHEAD] if chunk.result_key]
        found += [_voices(result.voices) for result in await asyncio.gather(*read) if result and result.voices]
    return found


def _voices(sent: ChunkVoices) -> Voices:
    from whisper_farm.transcript.speakers import Voices

    return Voices.unpacked(sent.model, sent.spans, sent.vectors, sent.narrow)


async def _text_of(blobs: Blobs, chunk: DoneChunk, speakers: Speakers | None) -> ChunkText | None:
    position, start, end, key = chunk
    if key is None:
        return ChunkText(position, start, end, ())
    result = await _result_of(blobs, key)
    if result is None:
        return None
    segments = result.segments
    if speakers is not None and result.voices is not None:
        segments = await asyncio.to_thread(speakers.told_apart, segments, _voices(result.voices))
    text = ChunkText(position, start, end, segments, result.unheard)
    return replace(text, segments=stitch([text]))


async def _result_of(blobs: Blobs, key: str) -> TranscribeResult | None:
    """A stored result; None if it is gone or damaged."""
    try:
        body = await blobs.get(key, limit=MAX_RESULT_BYTES)
        if f".{digest_of(body)[:16]}." not in key:  # see `transfers.result_key`
            return None
        return await asyncio.to_thread(TranscribeResult.model_validate_json, body)
    except (BlobMissing, TooLarge, ValidationError):
        return None


@dataclass(frozen=True, slots=True)
class EndedChunks:
    """Chunks that have ended, following each other without a hole."""

    done: Sequence[DoneChunk]
    last: int
    finished: bool
    start: float
    end: float
    edits: Sequence[Edit]
    document: str | None = None
    """The transcript, where it says more than its chunks: whose voices they are."""


async def segment_page(store: StoreThreads, blobs: Blobs, transcription_id: str, after: int) -> SegmentPage:
    """The finished chunks after position `after`, up to the first that is not finished. Gaps are passed over."""
    ended = await store.read(lambda tx: _ended_chunks(tx, transcription_id, after))
    machine: Sequence[Segment] | None = None
    lost: tuple[Gap, ...] = ()
    if ended.document is not None:  # there alone the speakers are told apart
        with suppress(InvalidTranscript, BlobMissing):  # who asks for a file has it put together again
            whole = await asyncio.to_thread(read_document, await blobs.get(ended.document))
            machine = [segment for segment in whole.segments if ended.start <= segment.start < ended.end]
    if machine is None:
        heard = [one async for one in heard_in(blobs, ended.done)]
        machine = [segment for _, text in heard if text is not None for segment in text.segments]
        lost = tuple(Gap.of(one, reason=LOST) for one, text in heard if text is None)
    segments = await asyncio.to_thread(laid, machine, ended.edits, ended.start, ended.end)
    spoken = tuple(segment for segment in segments if not segment.struck)
    return SegmentPage(segments=spoken, next=ended.last, finished=ended.finished, lost=lost)


def _ended_chunks(tx: Transaction, transcription_id: str, after: int) -> EndedChunks:
    row = find(tx, transcription_id)
    done: list[DoneChunk] = []
    last = after
    bounds: list[float] = []
    for chunk in chunk_jobs(tx, transcription_id, after, PAGE_CHUNKS):
        if chunk.state not in ENDED or chunk.position != last + 1:
            break
        last = chunk.position
        bounds += [chunk.start_seconds, chunk.end_seconds]
        if chunk.state == "done":
            done.append(DoneChunk(chunk.position, chunk.start_seconds, chunk.end_seconds, chunk.result_key))
    nothing_follows = row.chunking_done or row.state in FINISHED | {"assembling"}
    finished = nothing_follows and last >= row.chunks - 1
    start = -math.inf if after < 0 else min(bounds, default=0.0)
    end = math.inf if finished else max(bounds, default=0.0)
    document = row.transcript_key if row.recognition.diarize and row.state in ("done", "incomplete") else None
    return EndedChunks(done, last, finished, start, end, edits_after(tx, row.id) if bounds else (), document)


class Renderer:
    """Writes transcripts as files, a few at a time, on threads of its own: the database does not wait for them."""

    def __init__(self, store: StoreThreads, blobs: Blobs) -> None:
        self._store, self._blobs = store, blobs
        self._threads = ThreadPoolExecutor(RENDERS_AT_ONCE, "farm-render")
        self._turns = asyncio.Semaphore(RENDERS_AT_ONCE)
        self._one_each = OneEach()

    async def file(
        self, row: TranscriptionRow, wanted: OutputFormat, at: int | None = None, struck: bool = False
    ) -> bytes:
        """A transcript with its edits as the content of a file; raises `ServerBusy` if that takes too long.

        `at` is the number of the last edit that is laid over it; None means all. What is struck out is left out.
        """
        key = transcript_key_of(row)
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                async with self._one_each.of(row.owner):
                    edits = await self._store.read(lambda tx: edits_after(tx, row.id))
                    return await self._in_turn(
                        key, lambda document: wanted.write(_edited(document, row.transcript_sha256, edits[:at], struck))
                    )
        except (InvalidTranscript, BlobMissing):
            await self._store.write(lambda tx: rebuild(tx, row.id))
            raise
        except TimeoutError:
            raise ServerBusy(f"The {wanted.name} file was not ready in {RENDER_SECONDS:g} s; try again.") from None

    async def check(self, row: TranscriptionRow) -> None:
        """Raise `InvalidTranscript` if the stored transcript is gone or damaged, and have it put together again."""
        with suppress(BlobMissing, DigestMismatch):
            return await self._blobs.verify(transcript_key_of(row), row.transcript_size or 0, row.transcript_sha256)
        await self._store.write(lambda tx: rebuild(tx, row.id))
        raise InvalidTranscript(DAMAGED)

    def close(self) -> None:
        """Take no more work. What is being written ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_turn(self, transcript_key: str, write: Callable[[bytes], bytes]) -> bytes:
        """A turn lasts until the thread is free again, though nobody may wait for it any more."""
        await self._turns.acquire()
        try:
            document = await self._blobs.get(transcript_key)
            work = self._threads.submit(write, document)
        except BaseException:
            self._turns.release()
            raise
        work.add_done_callback(partial(self._end_turn, asyncio.get_running_loop()))
        return await asyncio.wrap_future(work)

    def _end_turn(self, loop: asyncio.AbstractEventLoop, _: Future[bytes]) -> None:
        """Called by the thread; the loop may be closed already."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._turns.release)


def transcript_key_of(row: TranscriptionRow) -> str:
    """Where the transcript is; raises `WrongState` before there is one."""
    if row.state == "failed" and row.error_message:
        why = row.error_message.removeprefix(f"{row.name}: ")
        raise WrongState(f"{row.name} has failed and has no transcript: {why}")
    if row.transcript_key is None or row.state not in ("done", "incomplete"):
        raise WrongState(f"{row.name} is {row.state}; it has no transcript yet.")
    return row.transcript_key


def _edited(document: bytes, sha256: str | None, edits: Sequence[Edit], struck: bool) -> Transcript:
    machine = read_document(document, sha256)
    segments = laid(machine.segments, edits)
    kept = tuple(segment for segment in segments if struck or not segment.struck)
    return replace(machine, segments=kept, edits=len(edits))


def read_document(document: bytes, sha256: str | None = None) -> Transcript:
    """The stored transcript; raises `InvalidTranscript` for one that was damaged, if only its digest says so."""
    if sha256 not in (None, hashlib.sha256(document).hexdigest()):
        raise InvalidTranscript(DAMAGED)
    try:
        return from_json(json.loads(document))
    except ValueError as error:
        raise InvalidTranscript(DAMAGED) from error


def gaps_of(tx: Transaction, rows: Sequence[TranscriptionRow]) -> dict[str, tuple[Gap, ...]]:
    """The stretches of each of these recordings that will have no result as things stand, and why."""
    failed: dict[str, list[FailedJob]] = {row.id: [] for row in rows}
    for job in failed_jobs(tx, list(failed)):
        failed[job.transcription_id].append(job)
    found = {row.id: [*_given_up(row, failed[row.id]), *_missing_in_file(row)] for row in rows}
    return {name: tuple(sorted(gaps, key=lambda gap: gap.start_seconds)) for name, gaps in found.items()}


def _given_up(row: TranscriptionRow, failed: Iterable[FailedJob]) -> Iterable[Gap]:
    """Chunks set aside, and what was never cut."""
    for job in failed:
        if job.kind == "transcribe":
            yield Gap.of(job, reason=f"{job.error_code}: {job.error_message}")
        else:
            end = max(row.cut_seconds, row.declared_seconds or 0.0)
            reason = f"not cut: {job.error_code}: {job.error_message}"
            yield Gap(start_seconds=row.cut_seconds, end_seconds=end, reason=reason)


def _missing_in_file(row: TranscriptionRow) -> Iterable[Gap]:
    """What is damaged in the file, and what it promised but does not hold: no retry brings it back."""
    for start, end in row.damaged or ():
        if end - start > DAMAGE_SECONDS:
            yield Gap(start_seconds=start, end_seconds=end, reason=damage_in_words(row.damaged_packets))
    decoded, declared = row.duration_seconds, row.declared_seconds
    if decoded is None or declared is None:
        return
    if declared - decoded > max(CUT_OFF_SECONDS, CUT_OFF_SHARE * declared):
        reason = f"the file declares {declared:.1f} s but holds {decoded:.1f} s"
        yield Gap(start_seconds=decoded, end_seconds=declared, reason=reason)


def maker_of(tx: Transaction, row: TranscriptionRow) -> Maker:
    """What recognised the recording: distinct versions, devices and workers of the results that count."""
    rows = makers_of(tx, row.id)
    return Maker(
        engine=str(row.options["engine"]),
        version=", ".join(_distinct(each.facts["engine_version"] for each in rows)),
        model=str(row.options["model"]),
        revision=row.revision or "",
        devices=_distinct(each.facts["device"] for each in rows),
        workers=_distinct(each.worker_name or each.worker_id for each in rows),
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))
