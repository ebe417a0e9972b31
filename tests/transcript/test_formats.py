"""The files: whisper's names and contents, read back by readers we did not write."""

from __future__ import annotations

import errno
import html
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pysrt
import pytest
import webvtt
from docx import Document
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.spoken import NASTY, segments, transcript_of

from whisper_farm.errors import InvalidRequest, NoSpace, StorageError
from whisper_farm.showing import cell
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.formats import FORMATS, OutputFormat
from whisper_farm.transcript.saving import save, stems_for
from whisper_farm.transcript.subtitles import timestamp
from whisper_farm.transcript.transcript import Segment, Transcript, Word

TALK = transcript_of(
    Segment(0.0, 2.5, " Good morning.", (Word(0.32, 0.9, " Good", 0.9), Word(0.9, 2.125, " morning.", 0.8))),
    Segment(3725.5, 3727.0, " Q&A after an hour.", (Word(3725.5, 3727.0, " Q&A after an hour.", 0.7),)),
)
TEN_HOURS = """
import sys
from pathlib import Path

from support.spoken import transcript_of
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.saving import save
from whisper_farm.transcript.transcript import Segment, Word

def most_kilobytes():
    # Of this program alone: what `getrusage` says begins with what its parent had.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def segment(start):
    words = tuple(Word(start + n * 0.36, start + n * 0.36 + 0.3, " words", 0.987654321) for n in range(10))
    return Segment(start, words[-1].end, " words" * 10, words, -0.3, 0.1, 1.2, 0.0)

save(transcript_of(segment(0)), Path(sys.argv[1]), "short", FORMATS)  # imports what writes them
transcript = transcript_of(*(segment(n * 3.6) for n in range(10_000)), duration=36_000)
before = most_kilobytes()
save(transcript, Path(sys.argv[1]), "long", FORMATS)
print(most_kilobytes() - before)
"""
NASTY_SEGMENTS = tuple(Segment(n, n + 1, text) for n, text in enumerate([*NASTY, " ".join(NASTY)]))


def text_of(transcript: Transcript, format: str) -> str:
    """What a file in this format would hold."""
    return FORMATS[format].write(transcript).decode("utf-8")


def contents(file: bytes) -> bytes | list[bytes]:
    """What is in a file; of an archive without the time it was made."""
    if not file.startswith(b"PK"):
        return file
    archive = zipfile.ZipFile(io.BytesIO(file))
    return [archive.read(name) for name in archive.namelist()]


def words_in_a_cue(segment: Segment) -> list[str]:
    """The words a reader must find: all of them, with every arrow shortened until none is left."""
    text = "".join(word.text for word in segment.words) or segment.text
    while "-->" in text:
        text = text.replace("-->", "->")
    return text.split()


def times_of_a_cue(segment: Segment) -> tuple[int, int]:
    start, end = (segment.words[0].start, segment.words[-1].end) if segment.words else (segment.start, segment.end)
    return round(start * 1000), round(end * 1000)


@given(segments())
@example(NASTY_SEGMENTS)
@settings(max_examples=50)
def test_srt_is_read_back_by_pysrt(spoken: tuple[Segment, ...]) -> None:
    read = pysrt.from_string(text_of(transcript_of(*spoken), "srt"), error_handling=pysrt.ERROR_RAISE)

    assert [item.text.split() for item in read] == [words_in_a_cue(segment) for segment in spoken]
    assert [(item.start.ordinal, item.end.ordinal) for item in read] == [times_of_a_cue(s) for s in spoken]
    assert [item.index for item in read] == list(range(1, len(spoken) + 1))


@given(segments())
@example(NASTY_SEGMENTS)
@settings(max_examples=50)
def test_vtt_is_read_back_by_webvtt(spoken: tuple[Segment, ...]) -> None:
    read = webvtt.WebVTT.from_string(text_of(transcript_of(*spoken), "vtt"), strict=True).captions

    assert [html.unescape(cue.text).split() for cue in read] == [words_in_a_cue(segment) for segment in spoken]
    times = [(cue.start_time.in_milliseconds(), cue.end_time.in_milliseconds()) for cue in read]
    assert times == [times_of_a_cue(segment) for segment in spoken]


@given(segments())
@example(NASTY_SEGMENTS)
@settings(max_examples=50)
def test_tables_and_texts_have_one_line_a_segment(spoken: tuple[Segment, ...]) -> None:
    transcript = transcript_of(*spoken)

    rows = [line.split("\t") for line in text_of(transcript, "tsv").splitlines()]
    assert rows[0] == ["start", "end", "text"]
    assert [(int(start), int(end)) for start, end, _ in rows[1:]] == [
        (round(1000 * segment.start), round(1000 * segment.end)) for segment in spoken
    ]
    assert [text.split() for _, _, text in rows[1:]] == [cell(one.text).split() for one in spoken]
    assert [line.split() for line in text_of(transcript, "txt").splitlines()] == [s.text.split() for s in spoken]


