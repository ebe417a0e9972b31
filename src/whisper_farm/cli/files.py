"""The files of a run: the recordings that the command line names, and the outputs that are written.

Promises: the order of the command line is kept. Folders and patterns come sorted. A recording named twice is there
once. Names with any letters survive. No two recordings of a run write the same file. A file is whole or not there.
Nothing is transcribed before it is known that the folder can be written to. Whether a file is audio, its decoder says.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from whisper_farm.errors import AddressRefused, AudioError, FarmError, SourceMissing, SourceUnreadable, StorageError
from whisper_farm.ingest.addresses import check_url, is_link, link_name
from whisper_farm.transcript.formats import output_format, save, stems_for
from whisper_farm.transcript.transcript import Transcript

EXTENSIONS = frozenset({
    "3gp", "aac", "ac3", "al", "alaw", "g722", "gsm", "sln", "ul", "ulaw", "aif", "aiff", "amr", "ape", "au", "avi", "caf", "dts", "flac", "flv", "m4a", "m4b", "m4v",
    "mka", "mkv", "mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "mpga", "mts", "oga", "ogg", "ogv", "opus", "ra", "ts",
    "tta", "vob", "w64", "wav", "webm", "wma", "wmv", "wv",
})  # fmt: skip
"""What counts as a recording inside a folder; a file named on the command line is always taken."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The recordings to transcribe, and why other inputs are none."""

    files: tuple[Path, ...]
    links: tuple[str, ...]
    errors: tuple[FarmError, ...]


def recordings(words: Sequence[str]) -> Inputs:
    """All recordings that the words name, each once: files, and links, which are left as they are."""
    files: dict[str, Path] = {}
    links: dict[str, None] = {}
    errors: list[FarmError] = []
    for word in words:
        try:
            if is_link(word):
                links[check_url(word)] = None
                continue
            for found in _expand(word):
                if isinstance(found, AudioError):
                    errors.append(found)
                else:
                    files.setdefault(os.path.normcase(os.path.realpath(found)), found)
        except AddressRefused as error:
            errors.append(error)
        except OSError as error:
            errors.append(SourceUnreadable(f"{word}: this cannot be read ({error.strerror})."))
    return Inputs(tuple(files.values()), tuple(links), tuple(errors))


def _expand(word: str) -> Iterator[Path | AudioError]:
    if not word:  # a variable that was never set, most likely; for Path it is the current folder
        yield SourceMissing("'': this names no file; a dot names the current folder.")
        return
    path = Path(word).expanduser()
    if not os.path.lexists(path) and glob.has_magic(word):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)
        if not matches:
            yield SourceMissing(f"{word}: no file matches this pattern.")
        for match in matches:
            yield from _inside(Path(match)) if Path(match).is_dir() else [Path(match)]
    elif path.is_dir():
        inside = list(_inside(path))
        yield from inside
        if not inside:
            yield SourceMissing(f"{word}: no audio or video file in this folder.")
    elif not path.exists():
        yield SourceMissing(f"{word}: there is no such file.")
    elif not path.is_file():
        yield SourceUnreadable(f"{word}: this is no ordinary file.")
    else:
        yield path


def _inside(folder: Path) -> Iterator[Path | AudioError]:
    """The recordings in a folder and below it, in order of name; hidden ones are left alone."""
    refused: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lstrip(".").lower() in EXTENSIONS:
                yield Path(place, name)
    for error in refused:
        name = str(error.filename or folder)
        yield SourceUnreadable(f"{name}: this folder cannot be read ({error.strerror}).")


@dataclass(frozen=True, slots=True)
class Recording:
    """A file or link to transcribe: where it is, what it is called on the screen, what its outputs are called."""

    path: Path
    stem: str
    link: str | None = None

    @property
    def name(self) -> str:
        return self.link or str(self.path)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the outputs of a run go."""

    folder: Path
    formats: Sequence[str]

    @classmethod
    def into(cls, folder: str, formats: Sequence[str]) -> Outputs:
        """Outputs into a folder, which is made if need be. StorageError if nothing can be written there."""
        place = Path(folder).expanduser()
        try:
            place.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=place, prefix=".whisper-farm-"):
                pass
        except OSError as error:
            reason = f"({error.strerror}); give another with -o"
            raise StorageError(f"{folder}: cannot be used as output folder {reason}.") from error
        return cls(place, tuple(formats))

    def files(self, stem: str) -> list[Path]:
        """The files that a recording's outputs are written to."""
        return [self.folder / f"{stem}.{output_format(format).extension}" for format in self.formats]

    def there(self, stem: str) -> bool:
        """Whether all outputs of a recording exist."""
        return all(file.is_file() for file in self.files(stem))

    def write(self, transcript: Transcript, stem: str) -> list[Path]:
        """Write a recording's outputs."""
        return save(transcript, self.folder, stem, self.formats)

    def named(self, stem: str) -> str:
        """What was written, in few words: `out/talk.txt, .srt, .vtt`."""
        first, *others = self.files(stem)
        return ", ".join([str(first), *(file.suffix for file in others)])


def as_recordings(inputs: Inputs) -> list[Recording]:
    """The files and links of a run with the names of their outputs."""
    places = [(path, None) for path in inputs.files] + [(Path(link_name(link)), link) for link in inputs.links]
    stems = stems_for([path for path, _ in places])
    return [Recording(path, stem, link) for (path, link), stem in zip(places, stems, strict=True)]
