"""The forms of Podcasting 2.0, held against its rules: short lines, voices, order of time, no word lost."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import pysrt
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_farm.transcript.formats import FORMATS, WHISPERS
from whisper_farm.transcript.transcript import Coverage, Maker, Segment, Transcript, Word

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs", "Cf")), min_size=1, max_size=80
)


def transcript(*segments: Segment) -> Transcript:
    end = segments[-1].end if segments else 0.0
    return Transcript(segments, "en", end, "transcribe", Maker("e", "1", "m", "r"), Coverage(end, end, 1))


def spoken(text: str, start: float = 0.0, speaker: str | None = None, timed: bool = True) -> Segment:
    """A segment with a word each third of a second."""
    words = [f" {word}" for word in text.split()]
    end = start + len(words) / 3
    found = tuple(Word(start + n / 3, start + (n + 1) / 3, word) for n, word in enumerate(words))
    return Segment(start, end, "".join(words), found if timed else (), speaker=speaker)


LONG = "Well, this is a rather long sentence that nobody could read at one glance on a small screen, is it not? " * 3
TALK = transcript(
    spoken(LONG, 0, "Ann <Lee>"),
    spoken("Yes & no --> maybe.", 40, "Ben"),
    spoken("Indeed.", 45, "Ben"),
    spoken(LONG, 3600),
)


def srt_rules(content: bytes) -> str:
    """What is wrong with it by the rules; and all that it says."""
    cues = list(pysrt.from_string(content.decode()))
    for before, cue in zip([None, *cues], cues, strict=False):
        lines = cue.text.split("\n")
        assert 1 <= len(lines) <= 2
        assert max(map(len, lines)) <= 32, lines
        assert cue.end >= cue.start
        assert before is None or before.end <= cue.start or before.start <= cue.start
    return " ".join(" ".join(cue.text.split()) for cue in cues)


def vtt_rules(content: bytes) -> str:
    cues = list(webvtt.from_buffer(io.BytesIO(content)))
    for cue in cues:
        assert max(len(line) for line in cue.text.split("\n")) <= 65
        assert cue.start <= cue.end
    return " ".join(" ".join(cue.text.split()) for cue in cues)


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_srt_has_two_lines_of_32_and_says_who_begins_to_speak() -> None:
    content = FORMATS["podcast-srt"].write(TALK)
    said = srt_rules(content)
    assert b":  " not in content
    assert said.startswith("Ann <Lee>: Well, this is")
    assert "Ben: Yes & no -> maybe." in said
    assert said.count("Ben:") == 1


def test_vtt_has_lines_of_65_and_a_voice_in_every_cue() -> None:
    content = FORMATS["podcast-vtt"].write(TALK)
    assert without_spaces(vtt_rules(content)).startswith(without_spaces(LONG)[:40])
    text = content.decode()
    assert text.count("<v Ben>") == 2
    assert "<v Ann &lt;Lee >" in text
    assert "-->" not in re.sub(r"(?m)^[\d:.]+ --> [\d:.]+$", "", text)


@pytest.mark.parametrize("timed", [True, False])
def test_every_word_comes_at_its_time(timed: bool) -> None:
    one = spoken("one two three " * 20, 10, timed=timed)
    cues = list(webvtt.from_buffer(io.BytesIO(FORMATS["podcast-vtt"].write(transcript(one)))))
    assert cues[0].start_in_seconds == 10
    assert cues[-1].end_in_seconds == pytest.approx(30, abs=0.01)
    starts = [cue.start_in_seconds for cue in cues]
    assert starts == sorted(starts)


@given(st.lists(WORDS, min_size=1, max_size=30), st.booleans())
@settings(max_examples=100)
def test_whatever_is_said_keeps_to_the_rules_and_loses_nothing(words: list[str], timed: bool) -> None:
    one = spoken(" ".join(words), 0, timed=timed)
    for cue in FORMATS["podcast-srt"].write(transcript(one)).decode().split("\n\n")[:-1]:
        lines = cue.split("\n")[2:]
        assert len(lines) <= 2
        assert all(len(line) <= 32 for line in lines)
    said = "".join(
        line
        for cue in FORMATS["podcast-srt"].write(transcript(one)).decode().split("\n\n")
        for line in cue.split("\n")[2:]
    )
    expected = without_spaces(re.sub("-{2,}>", "->", one.text))
    assert without_spaces(said).replace("-", "").replace(">", "") == expected.replace("-", "").replace(">", "")


def test_json_is_version_1() -> None:
    found = json.loads(FORMATS["podcast-json"].write(TALK))
    assert found["version"] == "1.0.0"
    first, second, *_, last = found["segments"]
    assert set(first) == {"speaker", "startTime", "endTime", "body"}
    assert (second["speaker"], second["body"]) == ("Ben", "Yes & no --> maybe.")
    assert set(last) == {"startTime", "endTime", "body"}
    assert all(isinstance(one["startTime"], int | float) for one in found["segments"])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append((self._open[-1], data))


def test_html_has_speakers_times_and_paragraphs() -> None:
    tags = Tags()
    tags.feed(FORMATS["html"].write(TALK).decode())
    assert tags.found[1] == ("cite", "Ann <Lee>:")
    assert tags.found[2] == ("time", "0:00")
    assert ("cite", "Ben:") in tags.found
    assert ("p", "Yes & no --> maybe. Indeed.") in tags.found
    assert ("time", "1:00:00") in tags.found


@pytest.mark.parametrize("name", ["html", "podcast-json", "podcast-srt", "podcast-vtt"])
def test_an_empty_transcript_is_an_empty_file_of_its_kind(name: str) -> None:
    FORMATS[name].write(transcript())


def test_all_means_whispers_formats() -> None:
    assert set(WHISPERS) < set(FORMATS)
    assert len({format.extension for format in FORMATS.values()}) == len(FORMATS)
