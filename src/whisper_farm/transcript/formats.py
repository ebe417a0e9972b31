"""Output formats: each one writer, registered with its name, extension and media type; and files written with them.

Promises: `<stem>.<extension>`, each file whole or not there at all. The five formats of openai/whisper have its
contents: text is written as whisper writes it, except where that would break the file (a line break in a table, an
arrow in a subtitle). Does not decide whether a file that is there already may be replaced: it is.

A format is added here and nowhere else: flags, API and help read `FORMATS`.
"""

from __future__ import annotations

import errno
import html
import json
import os
import re
import secrets
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_farm.errors import InvalidRequest, NoSpace, StorageError
from whisper_farm.showing import cell
from whisper_farm.transcript.layout import PLAIN, CueLayout

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Segment, Transcript, Word

ARROW = re.compile("-{2,}>")


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A way to write a transcript down."""

    name: str
    extension: str
    media_type: str
    write: Callable[[Transcript], bytes]
    cues: Callable[[Transcript, CueLayout], str] | None = None
    """What writes it where it consists of cues, which can be laid out in several ways."""

    def laid_out(self, layout: CueLayout) -> OutputFormat:
        """This format with its cues laid out so; what has no cues stays as it is."""
        cues = self.cues
        if cues is None or layout == PLAIN:
            return self
        return replace(self, write=lambda transcript: _utf8(cues(transcript, layout)))


FORMATS: dict[str, OutputFormat] = {}
"""Every format by its name, in the order in which they are listed."""
WHISPERS = ("txt", "srt", "vtt", "tsv", "json")
"""The formats of openai/whisper, which its word `all` means."""

Writer = Callable[["Transcript"], bytes]
TextWriter = Callable[["Transcript"], str]
CueWriter = Callable[["Transcript", CueLayout], str]


def register(name: str, extension: str, media_type: str) -> Callable[[Writer], Writer]:
    """Decorate the writer of a format."""

    def keep(write: Writer) -> Writer:
        FORMATS[name] = OutputFormat(name, extension, media_type, write)
        return write

    return keep


def register_text(name: str, media_type: str, extension: str | None = None) -> Callable[[TextWriter], TextWriter]:
    """Decorate the writer of a format that is text in UTF-8, named as its files end unless that is given."""

    def keep(write: TextWriter) -> TextWriter:
        register(name, extension or name, media_type)(lambda transcript: _utf8(write(transcript)))
        return write

    return keep


def register_cues(name: str, media_type: str) -> Callable[[CueWriter], CueWriter]:
    """Decorate the writer of a format of cues, named as its files end."""

    def keep(write: CueWriter) -> CueWriter:
        register_text(name, media_type)(lambda transcript: write(transcript, PLAIN))
        FORMATS[name] = replace(FORMATS[name], cues=write)
        return write

    return keep


def _utf8(text: str) -> bytes:
    # Half a character (a lone surrogate) has no UTF-8; JSON keeps it, the other formats cannot.
    return text.encode("utf-8", errors="replace")


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


def render(transcript: Transcript, format: str) -> bytes:
    """The transcript as the content of a file in one of `FORMATS`."""
    return output_format(format).write(transcript)


@register_text("txt", "text/plain; charset=utf-8")
def _txt(transcript: Transcript) -> str:
    named = zip(_names(transcript.segments), transcript.segments, strict=True)
    return "".join(f"{name}{_one_line(segment.text)}\n" for name, segment in named)


@register_cues("srt", "application/x-subrip; charset=utf-8")
def _srt(transcript: Transcript, layout: CueLayout) -> str:
    named = zip(_names(transcript.segments), transcript.segments, strict=True)
    cues = (cue for name, segment in named for cue in _cues(segment, layout, name))
    return _srt_file(cues)


@register_cues("vtt", "text/vtt; charset=utf-8")
def _vtt(transcript: Transcript, layout: CueLayout) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{timestamp(start)} --> {timestamp(end)}\n{_voice(segment)}{text}\n\n"
        for segment in transcript.segments
        for start, end, text in _cues(segment, layout, plain=_without_markup)
    )


@register_text("tsv", "text/tab-separated-values; charset=utf-8")
def _tsv(transcript: Transcript) -> str:
    rows = ["start\tend\ttext\n"]
    for segment in transcript.segments:
        rows.append(f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{cell(segment.text)}\n")
    return "".join(rows)


@register_text("json", "application/json")
def _json(transcript: Transcript) -> str:
    from whisper_farm.transcript.document import to_json  # the list of formats is asked for where nothing heavy is

    return json.dumps(to_json(transcript))


@register_text("html", "text/html; charset=utf-8")
def _html(transcript: Transcript) -> str:
    from whisper_farm.transcript.podcast import podcast_html

    return podcast_html(transcript)


@register_text("podcast-json", "application/json", "podcast.json")
def _podcast_json(transcript: Transcript) -> str:
    from whisper_farm.transcript.podcast import podcast_json

    return podcast_json(transcript)


@register_text("podcast-srt", "application/x-subrip; charset=utf-8", "podcast.srt")
def _podcast_srt(transcript: Transcript) -> str:
    from whisper_farm.transcript.podcast import SRT_LINES, SRT_WIDTH, short_cues

    named = zip(_names(transcript.segments), transcript.segments, strict=True)
    cues = (cue for name, one in named for cue in short_cues(one, SRT_WIDTH, SRT_LINES, name))
    return _srt_file((start, end, ARROW.sub("->", text)) for start, end, text in cues)


@register_text("podcast-vtt", "text/vtt; charset=utf-8", "podcast.vtt")
def _podcast_vtt(transcript: Transcript) -> str:
    from whisper_farm.transcript.podcast import VTT_LINES, VTT_WIDTH, short_cues

    return "WEBVTT\n\n" + "".join(
        f"{timestamp(start)} --> {timestamp(end)}\n{_voice(one)}{_without_markup(ARROW.sub('->', text))}\n\n"
        for one in transcript.segments
        for start, end, text in short_cues(one, VTT_WIDTH, VTT_LINES)
    )


def timestamp(seconds: float, always_hours: bool = False, marker: str = ".") -> str:
    """`MM:SS.mmm`, with hours in front when there are any."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours:02d}:" if always_hours or hours else ""
    return f"{front}{minutes:02d}:{milliseconds // 1000:02d}{marker}{milliseconds % 1000:03d}"


