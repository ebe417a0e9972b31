"""The files of a run: the recordings that the command line names, and the outputs that are written.

Promises: the order of the command line is kept. Folders and patterns come sorted. A recording named twice is there
once, as the file and not as a link to it. Names with any letters survive. No two recordings of a run write the same
file. A file is whole or not there. Nothing is transcribed before it is known that the folder can be written to. Whether
a file is audio, its decoder says.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from whisper_farm.cli.spool import STDIN, spooled
from whisper_farm.errors import FarmError, SourceMissing, SourceUnreadable, StorageError
from whisper_farm.ingest.addresses import check_url, is_link
from whisper_farm.showing import printable
from whisper_farm.transcript.cues import PLAIN, CueLayout
from whisper_farm.transcript.formats import FORMATS, output_format
from whisper_farm.transcript.saving import save
from whisper_farm.transcript.transcript import Transcript

EXTENSIONS = frozenset({
    "3gp", "aac", "ac3", "aif", "aiff", "amr", "ape", "au", "avi", "caf", "dts", "flac", "flv", "m4a", "m4b", "m4v",
    "mka", "mkv", "mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "mpga", "mts", "oga", "ogg", "ogv", "opus", "ra", "ts",
    "al", "alaw", "g722", "gsm", "sln", "ul", "ulaw", "tta", "vob", "w64", "wav", "webm", "wma", "wmv", "wv",
})  # fmt: skip
"""What counts as a recording inside a folder; a file named on the command line is always taken."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_Found = tuple[Path, Path] | FarmError
"""A file, and where below a folder of the command line it was found; or why something is none."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The recordings to transcribe, and why other inputs are none."""

    files: tuple[Path, ...]
    links: tuple[str, ...]
    errors: tuple[FarmError, ...]
    folders: Mapping[Path, Path]
    """Where below a folder of the command line each file was found."""
    piped: frozenset[Path]
    """Files that hold what came through a pipe."""


def recordings(words: Sequence[str], spool: Path | None = None) -> Inputs:
    """All recordings that the words name, each once: files, and links, which are left as they are.

    What comes through pipes is written into the folder `spool`.
    """
    files: dict[str, Path] = {}
    folders: dict[Path, Path] = {}
    piped: set[Path] = set()
    links: dict[str, None] = {}
    errors: list[FarmError] = []
    for word in dict.fromkeys(words):
        try:
            if is_link(word):
                links[check_url(word)] = None
                continue
            found: Iterable[_Found] = _expand(word)
            if spool is not None and (word == STDIN or Path(word).is_fifo()):
                piped.add(file := spooled(word, spool))
                found = [(file, Path())]
            for one in found:
                if isinstance(one, FarmError):
                    errors.append(one)
                else:
                    known = files.setdefault(real := os.path.normcase(os.path.realpath(one[0])), one[0])
                    if known.is_symlink() and not one[0].is_symlink():
                        files[real] = one[0]
                    folders.setdefault(one[0], one[1])
        except FarmError as error:
            errors.append(error)
        except OSError as error:
            errors.append(SourceUnreadable(f"{word}: this cannot be read ({error.strerror})."))
    return Inputs(tuple(files.values()), tuple(links), tuple(errors), folders, frozenset(piped))


def _expand(word: str) -> Iterator[_Found]:
    if not word:  # a variable that was never set, most likely; for Path it is the current folder
        yield SourceMissing("'': this names no file; a dot names the current folder.")
        return
    path = Path(word).expanduser()
    if _ADDRESS.match(word) and not os.path.lexists(path):
        yield SourceUnreadable(f"{word}: this is an address that cannot be fetched; give a file or an https link.")
    elif not os.path.lexists(path) and glob.has_magic(word):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)
        if not matches:
            yield SourceMissing(f"{word}: no file matches this pattern.")
        for match in matches:
            yield from _inside(Path(match)) if Path(match).is_dir() else [(Path(match), Path())]
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
        yield path, Path()


def _inside(folder: Path) -> Iterator[_Found]:
    """The recordings in a folder and below it, in order of name; hidden ones are left alone."""
    refused: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lstrip(".").lower() in EXTENSIONS:
                yield Path(place, name), Path(place).relative_to(folder)
    for error in refused:
        name = str(error.filename or folder)
        yield SourceUnreadable(f"{name}: this folder cannot be read ({error.strerror}).")


@dataclass(frozen=True, slots=True)
class Recording:
    """A file or link to transcribe: where it is, what it is called on the screen, what its outputs are called."""

    path: Path
    stem: str
    link: str | None = None
    piped: bool = False

    @property
    def name(self) -> str:
        return self.link or (self.path.name if self.piped else str(self.path))


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the outputs of a run go."""

    folder: Path
    formats: Sequence[str]
    layout: CueLayout = PLAIN
    name: str = "{stem}"
    """What they are called: the recording's name without its extension, and {date}, its last change."""

    @classmethod
    def into(cls, folder: str, formats: Sequence[str], layout: CueLayout = PLAIN, name: str = "{stem}") -> Outputs:
        """Outputs into a folder, which is made if need be. StorageError if nothing can be written there."""
        place = Path(folder).expanduser()
        try:
            place.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=place, prefix=".whisper-farm-"):
                pass
        except OSError as error:
            reason = f"({error.strerror}); give another with -o"
            raise StorageError(f"{folder}: cannot be used as output folder {reason}.") from error
        return cls(place, tuple(formats), layout, name)

    def files(self, stem: str) -> list[Path]:
        """The files that a recording's outputs are written to."""
        return [self.folder / f"{stem}.{output_format(format).extension}" for format in self.formats]

    def there(self, stem: str) -> bool:
        """Whether all outputs of a recording exist."""
        return all(file.is_file() for file in self.files(stem))

    def any_there(self, stem: str) -> bool:
        """Whether any output of a recording exists, in any format."""
        return any((self.folder / f"{stem}.{known.extension}").is_file() for known in FORMATS.values())

    def write(self, transcript: Transcript, stem: str) -> list[Path]:
        """Write a recording's outputs."""
        place = self.folder / stem
        return save(transcript, place.parent, place.name, self.formats, self.layout)

    def named(self, stem: str) -> str:
        """What was written, in few words: `out/talk.txt, .srt, .vtt`."""
        first, *others = (f".{output_format(format).extension}" for format in self.formats)
        return ", ".join([printable(f"{self.folder / stem}{first}"), *others])
