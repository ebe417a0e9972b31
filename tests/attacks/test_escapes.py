"""What others wrote is shown and never obeyed: by a terminal, by whoever reads the log, by a spreadsheet."""

from __future__ import annotations

import csv
import io
import logging
import sys
from typing import cast

import pytest
from support.served_farm import ServedFarm
from support.spoken import transcript_of

from whisper_farm import log
from whisper_farm.cli.main import outcome
from whisper_farm.showing import FORMULA, cell
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.transcript import Segment

EVIL = "a\x1b]0;owned\x07\x9b2J\u202eb\rc"
OBEYED = "\x1b\x07\x9b\u202e\r"
Captured = pytest.CaptureFixture[str]


def harmless(text: str) -> bool:
    return bool(text) and not set(OBEYED) & set(text)


@pytest.mark.parametrize("error", [None, ValueError(EVIL)])
def test_lines_of_the_log_hold_no_escapes_of_others(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    target = logging.getLogger("whisper_farm")
    before = target.handlers[:], target.level, target.propagate
    log.set_up_logging("console")
    try:
        log.logger().warning(EVIL, action="x", name=EVIL, exc_info=error)
        target.handlers[0].flush()
        assert "owned" in out.getvalue()
        assert harmless(out.getvalue())
        assert (error is None) == ("Traceback" not in out.getvalue() and "ValueError" not in out.getvalue())
    finally:
        target.handlers[0].close()
        target.handlers[:], target.level, target.propagate = before


def test_lists_on_a_terminal_hold_no_escapes_of_others(farm: ServedFarm, capsys: Captured) -> None:
    told = ["--server", farm.url, "--token", farm.token]
    assert outcome(["token", "create", f"n{EVIL}", "--owner", "o\x1b[2Jwner", *told]) == 0
    capsys.readouterr()
    assert outcome(["token", "list", *told]) == 0
    shown = capsys.readouterr().out
    assert "wner" in shown
    assert harmless(shown)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", " \n=1", "\uff1d1", "\r=1"]
)
def test_no_text_begins_a_formula_in_a_table(text: str) -> None:
    talk = transcript_of(Segment(0.0, 1.0, text, speaker=text))
    row = FORMATS["tsv"].write(talk).decode().splitlines()[1].split("\t")
    assert row[2].startswith("'")
    assert len(row) == 3
    (row,) = list(csv.reader(io.StringIO(FORMATS["csv"].write(talk).decode())))[1:]
    assert [one[0] for one in row[2:]] == ["'", "'"]
    assert len(row) == 4
    assert cell("Good - morning = so; so - good") == "Good - morning = so; so - good"


@pytest.mark.parametrize("text", ["- Who is there?", "- HYPERLINK(A1)", "\uff0d 1"])
def test_a_dialogue_keeps_its_dash_which_begins_no_formula(text: str) -> None:
    assert cell(text) == f"–{text[1:]}"


@pytest.mark.parametrize("text", ["Hm;=1+1", "Hm; \"'-1", "Hm;\uff1d1", "Hm;;@SUM(1)"])
def test_no_text_begins_a_formula_where_semicolons_part_a_table(text: str) -> None:
    assert not any(part.strip(" '\"").startswith(FORMULA) for part in cell(text).split(";"))


def test_a_transcript_is_neutral_on_a_terminal_and_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from whisper_farm.cli import transcriptions

    class Farm:
        def __enter__(self) -> Farm:
            return self

        def __exit__(self, *_: object) -> None: ...

        def rendered(self, id: str, format: str, *_: object) -> bytes:
            return b"PK\xff" if format == "docx" else f"{EVIL}\n\tend\n".encode()

    monkeypatch.setattr(transcriptions, "connect", lambda *_: Farm())
    words = ["get", "3k7qz2m9xw4a", "--server", "http://127.0.0.1:1", "--token", "x"]
    assert outcome(words) == 0
    assert capsys.readouterr().out == f"{EVIL}\n\tend\n"
    monkeypatch.setattr(cast(io.TextIOBase, sys.stdout), "isatty", lambda: True)
    assert outcome(words) == 0
    shown = capsys.readouterr().out
    assert harmless(shown)
    assert shown.endswith("\n\tend\n")
    assert outcome([*words, "-f", "docx"]) == 2
    assert capsys.readouterr().out == ""