def test_the_files_look_as_whisper_writes_them() -> None:
    assert text_of(TALK, "txt") == "Good morning.\nQ&A after an hour.\n"
    assert text_of(TALK, "srt") == (
        "1\n00:00:00,320 --> 00:00:02,125\nGood morning.\n\n2\n01:02:05,500 --> 01:02:07,000\nQ&A after an hour.\n\n"
    )
    assert text_of(TALK, "vtt") == (
        "WEBVTT\n\n00:00.320 --> 00:02.125\nGood morning.\n\n01:02:05.500 --> 01:02:07.000\nQ&A after an hour.\n\n"
    )
    assert text_of(TALK, "tsv") == ("start\tend\ttext\n0\t2500\tGood morning.\n3725500\t3727000\tQ&A after an hour.\n")
    assert from_json(json.loads(text_of(TALK, "json"))) == TALK


def test_a_very_long_cue_goes_on_in_a_new_line_as_in_whisper() -> None:
    words = tuple(Word(n, n + 1, " " + "x" * 299, 1.0) for n in range(5))

    cue = text_of(transcript_of(Segment(0, 5, "", words)), "srt").splitlines()[2:4]

    assert [len(line) for line in cue] == [899, 599]


def test_an_empty_transcript_gives_valid_files() -> None:
    empty = transcript_of()

    assert list(pysrt.from_string(text_of(empty, "srt"))) == []
    assert webvtt.WebVTT.from_string(text_of(empty, "vtt"), strict=True).captions == []
    assert text_of(empty, "txt") == ""
    assert text_of(empty, "tsv") == "start\tend\ttext\n"


@pytest.mark.parametrize(
    ("seconds", "short", "long"),
    [
        (0.0, "00:00.000", "00:00:00,000"),
        (59.9996, "01:00.000", "00:01:00,000"),
        (3599.9994, "59:59.999", "00:59:59,999"),
        (3600.0, "01:00:00.000", "01:00:00,000"),
        (360_000.001, "100:00:00.001", "100:00:00,001"),
    ],
)
def test_times_are_rounded_to_milliseconds_and_carry_over(seconds: float, short: str, long: str) -> None:
    assert timestamp(seconds) == short
    assert timestamp(seconds, always_hours=True, marker=",") == long


def test_a_transcript_is_saved_in_every_format_under_its_stem(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "new folder"

    files = save(TALK, folder, "Лекция 1.теория ☂", FORMATS)

    assert [file.name for file in files] == [f"Лекция 1.теория ☂.{format.extension}" for format in FORMATS.values()]
    assert {file.name for file in folder.iterdir()} == {file.name for file in files}
    for file, format in zip(files, FORMATS, strict=True):
        assert contents(file.read_bytes()) == contents(FORMATS[format].write(TALK))
    assert len(pysrt.open(str(folder / "Лекция 1.теория ☂.srt"))) == 2
    assert len(webvtt.read(str(folder / "Лекция 1.теория ☂.vtt"))) == 2


def test_only_the_wanted_formats_are_written_each_once(tmp_path: Path) -> None:
    assert save(TALK, tmp_path, "talk", ["vtt", "txt", "vtt"]) == [tmp_path / "talk.vtt", tmp_path / "talk.txt"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="txt, srt, vtt, tsv, json"):
        save(TALK, tmp_path / "out", "talk", ["txt", "rtf"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stem", ["", ".", "..", "a/b", "../talk", "/etc/talk", "a\0b"])
def test_a_stem_cannot_lead_out_of_the_folder(tmp_path: Path, stem: str) -> None:
    with pytest.raises(InvalidRequest):
        save(TALK, tmp_path / "out", stem, FORMATS)
    assert list(tmp_path.iterdir()) == []


def test_when_the_disk_is_full_the_old_file_stays_whole_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talk.txt").write_text("the old words")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match=r"talk\.txt"):
        save(TALK, tmp_path, "talk", ["txt"])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("talk.txt", "the old words")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match=r"file.*talk\.txt"):
        save(TALK, tmp_path / "file", "talk", ["txt"])
    (tmp_path / "talk.txt").mkdir()
    with pytest.raises(StorageError, match=r"talk\.txt"):
        save(TALK, tmp_path, "talk", ["txt"])
    assert {file.name for file in tmp_path.iterdir()} == {"file", "talk.txt"}


def test_half_a_character_does_not_spoil_the_file(tmp_path: Path) -> None:
    broken = transcript_of(Segment(0, 1, " good \ud800 bad"))

    files = save(broken, tmp_path, "talk", FORMATS)

    assert files[0].read_text(encoding="utf-8") == "good ? bad\n"
    assert from_json(json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))) == broken
    for file in files:
        if file.suffix != ".docx":
            file.read_text(encoding="utf-8")
    assert Document(str(tmp_path / "talk.docx")).paragraphs[1].text == "good \ufffd bad"


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (["talks/one.mp3", "talks/two.tar.gz", ".hidden", "dot."], ["one", "two.tar", ".hidden", "dot"]),
        (["talk.mp3", "talk.wav", "other.wav"], ["talk.mp3", "talk.wav", "other"]),
        (["a/talk.mp3", "b/talk.mp3", "c/talk.mp3"], ["talk.mp3", "talk.mp3-2", "talk.mp3-3"]),
        (["talk.mp3", "talk.wav", "talk.mp3.flac"], ["talk.mp3-2", "talk.wav", "talk.mp3"]),
        (["Talk.mp3", "talk.wav"], ["Talk.mp3", "talk.wav"]),
        (["caf\u00e9.mp3", "cafe\u0301.wav"], ["caf\u00e9.mp3", "cafe\u0301.wav"]),
        (["Dr. Smith talks", "Ep. 12: Farms.mp3", "Ep. 13"], ["Dr. Smith talks", "Ep. 12: Farms", "Ep. 13"]),
        ([], []),
    ],
)
def test_a_stem_is_whispers_own_unless_two_recordings_share_it(paths: list[str], stems: list[str]) -> None:
    assert stems_for(paths) == stems
    assert stems_for([Path(path) for path in paths]) == stems


