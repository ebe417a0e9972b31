"""What the words after the flags stand for: files, folders and patterns become one list of recordings.

Promises: the order of the command line is kept, folders and patterns come sorted, a recording named twice is
there once, names with any letters survive. Opens no file; whether a file is audio, its decoder says.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_farm.errors import AudioError, SourceMissing, SourceUnreadable

EXTENSIONS = frozenset({
    "3gp", "aac", "ac3", "aif", "aiff", "amr", "ape", "au", "avi", "caf", "dts", "flac", "flv", "m4a", "m4b", "m4v",
    "mka", "mkv", "mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "mpga", "mts", "oga", "ogg", "ogv", "opus", "ra", "ts",
    "tta", "vob", "w64", "wav", "webm", "wma", "wmv", "wv",
})  # fmt: skip
"""What counts as a recording inside a folder; a file named on the command line is always taken."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """An input that cannot be transcribed, and why."""

    name: str
    error: AudioError


@dataclass(frozen=True, slots=True)
class Inputs:
    """The recordings to transcribe, and the inputs that are none."""

    files: tuple[Path, ...]
    unusable: tuple[Unusable, ...]


def recordings(words: Sequence[str]) -> Inputs:
    """All recordings that the words name, each once."""
    files: dict[str, Path] = {}
    unusable: list[Unusable] = []
    for found in (found for word in words for found in _expand_or_explain(word)):
        if isinstance(found, Unusable):
            unusable.append(found)
        else:
            files.setdefault(os.path.normcase(os.path.realpath(found)), found)
    return Inputs(tuple(files.values()), tuple(unusable))


def _expand_or_explain(word: str) -> Iterator[Path | Unusable]:
    try:
        yield from _expand(word)
    except OSError as error:
        yield Unusable(word, SourceUnreadable(f"{word}: this cannot be read ({error.strerror})."))


def _expand(word: str) -> Iterator[Path | Unusable]:
    if not word:  # a variable that was never set, most likely; for Path it is the current folder
        yield Unusable(word, SourceMissing("'': this names no file; a dot names the current folder."))
        return
    path = Path(word).expanduser()
    if not os.path.lexists(path) and glob.has_magic(word):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)
        if not matches:
            yield Unusable(word, SourceMissing(f"{word}: no file matches this pattern."))
        for match in matches:
            yield from _inside(Path(match)) if Path(match).is_dir() else [Path(match)]
    elif path.is_dir():
        inside = list(_inside(path))
        yield from inside
        if not inside:
            yield Unusable(word, SourceMissing(f"{word}: no audio or video file in this folder."))
    elif not path.exists():
        yield Unusable(word, SourceMissing(f"{word}: there is no such file."))
    elif not path.is_file():
        yield Unusable(word, SourceUnreadable(f"{word}: this is no ordinary file."))
    else:
        yield path


def _inside(folder: Path) -> Iterator[Path | Unusable]:
    """The recordings in a folder and below it, in order of name; hidden ones are left alone."""
    refused: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(_recordings_among(names)))
    for error in refused:
        name = str(error.filename or folder)
        yield Unusable(name, SourceUnreadable(f"{name}: this folder cannot be read ({error.strerror})."))


def _recordings_among(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not name.startswith(".") and Path(name).suffix.lstrip(".").lower() in EXTENSIONS:
            yield name
