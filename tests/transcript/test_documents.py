"""Documents, tables and lyrics, read back by readers we did not write: all that was said is there, and is text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from docx import Document
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import BaseModel, ConfigDict
from support.spoken import NASTY, segments, transcript_of

from whisper_farm.showing import cell
from whisper_farm.transcript.cues import CueLayout
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.transcript import Segment, Transcript, Word

MARKUP = (
    "# no heading", "1. no list", "12) no list", "- no list", "+ none", "* none", "> no quote", "```", "~~~",
    "    no code", "---", "===", "a | b", "_so_ **and** ~~so~~ `x`",
    "[a](b) ![c](d)", "<script>alert(1)</script> <!-- -->",
    "&amp; &copy; &#65;", "https://a.example <https://b.example>", "\\* \\", "$x$", "[00:01.00] <00:02.00> 1:2",
)  # fmt: skip
NASTY_SEGMENTS = tuple(
    Segment(10 * n, 10 * n + 1, f" {text}", speaker=text.strip() or None) for n, text in enumerate([*NASTY, *MARKUP])
)
A_LYRIC = re.compile(r"\[(\d{2,}):([0-5]\d)\.(\d\d)\](.*)")
A_TIME = re.compile(r"[\[<]\s*(\d+):(\d+)(?:[.:](\d+))?\s*[\]>]")
LONG_TALK = transcript_of(
    Segment(0, 30, " One.", speaker="Ann"),
    Segment(30, 44, " Two.", speaker="Ann"),
    Segment(44, 50, " Three.", speaker="Ann"),
    Segment(50, 51, " Four.", speaker="Ben"),
    Segment(3700, 3701, " Five."),
)
HEADED = [("Ann · 0:00", "One. Two."), ("Ann · 0:44", "Three."), ("Ben · 0:50", "Four."), ("1:01:40", "Five.")]


@st.composite
def named_segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    speakers = st.none() | st.sampled_from([*NASTY, *MARKUP]) | st.text(st.characters(exclude_categories=["Cs"]))
    return tuple(replace(one, speaker=draw(speakers)) for one in draw(segments()))


def letters(texts: Iterable[str]) -> str:
    """All that is said but spaces; what no document can hold is replaced."""
    everything = "".join("".join(text.split()) for text in texts)
    return re.sub("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", everything)


def headed(format: str, transcript: Transcript) -> list[tuple[str, str]]:
    """The headings of a document with their paragraphs."""
    content = FORMATS[format].write(transcript)
    found = list(markdown_paragraphs(content.decode()) if format == "md" else word_paragraphs(content))
    assert [bold for bold, _ in found] == [True, False] * (len(found) // 2)
    texts = [text for _, text in found]
    return list(zip(texts[::2], texts[1::2], strict=True))


def markdown_paragraphs(content: str) -> Iterator[tuple[bool, str]]:
    """The paragraphs that a reader of Markdown finds, and whether they are bold; it must find nothing else."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(content)
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}
    for token in tokens:
        if token.type == "inline":
            inside = token.children or []
            marks = [each for each in inside if each.type not in ("text", "text_special")]
            assert [each.type for each in marks] in ([], ["strong_open", "strong_close"])
            yield bool(marks), "".join(each.content for each in inside)


def word_paragraphs(content: bytes) -> Iterator[tuple[bool, str]]:
    for paragraph in Document(io.BytesIO(content)).paragraphs:
        yield any(run.bold for run in paragraph.runs), paragraph.text


@pytest.mark.parametrize("format", ["md", "docx"])
def test_a_document_has_a_paragraph_a_turn_with_speaker_and_time(format: str) -> None:
    assert headed(format, LONG_TALK) == HEADED
    assert headed(format, transcript_of()) == []


@pytest.mark.parametrize("format", ["md", "docx"])
@given(named_segments())
@example((*NASTY_SEGMENTS, Segment(900, 901, "0\x1f0\x1c0")))
@settings(max_examples=40)
def test_a_document_says_all_that_was_said_and_none_of_it_is_markup(format: str, spoken: tuple[Segment, ...]) -> None:
    found = headed(format, transcript_of(*spoken))
    assert letters(text for _, text in found) == letters(one.text for one in spoken)


def test_a_word_document_is_plain_about_where_it_comes_from() -> None:
    facts = Document(io.BytesIO(FORMATS["docx"].write(LONG_TALK))).core_properties
    assert (facts.author, facts.title, facts.comments, facts.language) == ("", "Transcript", "", "en")


