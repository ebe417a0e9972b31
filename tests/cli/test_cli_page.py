"""The page about the command line names every command and every flag that there is, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from whisper_farm.cli.main import COMMANDS, menu
from whisper_farm.cli.whisper_flags import UNSUPPORTED
from whisper_farm.transcript.formats import FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "CLI.md").read_text(encoding="utf-8")
ELSEWHERE = {"--help", "--version", "--debug"}


def every_command() -> Iterator[tuple[str, click.Command]]:
    for name in (name for section in COMMANDS.values() for name in section):
        command = menu.get_command(click.Context(menu), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", one) for below, one in command.commands.items())
        else:
            yield name, command


def flags(command: click.Command) -> set[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {name for one in options for name in one.opts if name.startswith("--")}


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_the_page_describes_every_command_and_flag(name: str, command: click.Command) -> None:
    assert re.search(rf"(^## {name}$|`{name} |whisper-farm {name} |^\| `{name})", PAGE, re.MULTILINE)
    assert not [flag for flag in flags(command) if f"{flag}" not in PAGE]


def test_the_page_describes_no_flag_that_is_not_there() -> None:
    known = set().union(*(flags(command) for _, command in every_command())) | ELSEWHERE | set(UNSUPPORTED)
    mentioned = {flag.replace("-", "_").replace("__", "--", 1) for flag in re.findall(r"--[a-z][a-z_-]+", PAGE)}
    assert mentioned <= known


def test_the_page_names_every_format() -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `--output_format`")]
    assert all(f"`{name}`" in row for name in FORMATS)
