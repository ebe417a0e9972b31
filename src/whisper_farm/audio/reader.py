"""The file underneath a recording, as FFmpeg's libraries read it.

Promises: every mistake of the user becomes one clear error that names the file. What the file raised is remembered,
because the libraries tend to take a failing read for the end of the file. A file that wants to be read for ever before
it is even recognised is stopped. Large tags before the sound are left out (`tags.py`): places count without them. What
a recording is, `source.py` finds out.
"""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from whisper_farm.audio.tags import sound_of
from whisper_farm.errors import SourceEmpty, SourceMissing, SourceUnreadable

AudioFile = str | os.PathLike[str] | BinaryIO
"""A path, or anything seekable that reads bytes."""
HEAD_BYTES = 12


class ProbeOverrunError(Exception):
    """The file was read too long or too far without being recognised."""


class ReadStoppedError(Exception):
    """Told to PyAV in place of the failure, which `raise_failure` raises."""


class Reader:
    """A seekable binary file for PyAV. Closes the file only if it opened it."""

    def __init__(self, file: AudioFile, source_name: str) -> None:
        self.source_name = source_name
        self.name = "recording"
        """What FFmpeg is told: content decides what a file is, its name nothing."""
        self._opened_here = isinstance(file, str | os.PathLike)
        self._file = _open(Path(file), source_name) if isinstance(file, str | os.PathLike) else file
        self._failure: BaseException | None = None
        self._bytes_left: int | None = None
        self._deadline = 0.0
        self._begins, self._goes_on, self._place = b"", 0, 0
        try:
            self.size, self.head = self._measure()
        except BaseException:
            self.close()
            raise

    def limit(self, max_bytes: int, seconds: float) -> None:
        """From now on, stop after this many bytes or seconds, until `unlimit`."""
        self._bytes_left, self._deadline = max_bytes, time.monotonic() + seconds

    def unlimit(self) -> None:
        """Read on without end."""
        self._bytes_left = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; PyAV copies what it gets into a buffer of that size, so never more."""
        if self._failure:
            raise ReadStoppedError
        try:
            self._spend(size)
            data = self._begins[self._place : self._place + size] or bytes(self._file.read(size)[:size])
            self._place += len(data)
            return data
        except BaseException as failure:
            self._failure = failure
            raise ReadStoppedError from failure

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; a damaged index may ask for a place before the first byte, which is refused, not raised."""
        if self._failure or (whence == os.SEEK_SET and offset < 0):
            return -1
        try:
            self._place = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence])
            self._file.seek(self._goes_on + max(0, self._place - len(self._begins)))
            return self._place
        except BaseException as failure:
            self._failure = failure
            raise ReadStoppedError from failure

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def peek(self, place: int, size: int) -> bytes:
        """The bytes at a place; what is read next stays the same."""
        at = self.tell()
        self.seek(place)
        data = self.read(size)
        self.seek(at)
        return data

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._opened_here:
            self._file.close()

    def raise_failure(self) -> None:
        """Raise what reading raised, if anything: an `OSError` as `SourceUnreadable`, all else as it was."""
        if isinstance(self._failure, OSError):
            reason = self._failure.strerror or str(self._failure) or type(self._failure).__name__
            raise SourceUnreadable(f"{self.source_name}: reading failed: {reason}") from self._failure
        if self._failure is not None:
            raise self._failure

    def _spend(self, size: int) -> None:
        if self._bytes_left is None:
            return
        self._bytes_left -= size
        if self._bytes_left < 0 or time.monotonic() > self._deadline:
            raise ProbeOverrunError

    def _measure(self) -> tuple[int, bytes]:
        try:
            size = self._file.seek(0, os.SEEK_END)
            self._begins, self._goes_on = sound_of(self._file, size)
            size += len(self._begins) - self._goes_on
            self._file.seek(self._goes_on)
            head = (self._begins or self._file.read(HEAD_BYTES))[:HEAD_BYTES]
            self._file.seek(self._goes_on)
        except (io.UnsupportedOperation, AttributeError) as failure:
            raise SourceUnreadable(f"{self.source_name}: one cannot seek in it; save it as a file first") from failure
        except OSError as failure:
            raise SourceUnreadable(f"{self.source_name}: reading failed: {failure.strerror or failure}") from failure
        if size == 0:
            raise SourceEmpty(f"{self.source_name}: the file is empty")
        return size, head


def _open(path: Path, name: str) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        # Opening a pipe would wait for ever, and opening a folder fails differently on every system.
        if stat.S_ISDIR(mode):
            raise SourceUnreadable(f"{name}: it is a folder, not a file")
        if not stat.S_ISREG(mode):
            raise SourceUnreadable(f"{name}: it is no regular file; save the recording as a file first")
        return path.open("rb")
    except FileNotFoundError as failure:
        raise SourceMissing(f"{name}: there is no such file") from failure
    except PermissionError as failure:
        raise SourceUnreadable(f"{name}: no permission to read it") from failure
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure)
        raise SourceUnreadable(f"{name}: it cannot be read: {reason}") from failure