@given(named_segments())
@example(NASTY_SEGMENTS)
@settings(max_examples=50)
def test_csv_has_a_row_a_segment_with_its_speaker(spoken: tuple[Segment, ...]) -> None:
    rows = list(csv.reader(io.StringIO(FORMATS["csv"].write(transcript_of(*spoken)).decode(), newline=""), strict=True))
    assert rows[0] == ["start", "end", "speaker", "text"]
    assert [(int(start), int(end)) for start, end, _, _ in rows[1:]] == [
        (round(1000 * one.start), round(1000 * one.end)) for one in spoken
    ]
    assert [row[2:] for row in rows[1:]] == [[cell(one.speaker or ""), cell(one.text)] for one in spoken]


def lyrics(layout: CueLayout, spoken: tuple[Segment, ...]) -> list[tuple[float, list[float]]]:
    """The time of each line, and what a player takes for a time in it; every line must be one."""
    lines = FORMATS["lrc"].laid_out(layout).write(transcript_of(*spoken)).decode().split("\n")
    assert lines.pop() == ""
    read = [A_LYRIC.fullmatch(line) for line in lines]
    assert all(read)
    return [
        (seconds_of(*one.groups()[:3]), [seconds_of(*time) for time in A_TIME.findall(one[4])]) for one in read if one
    ]


def seconds_of(minutes: str, seconds: str, hundredths: str) -> float:
    return int(minutes) * 60 + int(seconds) + int(hundredths or 0) / 100


@given(named_segments())
@example(NASTY_SEGMENTS)
@settings(max_examples=50)
def test_lyrics_are_lines_with_a_time_each_and_no_word_is_a_time(spoken: tuple[Segment, ...]) -> None:
    read = lyrics(CueLayout(), spoken)
    expected = [one.words[0].start if one.words else one.start for one in spoken]
    assert [start for start, _ in read] == pytest.approx(expected, abs=0.006)
    assert not any(times for _, times in read)


@given(named_segments())
@example((Segment(0, 8, "", (Word(0, 0, " "), Word(8, 8, " "))), *NASTY_SEGMENTS))
@settings(max_examples=50)
def test_highlighted_lyrics_have_the_time_of_every_word_and_no_other(spoken: tuple[Segment, ...]) -> None:
    read = lyrics(CueLayout(highlight_words=True), spoken)
    found = [time for _, times in read for time in times]
    assert found == pytest.approx([word.start for one in spoken for word in one.words], abs=0.006)
    assert all(start == times[0] for start, times in read if times)
    alone = [start for start, times in read if not times]
    assert alone == pytest.approx([one.start for one in spoken if not one.words], abs=0.006)


def test_lyrics_look_as_players_want_them() -> None:
    words = (Word(61.5, 62.0, " Good", 0.9), Word(62.0, 62.999, " morning.", 0.8))
    talk = transcript_of(
        Segment(0, 1, " [Music] [0:01]", speaker="Ann"),
        Segment(61, 63, " Good morning.", words),
        Segment(6000, 6001, " x"),
    )
    assert (
        FORMATS["lrc"].write(talk).decode() == "[00:00.00]Ann: [Music] (0:01]\n[01:01.50]Good morning.\n[100:00.00]x\n"
    )
    lyrics = FORMATS["lrc"].laid_out(CueLayout(highlight_words=True)).write(talk).decode().split("\n")
    assert lyrics[1] == "[01:01.50]<01:01.50>Good <01:02.00>morning."
    lines = FORMATS["lrc"].laid_out(CueLayout(max_words_per_line=1)).write(talk).decode().split("\n")
    assert lines[1:3] == ["[01:01.50]Good", "[01:02.00]morning."]


class AlignedWord(BaseModel):
    """As whisperX declares it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    word: str
    start: float
    end: float
    score: float = 0.0
    speaker: str = ""


class AlignedSegment(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    start: float
    end: float
    text: str
    words: list[AlignedWord]
    speaker: str = ""


class AlignedTranscript(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    segments: list[AlignedSegment]
    word_segments: list[AlignedWord]
    language: str


@given(named_segments())
@settings(max_examples=50)
def test_whisperx_json_has_its_words_twice_and_nothing_else(spoken: tuple[Segment, ...]) -> None:
    read = AlignedTranscript.model_validate_json(FORMATS["whisperx-json"].write(transcript_of(*spoken)))
    assert read.word_segments == [word for one in read.segments for word in one.words]
    assert [word.word for word in read.word_segments] == [word.text.strip() for one in spoken for word in one.words]
    assert [(one.text, one.speaker or None) for one in read.segments] == [
        (one.text, one.speaker or None) for one in spoken
    ]
    assert json.loads(FORMATS["whisperx-json"].write(transcript_of())) == {
        "segments": [], "word_segments": [], "language": "en"
    }  # fmt: skip
