"""Every display says what happens, where it belongs, without ever obeying what a recording is called."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from whisper_farm.cli import progress
from whisper_farm.cli.progress import (
    AUDIO,
    BYTES,
    Display,
    PlainDisplay,
    RecentPace,
    Shown,
    TerminalDisplay,
    transcript_line,
)
from whisper_farm.cli.words import shortened
from whisper_farm.showing import printable
from whisper_farm.transcript.transcript import Segment

SEGMENT = Segment(0.0, 4.2, " Good evening.")


@pytest.fixture(autouse=True)
def every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 10.0)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_looks_as_whisper_prints_it() -> None:
    assert transcript_line(SEGMENT) == "[00:00.000 --> 00:04.200]  Good evening."
    assert transcript_line(replace(SEGMENT, speaker="Left")) == "[00:00.000 --> 00:04.200]  Left: Good evening."


def test_names_and_words_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2J\nb\u202e.mp3") == "a�[2J�b�.mp3"
    assert "\x1b" not in transcript_line(Segment(0, 1, "\x1b]0;owned\x07"))
    for name in ("講演 第1回 ☕️.mp3", "می‌خواهم.ogg", "👩‍🏫.m4a"):
        assert printable(name) == name


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    short = shortened("interview-with-somebody-important-part-2.mp3", 20)
    assert len(short) == 20
    assert short.startswith("interview")
    assert short.endswith("art-2.mp3")


def test_the_pace_is_that_of_the_last_minute() -> None:
    hand = Hand()
    pace = RecentPace(hand)
    pace.note(0)
    assert pace.each_second is None
    hand.now = 10
    pace.note(40)
    assert pace.each_second == 4
    assert pace.seconds_left(100) == 15
    for second in range(100, 120):
        hand.now = second
        pace.note(second * 8)
    assert pace.each_second == pytest.approx(8)


def test_the_pace_of_few_chunks_is_that_of_all_of_them() -> None:
    hand = Hand()
    pace = RecentPace(hand)
    for second, done in ((0, 0), (200, 100), (400, 200), (401, 300)):
        hand.now = second
        pace.note(done)
    assert pace.each_second == pytest.approx(300 / 401)


def test_a_pace_that_stands_still_fades() -> None:
    hand = Hand()
    pace = RecentPace(hand)
    pace.note(0)
    hand.now = 1
    pace.note(10)
    hand.now = 10
    assert pace.each_second == 1


def test_without_a_known_length_there_is_no_time_left() -> None:
    assert Shown("a", done=65).figures() == ("1:05 / ?", "", "")


def test_what_is_sent_is_counted_in_bytes_and_the_work_on_it_anew_in_time() -> None:
    hand = Hand()
    shown = Shown("a", pace=RecentPace(hand))
    shown.advance(0, 300e6, BYTES)
    hand.now = 2
    shown.advance(120e6, 300e6, BYTES)
    assert shown.figures() == ("120.0 / 300.0 MB", "60.0 MB/s", "3.0 s left")
    shown.advance(5, 60, AUDIO)
    assert shown.figures() == ("0:05 / 1:00", "", "")


def test_the_time_in_which_a_model_is_loaded_is_not_in_the_time_that_is_left() -> None:
    hand = Hand()
    shown = Shown("a", pace=RecentPace(hand))
    shown.advance(0, 300, AUDIO)
    hand.now += 60
    shown.advance(100, 300, AUDIO)
    assert shown.figures()[2] == ""
    hand.now += 5
    shown.advance(200, 300, AUDIO)
    assert shown.figures()[1:] == ("20.0 ×", "5.0 s left")


def test_the_pace_of_what_is_counted_once_more_begins_anew() -> None:
    hand = Hand()
    shown = Shown("a", pace=RecentPace(hand))
    for second, done in ((0, 0), (1, 300e6), (2, 0), (4, 20e6)):
        hand.now = second
        shown.advance(done, 300e6, BYTES)
    assert shown.figures() == ("20.0 / 300.0 MB", "10.0 MB/s", "28 s left")


def test_plain_lines_come_at_intervals_and_the_transcript_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    hand = Hand()
    with PlainDisplay(verbose=True, now=hand) as display:
        display.begin("talk.mp3", "transcribing")
        display.text([SEGMENT])
        display.advance("talk.mp3", 30, 60)
        hand.now = 11
        display.advance("talk.mp3", 45, 60)
        hand.now = 12
        display.advance("talk.mp3", 50, 60)
        display.end("talk.mp3")
    out, err = capsys.readouterr()
    assert out == "[00:00.000 --> 00:04.200]  Good evening.\n"
    assert err.count("\n") == 1
    assert err.startswith("talk.mp3: transcribing, 0:45 / 1:00")


def test_a_line_about_what_has_no_length_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    hand = Hand()
    with PlainDisplay(verbose=True, now=hand) as display:
        hand.now = 11
        display.begin("model small", "loading")
    assert capsys.readouterr().err == "model small: loading\n"


def test_a_log_does_not_say_the_same_line_again(capsys: pytest.CaptureFixture[str]) -> None:
    hand = Hand()
    with PlainDisplay(verbose=True, now=hand) as display:
        for hand.now in (11, 22, 33):
            display.begin("talk.mp3", "waiting for the first words")
        hand.now = 44
        display.begin("talk.mp3", "putting together")
    said = capsys.readouterr().err.splitlines()
    assert said == ["talk.mp3: waiting for the first words", "talk.mp3: putting together"]


def test_without_verbose_no_transcript_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    PlainDisplay(verbose=False).text([SEGMENT])
    PlainDisplay(verbose=False).heading("talk.mp3")
    assert capsys.readouterr() == ("", "")


def test_what_a_command_is_asked_for_goes_to_the_standard_output_however_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    for display in (Display(), PlainDisplay(verbose=False), TerminalDisplay(False, console, None)):
        with display:
            display.result("3k7qz2m9xw4a")
        assert capsys.readouterr() == ("3k7qz2m9xw4a\n", "")
    with TerminalDisplay(False, console, console) as display:
        display.result("3k7qz2m9xw4a")
    assert "3k7qz2m9xw4a\n" in screen.getvalue()


def test_quiet_means_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display.begin("a", "x")
        display.advance("a", 1, 2)
        display.text([SEGMENT])
        display.note("hello")
        display.end("a")
        display.error("a: this is no audio")
    assert capsys.readouterr() == ("", "whisper-farm: a: this is no audio\n")


def test_the_terminal_shows_bars_and_lines_and_leaves_nothing_behind() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with TerminalDisplay(True, console, console) as display:
        display.begin("[bold]talk[/].mp3", "waiting")
        display.advance("[bold]talk[/].mp3", 30, 60)
        display.text([SEGMENT])
        display._bars.refresh()
        display.end("[bold]talk[/].mp3")
    text = screen.getvalue()
    assert "[bold]talk[/].mp3" in text
    assert "0:30 / 1:00" in text
    assert "[00:00.000 --> 00:04.200]  Good evening." in text
    assert text.rstrip("\r").endswith("\x1b[?25h")


@pytest.mark.parametrize(
    ("width", "name"),
    [(100, "interview-with-somebody-important-part-2.mp3"), (80, "interview.mp3"), (60, "talk.mp3"), (50, "talk.mp3")],
)
def test_in_a_narrow_terminal_the_figures_stay_whole_and_there_is_room_for_what_ctrl_c_writes(
    width: int, name: str
) -> None:
    screen, hand = io.StringIO(), Hand()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    with TerminalDisplay(True, console, console) as display:
        display.shown[name] = Shown(name, pace=RecentPace(hand))
        for second, done in ((0, 0), (10, 700e6)):
            hand.now = second
            display.begin(name, "sending")
            display.advance(name, done, 1400e6, BYTES)
        display._bars.refresh()
    row = next(line for line in re.split(r"[\r\n]|\x1b\[\??\d+[A-Za-z]", screen.getvalue()) if " left " in line)
    assert "700.0 / 1400.0 MB  70.0 MB/s  10 s left sending" in row
    assert len(row) == width - len("^C")


def test_a_redirected_transcript_is_plain_text_beside_the_bars(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with TerminalDisplay(True, Console(file=screen, force_terminal=True, width=100), None) as display:
        display.begin("talk.mp3", "transcribing")
        display.text([SEGMENT])
    assert capsys.readouterr().out == "[00:00.000 --> 00:04.200]  Good evening.\n"
    assert "Good evening" not in screen.getvalue()
