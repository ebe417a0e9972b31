"""Writes transcripts as files, with the names and contents that openai/whisper gives them.

Promises: `<stem>.<format>`, UTF-8, each file whole or not there at all. Text is written as whisper writes it,
except where that would break the file (a line break in a table, an arrow in a subtitle). Does not decide
whether a file that is there already may be replaced: it is.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from whisper_farm.errors import InvalidRequest, NoSpace, StorageError
from whisper_farm.transcript.document import to_json
from whisper_farm.transcript.subtitles import srt, vtt
from whisper_farm.transcript.transcript import Transcript

_WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": lambda transcript: "".join(f"{_one_line(segment.text)}\n" for segment in transcript.segments),
    "srt": lambda transcript: srt(transcript.segments),
    "vtt": lambda transcript: vtt(transcript.segments),
    "tsv": lambda transcript: _tsv(transcript),
    "json": lambda transcript: json.dumps(to_json(transcript)),
}
FORMATS: tuple[str, ...] = tuple(_WRITERS)


def render(transcript: Transcript, format: str) -> str:
    """The transcript as the text of a file in one of `FORMATS`."""
    _check_format(format)
    return _WRITERS[format](transcript)


def save(transcript: Transcript, folder: Path, stem: str, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write `<folder>/<stem>.<format>` for each format and say which files that made; the folder is made too.

    Raises `InvalidRequest` for a format or stem that cannot be, before anything is written, and `NoSpace` or
    `StorageError`, naming the file, when it cannot be written.
    """
    wanted = list(dict.fromkeys(formats))
    for format in wanted:
        _check_format(format)
    if stem in ("", "..") or "\0" in stem or Path(stem).name != stem:
        raise InvalidRequest(f"{stem!r} cannot be the name of a file.")
    files = [folder / f"{stem}.{format}" for format in wanted]
    for file, format in zip(files, wanted, strict=True):
        _write(file, render(transcript, format))
    return files


def stems_for(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A stem for each recording, such that no two write the same file, also where the disk ignores case.

    It is whisper's (the name without its extension) where no other recording has the same, else the whole
    name, with a number after it where even that is taken.
    """
    names = [Path(path).name for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 - as whisper splits; pathlib differs
    count = Counter(_on_disk(stem) for stem in stems)
    taken = {stem for stem, times in count.items() if times == 1}
    return [
        stem if count[_on_disk(stem)] == 1 else _free_stem(name, taken) for name, stem in zip(names, stems, strict=True)
    ]


def _free_stem(name: str, taken: set[str]) -> str:
    stem, number = name, 1
    while _on_disk(stem) in taken:
        number += 1
        stem = f"{name}-{number}"
    taken.add(_on_disk(stem))
    return stem


def _on_disk(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _tsv(transcript: Transcript) -> str:
    rows = ["start\tend\ttext\n"]
    for segment in transcript.segments:
        text = _one_line(segment.text).replace("\t", " ")
        rows.append(f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{text}\n")
    return "".join(rows)


def _one_line(text: str) -> str:
    return " ".join(text.strip().splitlines())


def _check_format(format: str) -> None:
    if format not in _WRITERS:
        raise InvalidRequest(f"There is no output format {format!r}; choose from {', '.join(FORMATS)}.")


def _write(file: Path, text: str) -> None:
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as out:
                # Half a character (a lone surrogate) has no UTF-8; JSON keeps it, the other formats cannot.
                out.write(text.encode("utf-8", errors="replace"))
                out.flush()
                os.fsync(out.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _write_error(file, error) from error


def _write_error(file: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"No space is left to write {file}; make room or choose another folder.")
    return StorageError(f"Cannot write {file}: {error.strerror or error}. Choose a folder that can be written to.")
