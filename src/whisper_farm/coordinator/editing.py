"""Transcripts as people changed them: takes edits, and says how a text has changed since a client last looked.

A change is taken if the passages that it changes are as its author saw them; else it is refused with what is there
now, and nothing is lost. Changes of other passages do no harm. The newest texts are kept in memory, so that a change of
a long transcript need not read it again; what is kept is only ever added to, and any coordinator may do that.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter

from whisper_farm.coordinator.layers.auth import Caller, own
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transcripts import read_document, transcript_key_of
from whisper_farm.errors import EditConflict, FarmError, InvalidRequest, QuotaReached, ServerBusy, TooLarge, WrongState
from whisper_farm.protocol.edits import MOST_TEXT, Adoption, EditsView, NewEdit, SplicedSegments, VersionView
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.edits import add_edit, edits_after, versions_of
from whisper_farm.store.search import note_changes
from whisper_farm.store.transcriptions import TranscriptionRow
from whisper_farm.transcript.edits import (
    Edit,
    Patch,
    Rename,
    added,
    adoption,
    counting,
    difference,
    laid,
    names_after,
    next_steps,
    patches_of,
    renamed,
    replaced,
    stands,
    within,
)
from whisper_farm.transcript.fitting import fitted
from whisper_farm.transcript.transcript import Segment

KEPT_BYTES = 48 << 20
"""Of documents whose text is kept in memory; the last one is kept however long it is."""
KNOWN_TEXTS = 4
"""Texts of one transcription, at different numbers; they share what is the same."""
TRIES = 10
"""How often a change is made anew because another one was added first."""
MOST_REPLACED = 16_000_000
"""Letters of a whole text after a replacement."""
MOST_RENAMES = 1000
"""Speakers of one transcription that are named anew: each costs a walk over the text whenever it is read."""
MOST_PASSAGES = 20
"""Passages that a refusal shows."""


@dataclass(frozen=True, slots=True)
class Text:
    """What the machine heard, and the log of edits; `known` are texts that were made already, by their numbers."""

    machine: tuple[Segment, ...]
    edits: Sequence[Edit]
    known: dict[int, list[Segment]] = field(default_factory=dict)

    def at(self, number: int) -> list[Segment]:
        """The text as it was at a number; the newest at the number of edits."""
        if (found := self.known.get(number)) is None:
            before = self.known.get(number - 1)
            if before is None or self.edits[number - 1].reverses:
                found = laid(self.machine, self.edits[:number])
            else:
                found = added(before, self.machine, self.edits[number - 1])
            self.known[number] = found
            for old in list(self.known)[:-KNOWN_TEXTS]:  # other threads do so, too
                self.known.pop(old, None)
        return found

    def renames_after(self, number: int) -> list[Edit]:
        """The speakers that were named anew since, as far as that still counts."""
        return [edit for edit in counting(self.edits) if edit.number > number and edit.rename]


@dataclass(frozen=True, slots=True)
class Said:
    """What an edit changes for those who search: from where to where passages began, and what is said now and when."""

    removed: Sequence[tuple[float, float]]
    added: Sequence[tuple[float, str]]


@dataclass(slots=True)
class _Kept:
    key: str
    size: int
    text: Text


class Texts:
    """Reads texts, and takes edits."""

    def __init__(self, store: StoreThreads, blobs: Blobs) -> None:
        self._store, self._blobs = store, blobs
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def edit(self, row: TranscriptionRow, caller: Caller, wanted: NewEdit) -> EditsView:
        """Take a change; raises `EditConflict`, `WrongState` and what the caller may not see."""
        adopted = [] if wanted.adopt is None else await self._adopted(row, caller, wanted.adopt)
        transcription_id = row.id
        for _ in range(TRIES):
            if await self._add(row, caller, wanted, adopted):
                return await self.since(row, caller, wanted.based_on)
            row = await self._store.read(lambda tx: own(tx, caller, transcription_id))
        raise ServerBusy("Too many people change this transcript at once; try again.")

    async def _add(self, row: TranscriptionRow, caller: Caller, wanted: NewEdit, adopted: Sequence[Segment]) -> bool:
        """False if another edit, or another transcript, came first."""
        text = await self._text(row)
        if await asyncio.to_thread(_is_taken, text, wanted, caller.owner, adopted):
            return True
        edit, said = await asyncio.to_thread(_made_and_said, text, wanted, caller.owner, adopted)

        def add(tx: Transaction) -> bool:
            now = own(tx, caller, row.id)
            if transcript_key_of(now) != row.transcript_key or not add_edit(tx, now, edit):
                return False
            note_changes(tx, now.id, said.removed, said.added)
            return True

        return await self._store.write(add)

    async def since(self, row: TranscriptionRow, caller: Caller, number: int | None) -> EditsView:
        """How the text has changed since that number; None means that the text is not asked for."""
        text = await self._text(row)
        versions = await self._store.read(lambda tx: versions_of(tx, row.id))
        undo, redo = next_steps(text.edits, caller.owner)
        return EditsView(
            number=len(text.edits),
            changes=() if number is None else await asyncio.to_thread(_changes, text, number),
            undo=undo,
            redo=redo,
            versions=tuple(map(VersionView.of, versions)),
        )

    async def _adopted(self, row: TranscriptionRow, caller: Caller, adopt: Adoption) -> list[Segment]:
        other = await self._store.read(lambda tx: own(tx, caller, adopt.transcription_id))
        text = await self._text(other)
        found = [one for one in within(text.at(len(text.edits)), adopt.start, adopt.end) if not one.struck]
        # Whoever is `Speaker 1` there may be anybody here.
        both = row.recognition.diarize and other.recognition.diarize
        return [replace(one, speaker=None) for one in found] if both else found

    async def _text(self, row: TranscriptionRow) -> Text:
        key = transcript_key_of(row)
        kept = self._kept.get(row.id)
        if kept is None or kept.key != key:
            document = await self._blobs.get(key)
            transcript = await asyncio.to_thread(read_document, document)
            kept = self._keep(row.id, _Kept(key, len(document), Text(transcript.segments, ())))
        found = await self._store.read(lambda tx: edits_after(tx, row.id, len(kept.text.edits)))
        before = kept.text.edits  # others may have read some of it meanwhile
        fresh = [edit for edit in found if edit.number > len(before)]
        kept.text = replace(kept.text, edits=(*before, *fresh))
        return kept.text

    def _keep(self, transcription_id: str, kept: _Kept) -> _Kept:
        self._kept[transcription_id] = kept
        self._kept.move_to_end(transcription_id)
        while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return kept


def _changes(text: Text, number: int) -> tuple[SplicedSegments, ...]:
    found = difference(text.at(number), text.at(len(text.edits)))
    return tuple(map(SplicedSegments.of, found))


def _made_and_said(text: Text, wanted: NewEdit, author: str, adopted: Sequence[Segment]) -> tuple[Edit, Said]:
    edit = _made(text, wanted, author, adopted)
    old, new = text.at(len(text.edits)), Text(text.machine, (*text.edits, edit), dict(text.known)).at(edit.number)
    splices = difference(old, new)
    removed = [(old[one.at].start, old[one.at + one.removed - 1].start) for one in splices if one.removed]
    start = attrgetter("start")
    changed = [segment for one in splices for segment in one.segments]
    for first, last in removed:  # others may have begun to speak just then
        changed += new[bisect_left(new, first, key=start) : bisect_right(new, last, key=start)]
    unique = {id(segment): segment for segment in changed}.values()
    return edit, Said(removed, [(segment.start, segment.text) for segment in unique if not segment.struck])


def _is_taken(text: Text, wanted: NewEdit, author: str, adopted: Sequence[Segment]) -> bool:
    """Whether this very change was the next one: whoever asks has lost the answer, and asks again."""
    number = wanted.based_on
    if number >= len(text.edits) or text.edits[number].author != author:
        return False
    try:
        return _made(Text(text.machine, text.edits[:number]), wanted, author, adopted) == text.edits[number]
    except FarmError:
        return False


def _made(text: Text, wanted: NewEdit, author: str, adopted: Sequence[Segment]) -> Edit:
    newest = len(text.edits)
    if wanted.based_on > newest:
        raise InvalidRequest(f"`based_on`: the newest edit is {newest}.")
    number = newest + 1
    if wanted.rename is not None:
        if sum(edit.rename is not None for edit in text.edits) >= MOST_RENAMES:
            raise QuotaReached(f"Speakers were named anew {MOST_RENAMES} times here, as often as they may be.")
        return Edit(number, author, rename=Rename(wanted.rename.speaker, wanted.rename.name))
    if wanted.reverse is not None:
        return Edit(number, author, reverses=(_reversible(text, wanted.reverse),))
    if wanted.back_to is not None:
        return Edit(number, author, reverses=_later_than(text, wanted.back_to, wanted.based_on))
    now = text.at(newest)
    if wanted.replace is not None:
        old, new = wanted.replace.text.strip(), " ".join(wanted.replace.by.split())
        _must_stay_bounded(now, old, new)
        patches = replaced(now, old, new)
        if not patches:
            raise WrongState("That text stands nowhere any more.")
        return Edit(number, author, tuple(patches))
    if wanted.adopt is not None:
        kept = text.edits if wanted.adopt.keep_edits else ()
        patches = adoption(now, adopted, wanted.adopt.start, wanted.adopt.end, kept)
        if not patches:
            raise WrongState("All of this passage was written by people.")
    else:
        patches = _patches(text, wanted, now)
    _must_be_unchanged(text, wanted.based_on, now, patches)
    return Edit(number, author, tuple(patches))


def _must_stay_bounded(now: Sequence[Segment], old: str, new: str) -> None:
    """Raise `TooLarge` before a replacement makes more text than anybody writes: each may multiply what is there."""
    found = [(len(one.text), stands(old, one.text)) for one in now]
    longest = max((letters + times * len(new) for letters, times in found if times), default=0)
    if longest > MOST_TEXT or sum(letters + times * len(new) for letters, times in found) > MOST_REPLACED:
        raise TooLarge(f"A segment would have more than {MOST_TEXT} letters, or all of them {MOST_REPLACED}.")


def _patches(text: Text, wanted: NewEdit, now: Sequence[Segment]) -> list[Patch]:
    renames = text.renames_after(wanted.based_on)
    found = []
    for patch in wanted.patches:
        segments = None
        if patch.segments is not None:
            new = [Segment(**one.model_dump()) for one in patch.segments]
            old = within(now, patch.start, patch.end, names_after(patch.speakers, renames))
            segments = fitted(renamed(new, renames), old)
        found.append(Patch(patch.start, patch.end, segments, names_after(patch.speakers, renames)))
    return found


def _reversible(text: Text, number: int) -> int:
    """The number of an entry that counts, and what it did is still what stands there."""
    if not 0 < number <= len(text.edits):
        raise InvalidRequest(f"There is no edit {number}.")
    if all(edit.number != number for edit in counting(text.edits)):
        raise WrongState(f"Edit {number} is undone already.")
    renames = text.renames_after(number)
    patches = [
        replace(patch, speakers=names_after(patch.speakers, renames)) for patch in patches_of(text.edits, [number])
    ]
    _must_be_unchanged(text, number, text.at(len(text.edits)), patches)
    return number


def _later_than(text: Text, number: int, based_on: int) -> tuple[int, ...]:
    newest = len(text.edits)
    if number >= newest:
        raise WrongState("The text is that version already.")
    if based_on != newest:
        raise EditConflict("Somebody else changed the text meanwhile; look at it, and go back then.", number=newest)
    return tuple(range(number + 1, newest + 1))


def _must_be_unchanged(text: Text, number: int, now: Sequence[Segment], patches: Sequence[Patch]) -> None:
    """Raise `EditConflict` if what a patch changes is not as it was at that number, names of speakers apart."""
    if number == len(text.edits):
        return
    before = renamed(text.at(number), text.renames_after(number))
    passages = []
    for patch in patches:
        stretch = patch.start, patch.end, patch.speakers
        if within(before, *stretch) != (there := within(now, *stretch)):
            segments = [asdict(segment) for segment in there]
            passages.append({"start": patch.start, "end": patch.end, "segments": segments})
    if passages:
        raise EditConflict(number=len(text.edits), passages=passages[:MOST_PASSAGES])
