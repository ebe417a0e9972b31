"""Links on the command line: fetched by the farm, on this machine or elsewhere, and transcribed like files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.farm_processes import Farm
from support.talks import Recorder
from support.web_server import WebServer

from whisper_farm.cli.main import outcome

TONES = ("--engine", "tones", "--model", "instant")
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("WHISPER_FARM_PRIVATE_NETWORKS", '["127.0.0.0/8"]')
    with WebServer() as server:
        yield server


def text_of(file: str) -> str:
    return " ".join(Path(file).read_text(encoding="utf-8").split())


def test_a_link_is_transcribed_on_this_machine(record: Recorder, web: WebServer, capsys: Captured) -> None:
    """Again, it is fetched anew: it may lead to something else by now."""
    talk, other = record("talk.wav"), record("other.wav", 20)
    url = web.put("/shows/a%20talk.wav", talk.path.read_bytes())
    assert outcome(["transcribe", url, "-f", "txt", *TONES]) == 0
    assert text_of("a talk.txt") == talk.text
    assert f"{url}: " in capsys.readouterr().err
    web.put("/shows/a%20talk.wav", other.path.read_bytes())
    assert outcome(["transcribe", url, "talk.wav", "-f", "txt", *TONES]) == 0
    assert (text_of("a talk.txt"), text_of("talk.txt")) == (other.text, talk.text)


def test_a_link_that_leads_nowhere_is_one_line_and_the_rest_is_done(
    record: Recorder, web: WebServer, capsys: Captured
) -> None:
    talk = record("talk.wav")
    gone, page = f"{web.url}/gone.mp3", web.put("/page", b"<html>")
    words = ["transcribe", gone, page, "http://user@example.org/x.mp3", "talk.wav", "-f", "txt", *TONES]
    assert outcome(words) == 1
    said = capsys.readouterr().err
    assert f"{gone}: 127.0.0.1 answered 404: it has no such file." in said
    assert "a page, not a recording" in said
    assert "name or password" in said
    assert text_of("talk.txt") == talk.text


def test_a_link_is_submitted_to_a_farm(record: Recorder, web: WebServer, tmp_path: Path, capsys: Captured) -> None:
    talk = record("talk.wav")
    url = web.put("/talk.wav", talk.path.read_bytes())
    with Farm(tmp_path / "farm") as farm, farm.worker():
        assert outcome(["submit", url, "--quiet", "--server", farm.url, "--token", farm.token, *TONES]) == 0
        made = capsys.readouterr().out.split()[0]
        assert " ".join(segment.text.strip() for segment in farm.finished(made).segments) == talk.text
        assert farm.client.get(made).name == "talk.wav"
