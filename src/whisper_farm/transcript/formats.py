"""Output formats: each one writer, registered with its name, extension and media type.

A format is added in the table here and nowhere else: flags, API and help read `FORMATS`, and the export menu of the web
app does not compile without a name for it. The five formats of openai/whisper have its contents. Loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from whisper_farm.errors import InvalidRequest
from whisper_farm.transcript import podcast, prose, subtitles, tables
from whisper_farm.transcript.cues import PLAIN, CueLayout

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Transcript

TextWriter = Callable[["Transcript"], str]
CueWriter = Callable[["Transcript", CueLayout], str]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A way to write a transcript down."""

    name: str
    extension: str
    media_type: str
    write: Callable[[Transcript], bytes]
    cues: CueWriter | None = None
    """What writes it where it consists of cues, which can be laid out in several ways."""

    def laid_out(self, layout: CueLayout) -> OutputFormat:
        """This format with its cues laid out so; what has no cues stays as it is."""
        cues = self.cues
        if cues is None or layout == PLAIN:
            return self
        return replace(self, write=lambda transcript: _utf8(cues(transcript, layout)))


def _utf8(text: str) -> bytes:
    # Half a character (a lone surrogate) has no UTF-8; JSON keeps it, the other formats cannot.
    return text.encode("utf-8", errors="replace")


def _text(name: str, media_type: str, write: TextWriter, extension: str | None = None) -> OutputFormat:
    charset = "" if media_type == "application/json" else "; charset=utf-8"
    return OutputFormat(name, extension or name, media_type + charset, lambda transcript: _utf8(write(transcript)))


def _cues(name: str, media_type: str, write: CueWriter) -> OutputFormat:
    return replace(_text(name, media_type, lambda transcript: write(transcript, PLAIN)), cues=write)


_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_FORMATS = (
    _text("txt", "text/plain", prose.txt),
    _cues("srt", "application/x-subrip", subtitles.srt),
    _cues("vtt", "text/vtt", subtitles.vtt),
    _text("tsv", "text/tab-separated-values", tables.tsv),
    _text("json", "application/json", tables.whisper_json),
    _text("csv", "text/csv", tables.comma_separated),
    _cues("lrc", "text/plain", subtitles.lrc),
    _text("md", "text/markdown", prose.markdown),
    OutputFormat("docx", "docx", _WORD, prose.docx),
    _text("html", "text/html", prose.page),
    _text("whisperx-json", "application/json", tables.whisperx_json, "whisperx.json"),
    _text("podcast-json", "application/json", podcast.podcast_json, "podcast.json"),
    _text("podcast-srt", "application/x-subrip", subtitles.podcast_srt, "podcast.srt"),
    _text("podcast-vtt", "text/vtt", subtitles.podcast_vtt, "podcast.vtt"),
)
FORMATS: dict[str, OutputFormat] = {each.name: each for each in _FORMATS}
"""Every format by its name, in the order in which they are listed."""
WHISPERS = ("txt", "srt", "vtt", "tsv", "json")
"""The formats of openai/whisper, which its word `all` means."""


def output_format(name: str) -> OutputFormat:
    """The format of this name; InvalidRequest for any other."""
    if found := FORMATS.get(name):
        return found
    raise InvalidRequest(f"There is no output format {name!r}; choose from {', '.join(FORMATS)}.")


def known_format(name: str) -> str:
    """The name itself; ValueError for one that is no format's."""
    if name not in FORMATS:
        raise ValueError(f"choose from {', '.join(FORMATS)}")
    return name
