"""Transcripts as text to be read: plain lines, and pages of paragraphs (HTML, Markdown, Word).

Promises: a paragraph for each turn of a speaker, a new one when it grows long, each with its time. What was said is
text: it is never markup, whatever letters it has.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from whisper_farm.times import clock

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Segment, Transcript

PARAGRAPH_SECONDS = 45.0
MARKUP, NUMBERED = re.compile(r"[\\`*_\[\]<>#|~&$]|^[-+=]"), re.compile(r"^(\d+)([.)])")
"""What Markdown does not take as it is written."""
NOT_IN_XML = re.compile("[^\t\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Paragraph = tuple[str, str, str]
"""Speaker ("" where none is known), time and text."""


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.strip().splitlines())


def named(segments: Sequence[Segment]) -> Iterator[tuple[str, Segment]]:
    """Each segment with what is written before it: the name of its speaker, where another one begins to speak."""
    before = None
    for segment in segments:
        changed = segment.speaker is not None and segment.speaker != before
        yield f"{one_line(segment.speaker or '')}: " if changed else "", segment
        before = segment.speaker


def txt(transcript: Transcript) -> str:
    """A line a segment."""
    return "".join(f"{name}{one_line(segment.text)}\n" for name, segment in named(transcript.segments))


def page(transcript: Transcript) -> str:
    """HTML, as Podcasting 2.0 wants it."""
    made = ['<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>Transcript</title></head><body>\n']
    before = ""
    for speaker, time, text in _paragraphs(transcript.segments):
        if speaker not in ("", before):
            made.append(f"<cite>{html.escape(speaker)}:</cite>\n")
        before = speaker
        made.append(f"<time>{time}</time>\n<p>{html.escape(text, quote=False)}</p>\n")
    return "".join([*made, "</body></html>\n"])


def markdown(transcript: Transcript) -> str:
    """Markdown: a bold line with speaker and time before each paragraph."""
    return "\n".join(
        f"**{_plain_markdown(_heading(speaker, time))}**\n\n{_plain_markdown(text)}\n"
        for speaker, time, text in _paragraphs(transcript.segments)
    )


def docx(transcript: Transcript) -> bytes:
    """A Word document, likewise."""
    from docx import Document

    document = Document()
    facts = document.core_properties
    facts.author, facts.title, facts.comments, facts.language = "", "Transcript", "", transcript.language
    for speaker, time, text in _paragraphs(transcript.segments):
        document.add_paragraph().add_run(_in_xml(_heading(speaker, time))).bold = True
        document.add_paragraph(_in_xml(text))
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _heading(speaker: str, time: str) -> str:
    return f"{speaker} · {time}" if speaker else time


def _plain_markdown(text: str) -> str:
    return NUMBERED.sub(r"\1\\\2", MARKUP.sub(r"\\\g<0>", text))


def _in_xml(text: str) -> str:
    return NOT_IN_XML.sub("\ufffd", text)


def _paragraphs(segments: Sequence[Segment]) -> Iterator[Paragraph]:
    for paragraph in _grouped(segments):
        if text := " ".join("".join(one.text for one in paragraph).split()):
            yield " ".join((paragraph[0].speaker or "").split()), clock(paragraph[0].start), text


def _grouped(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    for _, turn in groupby(segments, key=lambda one: one.speaker):
        paragraph: list[Segment] = []
        for one in turn:
            if paragraph and one.end - paragraph[0].start > PARAGRAPH_SECONDS:
                yield paragraph
                paragraph = []
            paragraph.append(one)
        yield paragraph
