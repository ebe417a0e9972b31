"""Transcripts as files: what they are called, and each file whole or not there at all.

Promises: `<stem>.<extension>` inside the folder. Does not decide whether a file that is there already may be replaced:
it is.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_farm.errors import InvalidRequest, NoSpace, StorageError
from whisper_farm.transcript.cues import PLAIN, CueLayout
from whisper_farm.transcript.formats import FORMATS, output_format
from whisper_farm.whole_files import write_whole

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Transcript

MOST_NAMESAKES = 10_000


def save(
    transcript: Transcript, folder: Path, stem: str, formats: Iterable[str], layout: CueLayout = PLAIN
) -> list[Path]:
    """Write `<folder>/<stem>.<extension>` for each format and say which files that made; the folder is made too.

    Raises `InvalidRequest` for a format or stem that cannot be, before anything is written. Raises `NoSpace` or
    `StorageError`, which name the file, when it cannot be written.
    """
    wanted = [output_format(name).laid_out(layout) for name in dict.fromkeys(formats)]
    if stem in ("", "..") or "\0" in stem or Path(stem).name != stem:
        raise InvalidRequest(f"{stem!r} cannot be the name of a file.")
    files = [folder / f"{stem}.{format.extension}" for format in wanted]
    for file, format in zip(files, wanted, strict=True):
        _write(file, format.write(transcript))
    return files


def split_name(name: str) -> tuple[str, str]:
    """A recording's name and its extension, as whisper splits them; "Dr. Smith talks" is a title and has none."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - as whisper splits; pathlib differs
    return (name, "") if " " in extension else (stem, extension)


def stems_for(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A stem for each recording, such that no two write the same file, also where the disk ignores case.

    It is whisper's (the name without its extension) where no other recording has the same. Else it is the whole
    name, with a number after it where even that is taken.
    """
    names = [Path(path).name for path in paths]
    stems = [split_name(name)[0] for name in names]
    count = Counter(on_disk(stem) for stem in stems)
    taken = {stem for stem, times in count.items() if times == 1}
    return [
        stem if count[on_disk(stem)] == 1 else _free_stem(name, taken) for name, stem in zip(names, stems, strict=True)
    ]


def fitting_stems(paths: Sequence[str | os.PathLike[str]], folder: Path) -> list[str]:
    """The same for names that may be too long for this folder."""
    taken: set[str] = set()
    return [_free_stem(fitting(stem, folder), taken) for stem in stems_for(paths)]


def fitting(stem: str, folder: Path) -> str:
    """The name, shortened to what the file system takes with a number and any extension."""
    longest = max((format.extension for format in FORMATS.values()), key=len)
    while len(stem) > 1:
        try:
            os.lstat(folder / f"{stem}-{MOST_NAMESAKES}.{longest}")
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
                stem = stem[:-1]
                continue
        break
    return stem


def _free_stem(name: str, taken: set[str]) -> str:
    stem, number = name, 1
    while on_disk(stem) in taken:
        number += 1
        stem = f"{name}-{number}"
    taken.add(on_disk(stem))
    return stem


def on_disk(stem: str) -> str:
    """What two names have in common that are one on some disk."""
    return unicodedata.normalize("NFC", stem).casefold()


def _write(file: Path, content: bytes) -> None:
    try:
        write_whole(file, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space is left to write {file}; make room or choose another folder.") from error
        why = error.strerror or error
        raise StorageError(f"Cannot write {file}: {why}. Choose a folder that can be written to.") from error
