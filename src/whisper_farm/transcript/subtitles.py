"""Subtitles: SubRip, WebVTT and lyrics (LRC), and the first two in the short lines that podcasts want.

Promises: text is written as whisper writes it, except where that would break the file (an arrow in a cue, a time in a
lyric). What would be markup is text. Speakers are named where they are known.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from whisper_farm.transcript.cues import PLAIN, CueLayout, lines_of, readable
from whisper_farm.transcript.podcast import SRT_LINES, SRT_WIDTH, VTT_LINES, VTT_WIDTH, short_cues
from whisper_farm.transcript.prose import named, one_line

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Segment, Transcript, Word

ARROW = re.compile("-{2,}>")
LYRIC_TIME = re.compile(r"[\[<](?=\s*\d+:\d)")
"""What a player of lyrics takes for the beginning of a time."""

Plain = Callable[[str], str]


def srt(transcript: Transcript, layout: CueLayout) -> str:
    """SubRip."""
    return _srt_file(cue for name, segment in named(transcript.segments) for cue in _cues(segment, layout, name))


def vtt(transcript: Transcript, layout: CueLayout) -> str:
    """WebVTT, with a voice in each cue."""
    return "WEBVTT\n\n" + "".join(
        f"{timestamp(start)} --> {timestamp(end)}\n{_voice(segment)}{text}\n\n"
        for segment in transcript.segments
        for start, end, text in _cues(segment, layout, plain=_without_markup)
    )


def lrc(transcript: Transcript, layout: CueLayout) -> str:
    """Lyrics: a time before each line; before each word, too, where words are to be highlighted."""
    return "".join(
        f"[{_lyric_time(start)}]{text}\n"
        for name, segment in named(transcript.segments)
        for start, text in _lyrics(segment, layout, name)
    )


def podcast_srt(transcript: Transcript) -> str:
    """SubRip with two lines of 32."""
    spoken = named(transcript.segments)
    cues = (cue for name, one in spoken for cue in short_cues(one, SRT_WIDTH, SRT_LINES, name))
    return _srt_file((start, end, ARROW.sub("->", text)) for start, end, text in cues)


def podcast_vtt(transcript: Transcript) -> str:
    """WebVTT with a line of 65."""
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


def _lyric_time(seconds: float) -> str:
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    return f"{minutes:02d}:{hundredths // 100:02d}.{hundredths % 100:02d}"


def _lyrics(segment: Segment, layout: CueLayout, name: str) -> Iterator[tuple[float, str]]:
    """Start and text of the lines of a segment; the first begins with the name."""
    if not segment.words:
        yield segment.start, _lyric(name + segment.text.lstrip())
        return
    for cue in [segment] if layout == PLAIN else readable(segment, layout):
        for line in lines_of(cue.words, layout):
            if layout.highlight_words:
                timed = (f"<{_lyric_time(word.start)}>{_lyric(word.text)}" for word in line)
                yield line[0].start, _lyric(name) + " ".join(timed)
            else:
                yield line[0].start, _lyric(name + "".join(word.text for word in line).lstrip())
            name = ""


def _lyric(text: str) -> str:
    return LYRIC_TIME.sub("(", one_line(text))


def _voice(segment: Segment) -> str:
    """WebVTT has a tag for it, in which the name ends at the first `>`."""
    if segment.speaker is None:
        return ""
    name = _without_markup(one_line(segment.speaker).replace(">", " "))
    return f"<v {name}>"


def _cues(
    segment: Segment, layout: CueLayout, name: str = "", plain: Plain = str
) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of the cues of a segment; the first begins with the name.

    `plain` makes text of what would be markup in the format.
    """
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
