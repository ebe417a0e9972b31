"""Subtitles: SubRip and WebVTT, cue by cue, as openai/whisper writes them by default.

One cue a segment, from the first word's start to the last word's end where words have times. What would break
a cue (an arrow, an empty line, in WebVTT also markup) is made harmless, so that every reader finds the words.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from whisper_farm.transcript.speech import Segment, Word

LINE_LIMIT = 1000
"""Characters after which a cue made of words goes on in a new line."""
ARROW = re.compile("-{2,}>")


def timestamp(seconds: float, always_hours: bool = False, marker: str = ".") -> str:
    """`MM:SS.mmm`, with hours in front when there are any."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours:02d}:" if always_hours or hours else ""
    return f"{front}{minutes:02d}:{milliseconds // 1000:02d}{marker}{milliseconds % 1000:03d}"


def srt(segments: Sequence[Segment]) -> str:
    """The text of a SubRip file."""
    return "".join(
        f"{number}\n{timestamp(start, True, ',')} --> {timestamp(end, True, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_cues(segments), start=1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """The text of a WebVTT file."""
    return "WEBVTT\n\n" + "".join(
        f"{timestamp(start)} --> {timestamp(end)}\n{_without_markup(text)}\n\n" for start, end, text in _cues(segments)
    )


def _cues(segments: Sequence[Segment]) -> Iterator[tuple[float, float, str]]:
    for segment in segments:
        if words := segment.words:
            yield words[0].start, words[-1].end, _in_one_cue(_wrapped(words))
        else:
            yield segment.start, segment.end, _in_one_cue(segment.text)


def _wrapped(words: Sequence[Word]) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word.text) <= LINE_LIMIT:
            lines[-1] += word.text
        else:
            lines.append(word.text.strip())
    return "\n".join(lines)


def _in_one_cue(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return ARROW.sub("->", "\n".join(line for line in lines if line))


def _without_markup(text: str) -> str:
    # Only an ampersand that a reader would take for a character reference is escaped: "Q&A" stays as it is.
    if html.unescape(text) != text:
        text = text.replace("&", "&amp;")
    return text.replace("<", "&lt;")
