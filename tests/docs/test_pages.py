"""The pages keep up with the program: links lead somewhere, commands exist, every error and setting is written down."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from whisper_farm.cli.main import menu
from whisper_farm.errors import every_error
from whisper_farm.settings import Policy, ServerSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
COMMAND = re.compile(r"^\$? ?(whisper-farm [^#\n]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # code is no link
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_on_the_pages_are_commands_of_the_program(page: Path) -> None:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in COMMAND.findall("\n".join(blocks)):
        words = shlex.split(line, comments=True)[1:]
        command = menu.get_command(click.Context(menu), words[0])
        assert command is not None, line
        if isinstance(command, click.Group) and words[1:] and not words[1].startswith("-"):
            command = command.get_command(click.Context(command), words[1])
            assert command is not None, line
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        flags = [word.split("=")[0] for word in words[1:] if word.startswith("-")]
        assert [
            flag for flag in flags if flag.replace("-", "_") not in {name.replace("-", "_") for name in known}
        ] == []


def test_every_file_that_pages_and_docstrings_name_is_there() -> None:
    folders = ("src", "tests", "bench", "deploy", "examples")
    files = [path.as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    missing = {}
    for page in [*PAGES, *ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        named = set(re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))) - {"worker/KIND.py"}
        if unknown := [name for name in named if not any(file.endswith(f"/{name}") for file in files)]:
            missing[page.name] = unknown
    assert missing == {}


@pytest.mark.parametrize("room", ["leases", "store", "coordinator", "worker"])
def test_the_map_has_every_file_of_a_large_room(room: str) -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (rows,) = re.findall(rf"^\| `{room}/`[^\n]*\n\|---\|---\|\n((?:\|[^\n]*\n)+)", page, re.MULTILINE)
    files = {path.name for path in (ROOT / "src" / "whisper_farm" / room).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", rows)) == files


def test_the_menu_lists_what_the_script_can_do() -> None:
    listing = subprocess.run(["./run"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout
    listed = set(re.findall(r"^\./run (\w+)", listing, re.MULTILINE))
    script = (ROOT / "run").read_text(encoding="utf-8")
    assert listed == set(re.findall(r"^    ([a-z]+)\)", script, re.MULTILINE))


def test_every_error_is_on_its_page() -> None:
    page = (ROOT / "docs" / "ERRORS.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))
    tree = {code: kind for code, kind in every_error().items() if kind.__module__ == "whisper_farm.errors"}
    assert rows == {code: str(kind.status) for code, kind in tree.items()}


def test_every_setting_is_on_its_page() -> None:
    page = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(WHISPER_FARM_\w+)` \|", page, re.MULTILINE))
    expected = {
        f"{settings.model_config['env_prefix']}{name}".upper()
        for settings in (Policy, ServerSettings, WorkerSettings)
        for name in settings.model_fields
    }
    assert documented == expected
