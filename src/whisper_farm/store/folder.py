"""What is particular to a folder of blobs: how it is opened, small files written, unfinished ones swept.

Results arrive many at once, and the library takes several times as long for each as `put_all` does. A file is there
whole or not at all. What a killed process left unfinished is swept later.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from whisper_farm.errors import StoreUnavailable

UNFINISHED = re.compile(r".+#\d+")
"""How a file is named while it is written, by us and by the library that streams the large ones."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
TRIES = 10


def open_folder(path: Path) -> LocalStore:
    """A folder of blobs, made if it is missing."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)  # one that was there, too: what is in it is nobody else's
        return LocalStore(path.absolute(), automatic_cleanup=True)
    except (BaseError, OSError) as error:
        raise StoreUnavailable(f"The folder {path} for blobs cannot be used: {error}") from error


def put_all(folder: Path, blobs: Mapping[str, bytes]) -> None:
    """Write small files, one after the other. When one raises `OSError`, others may be there."""
    for key, data in blobs.items():
        file = f"{folder}/{key}"
        part = f"{file}#{secrets.randbits(48)}"
        try:
            _write(part, data)
            os.replace(part, file)  # noqa: PTH105 # a `Path` for each costs as much as the writing
        except OSError:
            with suppress(FileNotFoundError):
                Path(part).unlink()
            raise


def sweep(folder: Path, before: float) -> int:
    """Remove unfinished files last written before that time, in epoch seconds; returns how many.

    Files and folders may go meanwhile: others sweep and delete, too.
    """
    unfinished = (
        Path(parent, name) for parent, _, names in os.walk(folder) for name in names if UNFINISHED.fullmatch(name)
    )
    return sum(_swept(path, before) for path in unfinished)


def _swept(path: Path, before: float) -> bool:
    with suppress(FileNotFoundError):
        if path.stat().st_mtime < before:
            path.unlink()
            return True
    return False


def _write(file: str, data: bytes) -> None:
    descriptor = _created(file)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _created(file: str) -> int:
    """A new file, in a new folder if need be: whoever deleted the last blob of a folder removes that as well."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            return os.open(file, NEW, 0o600)
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, NEW, 0o600)
