"""The image's recipe, compose, Fly's and systemd's files say what the program understands. No container engine ran."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from whisper_farm.cli.main import menu
from whisper_farm.settings import Policy, ServerSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
FLY = tomllib.loads((DEPLOY / "fly.toml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
KNOWN = {
    f"{settings.model_config['env_prefix']}{name}".upper()
    for settings in (Policy, ServerSettings, WorkerSettings)
    for name in settings.model_fields
} | {"WHISPER_FARM_TOKEN"}


LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]


class Unit(RawConfigParser):
    """A unit of systemd."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment, method-assign]
        self.read_string((DEPLOY / "systemd" / f"whisper-farm-{name}.service").read_text(encoding="utf-8"))
        self.service = self["Service"]


def stages() -> dict[str, dict[str, str]]:
    """The last word of each instruction of every stage, by the stage's name; a stage has what it was made from."""
    found: dict[str, dict[str, str]] = {}
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = dict(found.get(base, {}))
        elif word in ("CMD", "ENTRYPOINT", "USER", "HEALTHCHECK", "RUN"):
            stage[word] = rest
    return found


IMAGES = stages()


def commands() -> Iterator[tuple[str, list[str]]]:
    for name in ("worker", "worker-cuda", "coordinator"):
        yield f"image {name}", json.loads(IMAGES[name]["CMD"])
    for name in ("coordinator", "worker"):
        yield f"compose {name}", COMPOSE["services"][name]["command"]
    yield "fly", shlex.split(FLY["processes"]["app"])
    for name in ("server", "worker"):
        yield f"systemd {name}", shlex.split(Unit(name).service["ExecStart"])[1:]


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in commands()])
def test_every_command_line_is_one_that_the_program_reads(words: list[str]) -> None:
    command = menu.get_command(click.Context(menu), words[0])
    assert command is not None
    command.make_context(words[0], words[1:])  # refuses unknown flags and values


@pytest.mark.parametrize("file", [*DEPLOY.glob("*.*"), DEPLOY / "Dockerfile", *DEPLOY.glob("systemd/*")], ids=str)
def test_every_setting_that_is_named_is_a_setting(file: Path) -> None:
    named = set(re.findall(r"\bWHISPER_FARM_[A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8")))
    assert named <= KNOWN


def test_images_run_as_nobody_with_a_health_check() -> None:
    for name in ("worker", "worker-cuda", "coordinator"):
        image = IMAGES[name]
        assert image["ENTRYPOINT"] == '["whisper-farm"]'
        assert image["HEALTHCHECK"].startswith("--interval=")
        (check,) = re.findall(r"CMD (\[.+\])", image["HEALTHCHECK"])
        compile(json.loads(check)[2], "<health check>", "exec")
        assert "/healthz" in check
    assert IMAGES["worker"]["USER"] == IMAGES["worker-cuda"]["USER"] == "10001"
    assert "ARG USER_OF_SERVER=10001" in DOCKERFILE
    assert not re.search(r"install[^#]*(ffmpeg|cudnn)", DOCKERFILE)


def test_what_other_files_take_from_the_image_is_there() -> None:
    for service in (COMPOSE["services"]["coordinator"], COMPOSE["services"]["worker"]):
        assert service["build"]["target"] in IMAGES
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert FLY["build"]["build-target"] in IMAGES
    assert (DEPLOY / FLY["build"]["dockerfile"]).is_file()
    assert all(f"ARG {name}=" in DOCKERFILE for name in FLY["build"]["args"])
    assert set(re.findall(r"FROM (?!\$)(\S+)", DOCKERFILE)) <= set(IMAGES)
    assert set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= set(IMAGES)


def seconds(written: str) -> int:
    return int(re.fullmatch(r"(\d+)s?", written)[1])  # type: ignore[index]


def test_a_worker_has_the_time_that_it_is_promised() -> None:
    given = {
        seconds(COMPOSE["services"]["worker"]["stop_grace_period"]): COMPOSE["services"]["worker"]["command"],
        seconds(Unit("worker").service["TimeoutStopSec"]): shlex.split(Unit("worker").service["ExecStart"]),
    }
    for patience, words in given.items():
        assert patience >= int(words[words.index("--grace") + 1]) + 15


def test_units_are_hardened_alike_and_keep_what_they_write() -> None:
    server, worker = Unit("server").service, Unit("worker").service
    for unit in (server, worker):
        assert {unit[name] for name in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp")} == {"yes"}
        assert unit["ProtectSystem"] == "strict"
        assert unit["CapabilityBoundingSet"] == ""
        assert unit["KillMode"] == "mixed", "the worker ends its own processes"
        assert f"/var/lib/{unit['StateDirectory']}" in unit["ExecStart"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
@pytest.mark.parametrize("name", ["server", "worker"])
def test_systemd_finds_nothing_wrong_with_the_units(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / f"whisper-farm-{name}.service").read_text(encoding="utf-8")
    unit = tmp_path / f"whisper-farm-{name}.service"
    unit.write_text(text.replace("/opt/whisper-farm/bin/whisper-farm", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="hadolint is installed on Linux only")
def test_hadolint_finds_nothing_wrong_with_the_dockerfile() -> None:
    program = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([program, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def needed(lines: list[Any]) -> dict[str, Requirement]:
    return {canonicalize_name((one := Requirement(line)).name): one for line in lines if isinstance(line, str)}


def test_what_a_worker_imports_is_what_is_installed_with_it() -> None:
    """The script of a worker's process imports, in a process of its own, and says which distributions they are of."""
    roles = ["cli.worker", "worker.run", "worker.child_main", "worker.cutter_child", "worker.recogniser_child"]
    modules = [f"whisper_farm.{name}" for name in ["cli.main", *roles, "engines.whisper", "engines.hub"]]
    looked = f"""
import importlib, importlib.metadata, json, sys
for name in {modules!r}:
    importlib.import_module(name)
import faster_whisper, filelock
of = importlib.metadata.packages_distributions()
print(json.dumps(sorted({{one for name in sys.modules for one in of.get(name, [])}})))
"""
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, timeout=100, check=True)
    imported = {canonicalize_name(name) for name in json.loads(done.stdout)}
    worker, whole = needed(PROJECT["dependency-groups"]["worker"]), needed(PROJECT["project"]["dependencies"])
    assert worker.keys() <= whole.keys()
    assert imported & whole.keys() <= worker.keys(), "`deploy/install worker` must install these, too"
    assert worker.keys() <= imported, "`deploy/install worker` need not install these"


def test_every_python_gets_the_same_releases_of_what_the_farm_imports() -> None:
    """A newer Python would be given newer ones, which these tests have never met: PyAV 19 opened no recording."""
    ours = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    releases = {(one["name"], one["version"].partition(".")[0]) for one in LOCK if one["name"] in ours}
    assert sorted(name for name, _ in releases) == sorted(ours)
