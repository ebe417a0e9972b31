"""Asking for help or the version costs nothing, and wrong usage ends with 2 and one clear line."""

from __future__ import annotations

import importlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest

from whisper_farm import __version__
from whisper_farm.cli.doctor import doctor
from whisper_farm.cli.main import COMMANDS, menu, outcome
from whisper_farm.cli.serve import greet
from whisper_farm.cli.stopping import Stopped
from whisper_farm.errors import ServerUnreachable
from whisper_farm.settings import ServerSettings

HEAVY = ("httpx", "pydantic", "rich", "av", "numpy", "faster_whisper", "fastapi", "sqlalchemy", "asyncio", "obstore")
OF_RECOGNITION = ("numpy", "av", "faster_whisper", "onnxruntime", "huggingface_hub")
OF_A_SERVER = ("fastapi", "sqlalchemy", "uvicorn", "alembic")
CLIENT = "whisper_farm.client.farm"
DOORS = "whisper_farm.coordinator.dialects"
OF_AN_AGENT = ("asyncio", "httpx", "pydantic_settings", "rich")
EVERY_COMMAND = [name for section in COMMANDS.values() for name in section]


def cli(
    *words: str, code: str = "import whisper_farm.cli.main as main; main.run()"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, encoding="utf-8", check=False
    )


@pytest.mark.parametrize(
    ("process", "modules", "not_needed"),
    [
        (
            "the command that waits for others",
            "whisper_farm.cli.transcribing, whisper_farm.farm",
            {*OF_RECOGNITION, DOORS},
        ),
        ("before its worker starts", "whisper_farm.cli.transcribing", {*OF_RECOGNITION, *OF_A_SERVER, CLIENT}),
        ("a cutter", "whisper_farm.worker.cutter_child", {"faster_whisper", *OF_AN_AGENT, *OF_A_SERVER}),
        ("a recogniser", "whisper_farm.worker.recogniser_child", {*OF_AN_AGENT, *OF_A_SERVER}),
    ],
)
def test_a_process_imports_only_what_it_needs(process: str, modules: str, not_needed: Iterable[str]) -> None:
    ended = cli(code=f"import sys, {modules}\nprint([name for name in {sorted(not_needed)} if name in sys.modules])")
    assert (process, ended.stdout.strip(), ended.stderr) == (process, "[]", "")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["transcribe", "--help"], ["serve", "--help"]])
def test_help_and_version_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, whisper_farm.cli.main as main\n"
        f"main.outcome({words!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = cli(code=code)
    assert ended.returncode == 0
    assert ended.stderr.strip() == "[]"
    assert "whisper-farm" in ended.stdout