@given(st.lists(st.text("aA.b-2", min_size=1, max_size=6).filter(lambda name: name.strip(".")), max_size=12))
def test_no_two_recordings_get_the_same_stem(paths: list[str]) -> None:
    assert len({stem.casefold() for stem in stems_for(paths)}) == len(paths)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much a program had at most")
def test_ten_hours_of_words_need_less_than_a_hundred_megabytes(tmp_path: Path) -> None:
    """A process of its own tells what it grew by: tracing every allocation made this the longest test of the room."""
    grown = subprocess.run([sys.executable, "-c", TEN_HOURS, tmp_path], capture_output=True, check=True, timeout=100)
    assert 10e6 < int(grown.stdout) * 1024 < 100e6
    assert (tmp_path / "long.srt").read_text(encoding="utf-8").count(" --> ") == 10_000


def test_a_format_is_one_writer_and_may_be_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = OutputFormat("archive", "zip", "application/zip", lambda transcript: b"PK\x00" + transcript.text.encode())
    monkeypatch.setitem(FORMATS, "archive", archive)
    (file,) = save(TALK, tmp_path, "talk", ["archive"])
    assert file.name == "talk.zip"
    assert file.read_bytes() == b"PK\x00" + TALK.text.encode()


def test_speakers_are_named_where_a_format_has_a_place_for_them_and_a_name_breaks_nothing() -> None:
    talk = transcript_of(
        Segment(0, 1, " Hi.", speaker="A <b> --> B&amp;"),
        Segment(1, 2, " More.", speaker="A <b> --> B&amp;"),
        Segment(2, 3, " Nobody."),
        Segment(3, 4, " Again.", (Word(3, 4, " Again.", 0.9),), speaker="Ann"),
    )
    assert text_of(talk, "txt").splitlines() == ["A <b> --> B&amp;: Hi.", "More.", "Nobody.", "Ann: Again."]
    read = pysrt.from_string(text_of(talk, "srt"), error_handling=pysrt.ERROR_RAISE)
    assert [item.text for item in read] == ["A <b> -> B&amp;: Hi.", "More.", "Nobody.", "Ann: Again."]
    captions = webvtt.from_string(text_of(talk, "vtt")).captions
    assert [caption.text for caption in captions] == ["Hi.", "More.", "Nobody.", "Again."]
    assert [caption.voice for caption in captions][2:] == [None, "Ann"]
    assert "<v A &lt;b  --  B&amp;amp;>Hi." in text_of(talk, "vtt")
    assert "speaker" not in json.loads(text_of(talk, "json"))["segments"][2]
    assert from_json(json.loads(text_of(talk, "json"))) == talk
