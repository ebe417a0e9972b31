"""What the outputs of recordings are called, and which recording an output is of.

Promises: a recording keeps the names that its outputs have, whatever else is in a command and whatever came beside it
since. Nothing is called as the outputs of another recording. It is known of which bytes outputs were made, if a command
of this user made them: notes in the data folder say so. A name fits the file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from whisper_farm.cli.files import Inputs, Outputs, Recording
from whisper_farm.cli.sending import Fingerprint, fingerprint_of
from whisper_farm.errors import FarmError, StorageError
from whisper_farm.ingest.addresses import link_name
from whisper_farm.times import DAY_SECONDS
from whisper_farm.transcript.saving import MOST_NAMESAKES, fitting, on_disk, split_name, stems_for
from whisper_farm.whole_files import write_whole

CLAIM_SECONDS = DAY_SECONDS
"""How long a name is kept for a recording that has no outputs yet."""


@dataclass(frozen=True, slots=True)
class Note:
    """Whose outputs have a name: the digest of the path, and what the file was when they were made (None: not yet)."""

    source: str
    made_of: Fingerprint | None = None


class Notes:
    """A user's notes on the outputs of a command, one small file each."""

    def __init__(self, folder: Path, outputs: Outputs) -> None:
        self.outputs, self._folder = outputs, folder

    def of(self, stem: str) -> Note | None:
        """The note of the outputs with this name; None where there is none, or one that is out of date."""
        file = self._file(stem)
        try:
            written = json.loads(file.read_text(encoding="utf-8"))
            made_of = written["made_of"] and Fingerprint(**written["made_of"])
            claimed = time.time() - file.stat().st_mtime < CLAIM_SECONDS
            kept = claimed or self.outputs.any_there(written["stem"])
            return Note(written["source"], made_of) if kept else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, recording: Recording, made_of: Fingerprint | None = None) -> None:
        """Note that this name is that recording's, and of what its outputs were made."""
        note = json.dumps({**asdict(Note(_source(recording), made_of)), "stem": recording.stem})
        try:
            write_whole(file := self._file(recording.stem), note.encode(), private=True)
        except OSError as error:
            raise StorageError(
                f"{file} cannot be written: {error.strerror}; make room, or set WHISPER_FARM_DATA."
            ) from error

    def is_there(self, recording: Recording) -> bool:
        """Whether its outputs are there, and of what it is now as far as is known."""
        note = self.of(recording.stem)
        return self.outputs.there(recording.stem) and (note is None or _is_made_of(note, recording))

    def _file(self, stem: str) -> Path:
        """Names that are one on some disk share a note."""
        place = Path(os.path.realpath(self.outputs.folder / stem))
        target = os.fsencode(place.parent / on_disk(place.name))
        return self._folder / f"{hashlib.sha256(target).hexdigest()[:32]}.json"


def as_recordings(inputs: Inputs, notes: Notes) -> list[Recording]:
    """The files and links of a run with the names of their outputs; what was found inside folders is mirrored."""
    by_folder: dict[Path, list[Recording]] = defaultdict(list)
    drafts = [Recording(path, "", None, path in inputs.piped) for path in inputs.files]
    drafts += [Recording(Path(link_name(link)), "", link) for link in inputs.links]
    for draft in drafts:
        by_folder[inputs.folders.get(draft.path, Path())].append(draft)
    stems: dict[Recording, str] = {}
    for folder, some in by_folder.items():
        stems |= _named(folder, some, notes)
    return [replace(draft, stem=stems[draft]) for draft in drafts]


def _named(folder: Path, drafts: Sequence[Recording], notes: Notes) -> dict[Recording, str]:
    """The names of recordings whose outputs go into one folder: first those that have one already."""
    found: dict[Recording, str] = {}
    called = {draft: _called(draft, notes.outputs.name) for draft in drafts}
    for draft, path in called.items():
        usual = split_name(path.name)[0]
        for number, stem in enumerate(_candidates(path, usual, notes.outputs)):
            note = notes.of(str(folder / stem))
            if note is not None and (note.source == _source(draft) or _is_made_of(note, draft)):
                found[draft] = str(folder / stem)
            if draft in found or (note is None and number):
                break
    taken = {on_disk(stem) for stem in found.values()}
    fresh = [draft for draft in drafts if draft not in found]
    for draft, first in zip(fresh, stems_for([called[draft] for draft in fresh]), strict=True):
        for stem in _candidates(called[draft], first, notes.outputs):
            whole = str(folder / stem)
            if on_disk(whole) not in taken and notes.of(whole) is None:
                break
        found[draft] = whole
        taken.add(on_disk(whole))
    return found


def _called(draft: Recording, name: str) -> Path:
    """The path of a recording under another name; what is no file here changed today."""
    stem, extension = split_name(draft.path.name)
    changed = time.time()
    if not draft.link:
        with suppress(OSError):  # whoever reads the file says so
            changed = draft.path.stat().st_mtime
    day = time.strftime("%Y-%m-%d", time.localtime(changed))
    called = name.replace("{date}", day).replace("{stem}", stem)
    return Path(called + (extension or ("." if called != stem else "")))


def _candidates(path: Path, first: str, outputs: Outputs) -> Iterator[str]:
    yield fitting(first, outputs.folder)
    name = fitting(path.name, outputs.folder)
    yield name
    yield from (f"{name}-{number}" for number in range(2, MOST_NAMESAKES))


def _is_made_of(note: Note, recording: Recording) -> bool:
    """Whether outputs were made of what the recording is now; what a link leads to is not looked at."""
    if recording.link or note.made_of is None:
        return bool(recording.link) and note.source == _source(recording)
    try:
        facts, made_of = recording.path.stat(), note.made_of
        if facts.st_size != made_of.size:
            return False
        same = note.source == _source(recording) and facts.st_mtime_ns == made_of.modified_ns
        return same or fingerprint_of(recording.path, threading.Event()).sha256 == made_of.sha256
    except (OSError, FarmError):
        return False


def _source(recording: Recording) -> str:
    file = Path.cwd() / recording.path.name if recording.piped else recording.path
    place = recording.link or os.path.realpath(file)
    return hashlib.sha256(os.fsencode(place)).hexdigest()
