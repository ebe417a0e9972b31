"""Files that are whole or not there at all, whatever happens while they are written; and secrets in such files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from whisper_farm.errors import StorageError

ADMIN_TOKEN_FILE, WORKER_TOKEN_FILE, ADDRESS_FILE = "admin-token", "worker-token", "server-address"
"""What a server leaves in its data folder for commands on the same machine: its tokens, and where it is."""


def write_whole(file: Path, content: bytes, private: bool = False) -> None:
    """Write a file, also in the place of one that is there. Its folder is made. Raises the system's `OSError`.

    A `private` one, and its folder if that is made, is for its owner's eyes only.
    """
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(part, flags, 0o600 if private else 0o666), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def make_data_folder(folder: Path) -> None:
    """Make a folder where state is kept, for its owner's eyes only. Raises `StorageError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        advice = "Set WHISPER_FARM_DATA to a folder elsewhere."
        raise StorageError(f"The data folder {folder} cannot be made: {error.strerror}. {advice}") from error


def write_secret(file: Path, secret: str) -> None:
    """Write a secret, for its owner's eyes only. Raises `StorageError`."""
    try:
        write_whole(file, f"{secret}\n".encode(), private=True)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}.") from error
