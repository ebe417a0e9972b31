"""The files a run writes: one folder, the formats asked for, a name for every recording.

Promises: no two recordings of a run write the same file, a file is whole or not there, and nothing is
transcribed before it is known that the folder can be written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from whisper_farm.errors import StorageError
from whisper_farm.transcript.formats import output_format, save, stems_for
from whisper_farm.transcript.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Recording:
    """A file to transcribe: where it is, what it is called on the screen, what its outputs are called."""

    path: Path
    stem: str

    @property
    def name(self) -> str:
        return str(self.path)


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
        except OSError as error:
            raise StorageError(f"{folder}: cannot be used as output folder ({error.strerror}).") from error
        try:
            with NamedTemporaryFile(dir=place, prefix=".whisper-farm-"):
                pass
        except OSError as error:
            reason = error.strerror
            raise StorageError(f"{folder}: cannot be written into ({reason}); give another folder with -o.") from error
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


def as_recordings(paths: Sequence[Path]) -> list[Recording]:
    """The files of a run with the names of their outputs."""
    return [Recording(path, stem) for path, stem in zip(paths, stems_for(paths), strict=True)]
