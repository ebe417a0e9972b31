"""Puts transcripts together: when the last chunk of a recording has ended, its results become one document.

Results are read in order and written on as they come, so ten hours take no more memory than one. Running twice,
on two coordinators or after a death in the middle, writes a second blob and changes nothing else. A result whose
blob is gone or damaged becomes a stretch that is missing, said to be, and recognised again by a retry.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from whisper_farm.coordinator.services.service import Report, Service
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transcripts import gaps_of, heard_in, maker_of, read_document, voices_in
from whisper_farm.coordinator.transfers import transcript_key
from whisper_farm.errors import BlobMissing, FarmError, NotFound, WrongState
from whisper_farm.leases.transcriptions import Assembled, DoneChunk, assembled, next_to_assemble, results_of
from whisper_farm.log import logger
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.edits import edits_after
from whisper_farm.store.search import Passage, note_said
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.document import segment_document, to_json
from whisper_farm.transcript.edits import Edit, laid
from whisper_farm.transcript.stitch import ChunkText
from whisper_farm.transcript.transcript import (
    NO_WORDS,
    Coverage,
    Maker,
    MissingStretch,
    Segment,
    Transcript,
    languages_of,
    length_of,
)

if TYPE_CHECKING:  # NumPy is loaded where speakers are told apart
    from whisper_farm.transcript.speakers import Speakers

MAX_TRANSCRIPT_BYTES = 1 << 34
"""Far more than anybody says. The store buffers in proportion to it, so it is not larger still."""
NOTED_AT_ONCE = 500
UNDETERMINED = "und"
"""Language of a recording in which nobody said anything."""


class Assembler(Service):
    name = "assembler"
    woken_by = frozenset({"transcription_assembling"})
    period_seconds = 5
    timeout_seconds = 600

    def __init__(self, store: StoreThreads, blobs: Blobs) -> None:
        self._store, self._blobs = store, blobs
        self._log = logger()

    async def run_once(self) -> Report:
        """Assemble all that waits. What cannot be done now is left for the next run and holds up nothing else."""
        postponed: set[str] = set()
        done = 0
        while True:
            waiting = await self._store.read(lambda tx: next_to_assemble(tx, postponed))
            if waiting is None:
                return Report(assembled=done, postponed=len(postponed))
            try:
                done += await self.assemble(waiting)
            except NotFound:  # deleted meanwhile
                continue
            except FarmError as error:
                postponed.add(waiting)
                self._log.warning(
                    "a transcript waits", action="assemble", transcription_id=waiting, error=error.message
                )
            except Exception:
                postponed.add(waiting)
                self._log.exception("a transcript was not assembled", action="assemble", transcription_id=waiting)

    async def assemble(self, transcription_id: str) -> bool:
        """Write the transcript of one recording and finish it; False if somebody else was first."""
        key = transcript_key(transcription_id)
        try:
            async with self._blobs.tentative(key):
                row = await self._assembled(transcription_id, key)
        except WrongState:
            return False
        mine = row.transcript_key == key
        if not mine:
            await self._blobs.delete([key])
        return mine

    async def _assembled(self, transcription_id: str, key: str) -> TranscriptionRow:
        draft = await self._store.read(lambda tx: _draft(tx, transcription_id))
        facts = await self._blobs.put_stream(key, self._document(draft), MAX_TRANSCRIPT_BYTES)
        edits = await self._store.read(lambda tx: edits_after(tx, transcription_id))
        said = await asyncio.to_thread(_edited, await self._blobs.get(key), edits) if edits else draft.said
        await self._note_said(transcription_id, said, edits)
        made = Assembled(key, facts.size, draft.coverage(), draft.chunks, draft.lost, facts.sha256)
        return await self._store.write(lambda tx: assembled(tx, transcription_id, made))

    async def _note_said(self, transcription_id: str, said: list[Passage], edits: Sequence[Edit]) -> None:
        """Let it be searched. A few at a time: nobody waits long for a turn to write.

        Two who do so at once write the same. Raises `WrongState` if one of them has finished it.
        """
        batches = [said[at : at + NOTED_AT_ONCE] for at in range(0, len(said), NOTED_AT_ONCE)] or [[]]
        firsts = [0, *(batch[0].position for batch in batches[1:]), None]
        number = edits[-1].number if edits else 0
        for batch, first, before in zip(batches, firsts, firsts[1:], strict=False):
            await self._store.write(partial(_note, transcription_id, number, batch, first or 0, before))

    async def _document(self, draft: Draft) -> AsyncIterator[bytes]:
        yield b'{"segments": ['
        speakers = await self._speakers(draft) if draft.row.recognition.diarize else None
        async for chunk, heard in heard_in(self._blobs, draft.chunks, speakers):
            text = draft.add(chunk, heard)
            if text:
                yield text.encode()
        yield f"], {draft.rest()[1:]}".encode()

    async def _speakers(self, draft: Draft) -> Speakers:
        """Those of a recording, by the voices in all of its chunks."""
        from whisper_farm.transcript.speakers import speakers_of

        asked, voices = draft.row.recognition, await voices_in(self._blobs, draft.chunks)
        return await asyncio.to_thread(speakers_of, voices, asked.min_speakers, asked.max_speakers)


def _note(
    transcription_id: str, number: int, said: list[Passage], first: int, before: int | None, tx: Transaction
) -> None:
    row = find(tx, transcription_id)
    if row.state != "assembling" or edits_after(tx, row.id, number):
        raise WrongState(f"{row.name} was put together meanwhile.")
    note_said(tx, row.id, said, first, before)


def _edited(document: bytes, edits: Sequence[Edit]) -> list[Passage]:
    """What a transcript says with the edits that outlived its last run."""
    text = laid(read_document(document).segments, edits)
    return [Passage(n, segment.start, segment.text) for n, segment in enumerate(text) if not segment.struck]


@dataclass(slots=True)
class Draft:
    """A transcript on its way: what is known of it, and what has been put into it."""

    row: TranscriptionRow
    chunks: list[DoneChunk]
    maker: Maker
    missing: list[MissingStretch]
    lost: set[int] = field(default_factory=set)
    said: list[Passage] = field(default_factory=list)
    languages: dict[str, float] = field(default_factory=dict)
    recognised: list[tuple[float, float]] = field(default_factory=list)
    speakers: dict[str, int] = field(default_factory=dict)

    def add(self, chunk: DoneChunk, text: ChunkText | None) -> str:
        """Take in the next chunk; returns its segments as they stand in the document."""
        position, start, end, key = chunk
        if text is None:
            self.lost.add(position)
            reason = f"{BlobMissing.code}: The stored result {key} is gone or damaged."
            self.missing.append(MissingStretch(start, end, reason))
            return ""
        self.recognised.append((start, end))
        self.missing += [MissingStretch(*stretch, NO_WORDS) for stretch in text.unheard]
        heard = [self._named(segment) for segment in text.segments]
        with_words = self.row.recognition.word_timestamps or any(segment.words for segment in heard)
        first = len(self.said)
        documents = [segment_document(first + n, segment, with_words) for n, segment in enumerate(heard)]
        begin = ", " if self.said and documents else ""
        self.said += [Passage(first + n, segment.start, segment.text) for n, segment in enumerate(heard)]
        for language, seconds in languages_of(heard).items():
            self.languages[language] = self.languages.get(language, 0.0) + seconds
        return begin + ", ".join(json.dumps(document) for document in documents)

    def _named(self, segment: Segment) -> Segment:
        """Speakers that were told apart have numbers, in the order in which they begin to speak."""
        if segment.speaker is None or not self.row.recognition.diarize:
            return segment
        number = self.speakers.setdefault(segment.speaker, len(self.speakers) + 1)
        return replace(segment, speaker=f"Speaker {number}")

    def rest(self) -> str:
        """Everything of the document but its segments."""
        without_segments = Transcript(
            segments=(),
            language=self.row.language or UNDETERMINED,
            duration=self._duration,
            task=self.row.recognition.task,
            maker=self.maker,
            coverage=self.coverage(),
        )
        languages = sorted(self.languages, key=lambda code: -self.languages[code])
        text = "".join(one.text for one in self.said).strip()
        document = {**to_json(without_segments), "text": text, "languages": languages}
        return json.dumps({name: value for name, value in document.items() if name != "segments"})

    def coverage(self) -> Coverage:
        """What is there and what is missing, as far as the chunks have been added.

        A chunk may have been recognised around a stretch where the file is damaged: that is missing all the same.
        """
        missing = tuple(sorted(self.missing, key=lambda stretch: stretch.start))
        end = max([self._duration, *(stretch.end for stretch in missing)])
        duration = end - self.row.recognition.start_seconds
        gone = [(stretch.start, stretch.end) for stretch in missing]
        covered = max(0.0, length_of([*self.recognised, *gone]) - length_of(gone))
        alone = self.row.without_speakers if self.row.recognition.diarize else None
        return Coverage(duration, covered, self.row.chunks, missing, self.row.damaged_packets, alone)

    @property
    def _duration(self) -> float:
        return self.row.cut_seconds if self.row.duration_seconds is None else self.row.duration_seconds


def _draft(tx: Transaction, transcription_id: str) -> Draft:
    row = find(tx, transcription_id)
    missing = [MissingStretch(gap.start_seconds, gap.end_seconds, gap.reason) for gap in gaps_of(tx, [row])[row.id]]
    return Draft(row, results_of(tx, row.id), maker_of(tx, row), missing)