def _srt_file(cues: Iterable[tuple[float, float, str]]) -> str:
    return "".join(
        f"{number}\n{timestamp(start, True, ',')} --> {timestamp(end, True, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(cues, start=1)
    )


def _names(segments: Sequence[Segment]) -> Iterator[str]:
    """What is written before each segment: the name of its speaker, where another one begins to speak."""
    before = None
    for segment in segments:
        changed = segment.speaker is not None and segment.speaker != before
        yield f"{_one_line(segment.speaker or '')}: " if changed else ""
        before = segment.speaker


def _voice(segment: Segment) -> str:
    """WebVTT has a tag for it, in which the name ends at the first `>`."""
    if segment.speaker is None:
        return ""
    name = _without_markup(_one_line(segment.speaker).replace(">", " "))
    return f"<v {name}>"


Plain = Callable[[str], str]


def _cues(
    segment: Segment, layout: CueLayout, name: str = "", plain: Plain = str
) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of the cues of a segment; the first begins with the name.

    `plain` makes text of what would be markup in the format.
    """
    from whisper_farm.transcript.cues import lines_of, readable  # as above: only who writes cues needs them

    if not segment.words:
        yield segment.start, segment.end, _in_one_cue(name + plain(segment.text.strip()))
        return
    for cue in [segment] if layout == PLAIN else readable(segment, layout):
        lines = lines_of(cue.words, layout)
        if layout.highlight_words:
            yield from _highlighted(lines, name, plain)
        else:
            yield cue.words[0].start, cue.words[-1].end, _text_of(lines, name, plain)
        name = ""


def _highlighted(lines: Sequence[Sequence[Word]], name: str, plain: Plain) -> Iterator[tuple[float, float, str]]:
    """The cue once for each word, which is underlined, and once for each pause between them."""
    reached = lines[0][0].start
    for word in (word for line in lines for word in line):
        if word.start > reached:
            yield reached, word.start, _text_of(lines, name, plain)
        yield word.start, word.end, _text_of(lines, name, plain, word)
        reached = word.end


def _text_of(lines: Sequence[Sequence[Word]], name: str, plain: Plain, marked: Word | None = None) -> str:
    def shown(word: Word) -> str:
        text = plain(word.text)
        return re.sub(r"\S(?:.*\S)?", r"<u>\g<0></u>", text, count=1) if word is marked else text

    return _in_one_cue(name + "\n".join("".join(map(shown, line)).strip() for line in lines))


def _in_one_cue(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return ARROW.sub("->", "\n".join(line for line in lines if line))


def _without_markup(text: str) -> str:
    # Only an ampersand that a reader would take for a character reference is escaped: "Q&A" stays as it is.
    if html.unescape(text) != text:
        text = text.replace("&", "&amp;")
    return text.replace("<", "&lt;")


def save(
    transcript: Transcript, folder: Path, stem: str, formats: Iterable[str], layout: CueLayout = PLAIN
) -> list[Path]:
    """Write `<folder>/<stem>.<extension>` for each format and say which files that made; the folder is made too.

    Raises `InvalidRequest` for a format or stem that cannot be, before anything is written, and `NoSpace` or
    `StorageError`, naming the file, when it cannot be written.
    """
    wanted = [output_format(name).laid_out(layout) for name in dict.fromkeys(formats)]
    if stem in ("", "..") or "\0" in stem or Path(stem).name != stem:
        raise InvalidRequest(f"{stem!r} cannot be the name of a file.")
    files = [folder / f"{stem}.{format.extension}" for format in wanted]
    for file, format in zip(files, wanted, strict=True):
        _write(file, format.write(transcript))
    return files


def stems_for(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A stem for each recording, such that no two write the same file, also where the disk ignores case.

    It is whisper's (the name without its extension) where no other recording has the same, else the whole
    name, with a number after it where even that is taken.
    """
    names = [Path(path).name for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 - as whisper splits; pathlib differs
    count = Counter(on_disk(stem) for stem in stems)
    taken = {stem for stem, times in count.items() if times == 1}
    return [
        stem if count[on_disk(stem)] == 1 else _free_stem(name, taken) for name, stem in zip(names, stems, strict=True)
    ]


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


def _one_line(text: str) -> str:
    return " ".join(text.strip().splitlines())


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as out:
                out.write(content)
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