def test_a_command_that_asks_a_farm_loads_no_terminal_of_others() -> None:
    code = (
        "import os, sys, whisper_farm.cli.main as main\n"
        "leave = os._exit\n"
        "os._exit = lambda code: (print(sys.modules.get('rich.console'), flush=True), leave(code))\n"
        "main.run(['status', '--server', 'nowhere', '--token', 'x'])"
    )
    ended = cli(code=code)
    assert (ended.returncode, ended.stdout) == (1, "None\n")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["--version"]) == 0
    assert capsys.readouterr().out == f"whisper-farm {__version__}\n"


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_every_command_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: whisper-farm {name}" in text
    command = menu.get_command(click.Context(menu), name)
    assert command is not None
    assert command.name == name
    assert all(option.help or option.hidden for option in command.params if isinstance(option, click.Option))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 1, "whisper-farm: what was printed could not be written: No space left on device.\n"),
    ],
)
def test_an_output_that_is_closed_or_full_ends_without_a_traceback(streams: str, code: int, said: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m whisper_farm --version {streams}"
    ended = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (code, said)


@pytest.mark.parametrize("words", [[], *([name] for name in EVERY_COMMAND)])
def test_the_help_fits_a_terminal_of_eighty_columns(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert outcome([*words, "--help"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_a_wrong_flag_ends_with_2_and_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["transcribe", "talk.mp3", "--modle", "tiny"]) == 2
    assert "Did you mean one of: '--model', " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serve", "--engine", "faster-whisper"], "--engine is that of a worker on this machine: give --worker, too."),
        (["transcribe", "a.mp3", "--token", "x"], "--token is for a farm elsewhere: give its address with --server"),
    ],
)
def test_a_flag_that_would_do_nothing_without_another_is_wrong_usage(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(words) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--modle", "--best_of", "--model"])
def test_every_wrong_flag_is_answered_with_where_the_right_ones_are_listed(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["transcribe", "talk.mp3", flag]) == 2
    assert "Try 'whisper-farm transcribe --help' for help." in capsys.readouterr().err


def test_a_wrong_engine_ends_with_2_and_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["transcribe", "talk.mp3", "--engine", "fasterwhisper"]) == 2
    assert (
        "'fasterwhisper' is none of command, faster-whisper, openai, tones, transcribe-cpp." in capsys.readouterr().err
    )
    assert outcome(["worker", "--engine", "auto"]) == 2
    assert "'auto' is none of command, faster-whisper, openai, tones, transcribe-cpp." in capsys.readouterr().err


def test_a_wrong_command_ends_with_2_and_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["transcibe", "talk.mp3"]) == 2
    assert "transcribe" in capsys.readouterr().err


def test_a_file_where_a_command_belongs_is_answered_with_the_command_that_was_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in ([__file__, "--model", "tiny"], ["--model", "tiny", __file__]):
        assert outcome(list(words)) == 2
        assert f"whisper-farm transcribe {shlex.join(words)}\n" in capsys.readouterr().err
    assert outcome(["--server", "http://farm:8765", "list"]) == 2
    assert "'--server' comes after a command: whisper-farm COMMAND " in capsys.readouterr().err


def test_an_unforeseen_error_is_one_line_and_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHISPER_FARM_DATA", str(tmp_path))
    monkeypatch.setattr(doctor, "callback", lambda **_: {}["missing"])
    assert outcome(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "KeyError: 'missing'" in err
    assert "last-error.log" in err


def test_a_command_that_a_workers_installation_lacks_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_data_folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(doctor, "callback", lambda **_: importlib.import_module("uvicorn"))
    assert outcome(["doctor"]) == 1
    assert "not installed here (uvicorn is missing)" in capsys.readouterr().err
    assert list(own_data_folder.iterdir()) == []


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_a_name_cannot_command_the_terminal_in_an_error_either(
    command: str, capsys: pytest.CaptureFixture[str], own_data_folder: Path
) -> None:
    assert outcome([command, "a\x1bcb.mp3"]) == 1
    assert capsys.readouterr().err == "whisper-farm: a�cb.mp3: there is no such file.\n"
    assert list(own_data_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (Stopped(signal.SIGINT), 130, "whisper-farm: stopped.\n"),
        (Stopped(signal.SIGTERM), 143, "whisper-farm: stopped.\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (ServerUnreachable("No answer."), 1, "whisper-farm: No answer.\n"),
        (ServerUnreachable("No\nanswer."), 1, "whisper-farm: No answer.\n"),
    ],
)
def test_every_way_to_end_has_its_exit_code_and_at_most_one_line(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(**_: object) -> None:
        raise raised

    monkeypatch.setattr(doctor, "callback", end)
    assert outcome(["doctor"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.168.1.7", "public_url": "http://farm.example"}, True),
        ({"host": "0.0.0.0", "public_url": "https://farm.example"}, False),
        ({"host": "0.0.0.0", "proxy_user_header": "Remote-User"}, False),
        ({"host": "127.0.0.1"}, False),
    ],
)
def test_a_server_that_others_reach_without_tls_says_so(
    given: dict[str, str], warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greet(ServerSettings(data=tmp_path, **given), "http://127.0.0.1:8765", "token")  # type: ignore[arg-type]
    assert ("in clear text" in capsys.readouterr().out) == warned
