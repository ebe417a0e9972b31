"""Recordings that are no files with plain names: what comes through a pipe, and names that are no text.

Promises: what comes through a pipe is written to a file, of bounded size, and never waited for without end. A name
that is no text gets another beside it; the file itself stays where it is.
"""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from whisper_farm.errors import NoSpace, SourceEmpty, SourceUnreadable, TooLarge
from whisper_farm.settings import data_folder
from whisper_farm.whole_files import make_data_folder

STDIN = "-"
BLOCK_BYTES = 1 << 20
MOST_BYTES = 32 << 30
SPARE_BYTES = 256 << 20
"""What is left free on the disk."""
PATIENCE_SECONDS = 600.0
"""How long nothing may come."""


@contextmanager
def spooling() -> Iterator[Path]:
    """A folder for what comes through pipes, as long as it is needed."""
    make_data_folder(data_folder())
    with TemporaryDirectory(prefix="spool-", dir=data_folder()) as folder:
        yield Path(folder)


def spooled(word: str, folder: Path) -> Path:
    """The file that a pipe, or the standard input where the word is `-`, was written to, to its end."""
    name = "stdin" if word == STDIN else Path(word).name
    place = folder / hashlib.sha256(os.fsencode(word)).hexdigest()[:16]
    place.mkdir()
    if word == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise SourceUnreadable(f"{STDIN}: nothing is piped into the standard input.")
        descriptor = os.dup(sys.stdin.fileno())
    else:
        descriptor = os.open(word, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        _copy(word, descriptor, place / name)
    finally:
        os.close(descriptor)
    return place / name


def _copy(word: str, descriptor: int, file: Path) -> None:
    size = 0
    with file.open("wb") as out:
        while block := _read(word, descriptor):
            size += len(block)
            if size > MOST_BYTES:
                raise TooLarge(f"{word}: more than {MOST_BYTES >> 30} GB came through this pipe.")
            if shutil.disk_usage(file.parent).free < SPARE_BYTES + len(block):
                raise NoSpace(f"{word}: the disk of {file.parent} has no room for what comes through this pipe.")
            out.write(block)
    if not size:
        raise SourceEmpty(f"{word}: nothing came through this pipe.")


def _read(word: str, descriptor: int) -> bytes:
    if hasattr(select, "poll"):
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        if not waiting.poll(PATIENCE_SECONDS * 1000):
            raise SourceUnreadable(f"{word}: nothing came through this pipe for {PATIENCE_SECONDS / 60:.0f} minutes.")
    return os.read(descriptor, BLOCK_BYTES)


def with_plain_name(path: Path, folder: Path) -> Path:
    """The path, or one that leads to the same file and is text. SourceUnreadable where there can be none."""
    if not any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        return path
    link = folder / (hashlib.sha256(os.fsencode(path)).hexdigest() + path.suffix.encode("ascii", "ignore").decode())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not link.is_symlink():
            link.symlink_to(path)
    except OSError as error:
        raise SourceUnreadable(f"{path}: the name of this file is no valid text; rename it.") from error
    return link
