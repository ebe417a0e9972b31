"""A server says how workers come to it, in lines that work as they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_farm.cli.main import outcome
from whisper_farm.cli.serve import greet, outside
from whisper_farm.settings import ServerSettings

DEFAULT = "http://127.0.0.1:8765"


def line_here(settings: ServerSettings, address: str, capsys: pytest.CaptureFixture[str]) -> str:
    greet(settings, address, "secret")
    out = capsys.readouterr().out
    assert "secret" not in out
    return next(line.partition("here ")[2].strip() for line in out.splitlines() if "a worker here" in line)


def test_a_sign_in_link_leads_to_the_server_of_the_data_folder_and_says_for_how_long(
    own_data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_data_folder / "server-address").write_text("http://127.0.0.1:9911\n", encoding="utf-8")
    assert outcome(["db", "upgrade"]) == 0
    capsys.readouterr()
    assert outcome(["sign-in-link"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("http://127.0.0.1:9911/#/sign-in/")
    assert printed.err == "It signs admin in once, within 15 minutes.\n"


@pytest.mark.parametrize("command", [["sign-in-link"], ["db", "backup", "copy.db"]])
def test_a_data_folder_without_a_farm_gets_none(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert outcome([*command, "--data", "typo"]) == 1
    assert capsys.readouterr().err == (
        "whisper-farm: There is no farm in typo. Give its server's folder with --data.\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_worker_here_needs_no_flags_where_everything_is_as_usual(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WHISPER_FARM_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert line_here(ServerSettings(), DEFAULT, capsys) == "whisper-farm worker"
    port = "http://127.0.0.1:9911"
    assert line_here(ServerSettings(port=9911), port, capsys) == f"whisper-farm worker --server {port}"


def test_a_worker_here_is_told_the_token_where_it_would_not_find_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"whisper-farm worker --token_file {tmp_path}/worker-token"
    assert line_here(ServerSettings(data=tmp_path), DEFAULT, capsys) == here
    lan = line_here(ServerSettings(host="192.0.2.7"), "http://192.0.2.7:8765", capsys)
    assert lan.startswith("whisper-farm worker --server http://192.0.2.7:8765 --token_file ")


def test_an_address_of_the_sixth_version_keeps_its_brackets() -> None:
    assert outside(ServerSettings(host="2001:db8::7"), "http://[2001:db8::7]:8765") == "http://[2001:db8::7]:8765"
