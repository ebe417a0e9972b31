"""Which farm a command talks to: what can be none is one line that says so, whichever command was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_farm.cli.connection import access_token, server_address
from whisper_farm.cli.main import outcome

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
