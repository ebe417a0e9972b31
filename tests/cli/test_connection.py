"""Which farm a command talks to: what can be none is one line that says so, whichever command was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.talks import Recorder

from whisper_farm.cli.connection import access_token, server_address
from whisper_farm.cli.main import outcome
from whisper_farm.errors import Unauthorized

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("farm.example:8765", "http://farm.example:8765"),
        (" https://farm.example/farm/ ", "https://farm.example/farm"),
        ("http://[::1]:8765", "http://[::1]:8765"),
        ("http://bücher.example", "http://bücher.example"),
        (None, "http://127.0.0.1:8765"),
    ],
)
def test_an_address_is_taken_as_people_write_it(written: str | None, address: str) -> None:
    assert server_address(written) == address


@pytest.mark.parametrize("command", ["list", "worker"])
@pytest.mark.parametrize(
    "address",
    ["ftp://farm", "http://", "http:///farm", "http://[bad", "http://a b", "http://a..b", f"http://{'a' * 64}",
     "http://farm:many", "http://farm:99999"],
)  # fmt: skip
def test_what_can_be_no_address_is_said_to_be_none(command: str, address: str, capsys: Captured) -> None:
    assert outcome([command, "--server", address, "--token", "x"]) == 1
    line = f"whisper-farm: {address} is no address of a server; write it as http://HOST:PORT.\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("command", ["list", "worker"])
@pytest.mark.parametrize("token", ["schlüssel", "two words", "a\nb"])
def test_what_can_be_no_token_is_said_to_be_none(command: str, token: str, capsys: Captured) -> None:
    assert outcome([command, "--server", "http://127.0.0.1:9", "--token", token]) == 1
    line = "whisper-farm: This is no access token: it holds characters that none has.\n"
    assert capsys.readouterr().err == line


def test_who_has_no_server_is_told_how_to_start_one(capsys: Captured, own_data_folder: Path) -> None:
    assert outcome(["list"]) == 1
    err = capsys.readouterr().err
    assert f"no server has left one in {own_data_folder}: start one with `whisper-farm serve`" in err
    (own_data_folder / "admin-token").write_text("secret\n")
    assert access_token(None, "http://127.0.0.1:8765") == "secret"


@pytest.mark.parametrize("command", ["list", "worker"])
def test_who_names_no_server_means_the_one_of_this_machine_whatever_its_port(
    command: str, own_data_folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("whisper_farm.worker.run.run_worker", lambda settings: asked.append(settings.server))
    (own_data_folder / "admin-token").write_text("secret\n")
    (own_data_folder / "server-address").write_text("http://127.0.0.1:9\n")
    if command == "list":
        assert outcome(["list"]) == 1
        assert "The farm at http://127.0.0.1:9 does not answer" in capsys.readouterr().err
    else:
        assert (outcome(["worker"]), asked) == (0, ["http://127.0.0.1:9"])


def test_a_token_of_the_data_folder_is_sent_to_the_server_that_left_it_and_to_no_other(own_data_folder: Path) -> None:
    (own_data_folder / "admin-token").write_text("secret\n")
    with pytest.raises(Unauthorized, match=r"is for the server at http://127\.0\.0\.1:8765 and is sent to no other"):
        access_token(None, "http://127.0.0.1:9000")
    (own_data_folder / "server-address").write_text("http://127.0.0.1:9000\n")
    assert access_token(None, "http://localhost:9000") == "secret"
    for other in ("http://127.0.0.1:8765", "https://127.0.0.1:9000", "http://[::1]:80"):
        with pytest.raises(Unauthorized):
            access_token(None, other)


def test_a_worker_takes_the_token_of_workers_before_the_admins(
    own_data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr("whisper_farm.worker.run.run_worker", lambda settings: taken.append(settings.token))
    (own_data_folder / "admin-token").write_text("admin\n")
    assert outcome(["worker"]) == 0
    (own_data_folder / "worker-token").write_text("worker\n")
    assert outcome(["worker"]) == 0
    (own_data_folder / "other").write_text("file\n")
    assert outcome(["worker", "--token-file", str(own_data_folder / "other")]) == 0
    monkeypatch.setenv("WHISPER_FARM_TOKEN", "any")
    monkeypatch.setenv("WHISPER_FARM_WORKER_TOKEN", "environment")
    assert outcome(["worker"]) == 0
    assert taken == ["admin", "worker", "file", "environment"]


def test_a_token_file_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    assert outcome(["list", "--token_file", str(tmp_path / "none")]) == 1
    there = f"whisper-farm: The token cannot be read from {tmp_path / 'none'}: No such file or directory.\n"
    assert capsys.readouterr().err == there


@pytest.mark.parametrize("below", ["", "/farm"])
@pytest.mark.parametrize("command", ["transcribe", "watch", "serve", "doctor"])
def test_a_data_folder_that_cannot_be_is_one_line_that_names_the_setting(
    command: str, below: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Recorder(tmp_path)("a.wav", 2)
    (tmp_path / "file").touch()
    monkeypatch.setenv("WHISPER_FARM_DATA", f"{tmp_path}/file{below}")
    instant = ("--engine", "tones", "--model", "instant")
    given = {"transcribe": ["a.wav", *instant], "watch": [".", *instant], "serve": ["--port", "0"]}
    assert outcome([command, *given.get(command, [])]) == 1
    out, err = capsys.readouterr()
    if command == "doctor":
        assert f"✗ data folder: {tmp_path}/file{below} cannot be made: {tmp_path}/file is no folder" in out
    else:
        assert err.startswith(f"whisper-farm: The data folder {tmp_path}/file{below} cannot be made: ")
        assert err.endswith("Set WHISPER_FARM_DATA to a folder elsewhere.\n")


def test_a_token_that_would_cross_a_network_in_clear_is_warned_about(capsys: Captured) -> None:
    for quiet in ("https://farm.example", "http://127.0.0.1:1"):
        assert access_token("x", quiet) == "x"
    assert capsys.readouterr().err == ""
    assert access_token("x", "http://farm.example") == "x"
    assert "can read the token" in capsys.readouterr().err
