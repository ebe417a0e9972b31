"""`whisper-farm doctor`: what works on this machine, and what to do about the rest.

Each examination looks at one thing and never raises. What may crash a process (native libraries on a processor they do
not know) is tried in a child. It changes nothing on the machine, fetches nothing, and asks the network only for the
farm's server. With `--data` it makes transcripts again that were lost.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from whisper_farm import DEFAULT_ENGINE, __version__
from whisper_farm.cli.connection import access_token, admin_token_file, server_address, server_flags
from whisper_farm.cli.whisper_flags import Command
from whisper_farm.cli.words import counted
from whisper_farm.errors import FarmError, Forbidden, ServerUnreachable, Unauthorized
from whisper_farm.showing import say

PROBE_SECONDS = 120.0
SERVER_SECONDS = 5.0
ENOUGH_BYTES = 2 << 30
TOO_FEW_BYTES = 200 << 20
MARKS = {"fine": "✓", "noted": "–", "broken": "✗"}
SERVER_ADVICE = {
    Unauthorized: "give its token with --token; the server's owner makes one with `whisper-farm token create NAME`",
    ServerUnreachable: "start it with `whisper-farm serve`, or give its address with --server",
}
State = Literal["fine", "noted", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one examination found."""

    state: State
    what: str
    detail: str
    advice: str | None = None


@click.command(cls=Command)
@server_flags
@click.option("--data", metavar="FOLDER", help="Examine what a farm keeps there instead: database and blobs.")
def doctor(server: str | None, token: str | None, data: str | None) -> int:
    """Say what works on this machine (engines, models, GPU, cores, disk, server) and what to do about the rest.

    Exit code 1 if something is broken that is needed.
    """
    broken = False
    for finding in _kept(Path(data)) if data else examine(server, token):
        broken = broken or finding.state == "broken"
        say(f"{MARKS[finding.state]} {finding.what}: {finding.detail}")
        if finding.advice:
            say(f"    → {finding.advice}")
    return 1 if broken else 0


def _kept(data: Path) -> Iterator[Finding]:
    from whisper_farm.cli.stored import stored

    for fine, what, detail in stored(data):
        advice = "bring it back from a backup, or recognise the recording again" if what == "blob" else None
        yield Finding("fine" if fine else "broken", what, detail, advice)


def examine(server: str | None, token: str | None) -> Iterator[Finding]:
    """All examinations, one after another."""
    from whisper_farm.engines.devices import usable_cores

    system = f"{platform.system()} {platform.machine()}"
    yield Finding("fine", "program", f"whisper-farm {__version__}, Python {platform.python_version()}, {system}")
    yield Finding("fine", "processor", counted(usable_cores(), "core"))
    yield from _engines()
    yield from _device()
    yield _ffmpeg()
    yield from _sandboxes()
    yield from _storage()
    yield _server(server, token)


def probe(code: str) -> tuple[list[str], str]:
    """Run a few lines of Python in a child: the words it printed, or none and what went wrong."""
    run = [sys.executable, "-c", code]
    try:
        ended = subprocess.run(
            run, capture_output=True, encoding="utf-8", errors="replace", timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], str(error)
    if ended.returncode == 0:
        return ended.stdout.split(), ""
    return [], (ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode}"])[-1]


def _engines() -> Iterator[Finding]:
    """Whether each engine's library can be imported, tried in a child; the default engine must work."""
    from whisper_farm.engines.registry import engine_names

    for name in engine_names():
        words, trouble = probe(
            "from whisper_farm.engines.registry import engine_traits, library_version\n"
            "from whisper_farm.errors import EngineError\n"
            f"try: print(library_version(engine_traits({name!r})))\n"
            "except EngineError as error: raise SystemExit(error.message)"
        )
        if words:
            yield Finding("fine", name, " ".join(words))
        else:
            state: State = "broken" if name == DEFAULT_ENGINE else "noted"
            advice = f"install it with `pip install --force-reinstall {name}`" if state == "broken" else None
            yield Finding(state, name, trouble, advice)


def _device() -> Iterator[Finding]:
    """The GPU, if there is one, and the models that suit this machine."""
    words, _ = probe("from whisper_farm.engines.devices import gpus\nprint(gpus())")
    gpus = int(words[0]) if words else 0
    if gpus:
        yield Finding("fine", "GPU", f"{gpus} that CTranslate2 can use")
    elif shutil.which("nvidia-smi"):
        advice = "install the CUDA 12 libraries: `pip install nvidia-cublas-cu12 nvidia-cudnn-cu12`"
        yield Finding("noted", "GPU", "a driver is here, but CTranslate2 finds no device", advice)
    else:
        yield Finding("noted", "GPU", "none; recognition runs on the processor")
    yield _models("cuda" if gpus else "cpu")


def _models(device: Literal["cpu", "cuda"]) -> Finding:
    """Whether the model for who names none is here, and which others are."""
    from whisper_farm.engines.cache import cache_folder, models_on_disk
    from whisper_farm.engines.registry import engine_traits

    wanted = engine_traits(DEFAULT_ENGINE).default_model(device, "transcribe")
    here = [found.model for found in models_on_disk()]
    listed = f"{', '.join(here) or 'none'} in {cache_folder()}"
    if wanted in here:
        return Finding("fine", "models", listed)
    advice = f"the first transcription fetches {wanted} from the model hub; without a network, give a folder as --model"
    return Finding("noted", "models", f"{listed}; the default {wanted} is not there", advice)


def _ffmpeg() -> Finding:
    words, trouble = probe("import av\nprint(av.__version__, *av.library_versions['libavformat'])")
    if words:
        return Finding("fine", "audio", f"PyAV {words[0]} with libavformat {'.'.join(words[1:])}")
    return Finding("broken", "audio", f"PyAV does not work here: {trouble}", "`pip install --force-reinstall av`")


def _sandboxes() -> Iterator[Finding]:
    held = {"landlock": "almost no files (Landlock)", "seccomp": "no network, no other programs (seccomp)"}
    code = "from whisper_farm.worker.sandbox import enter\nheld = enter()\nimport whisper_farm.worker.cutter_child"
    yield _sandbox("reading recordings", code, held)
    code = (
        "from whisper_farm.models import DEFAULT_ENGINE\nfrom whisper_farm.worker.sandbox import confine, leave\n"
        "held = ['landlock'] if confine(DEFAULT_ENGINE, '') else []\nimport whisper_farm.worker.recogniser_child\n"
        "from whisper_farm.engines.registry import engine_traits, library_version\n"
        "library_version(engine_traits(DEFAULT_ENGINE))\nheld += ['seccomp'] if leave(()) else []"
    )
    yield _sandbox("recognising", code, held | {"landlock": "models and almost no other files (Landlock)"})


def _sandbox(who: str, code: str, held: Mapping[str, str]) -> Finding:
    words, trouble = probe(f"{code}\nprint('held', *held)")
    if not words:
        return Finding("broken", "sandbox", f"{who} does not work in it: {trouble}", "please report this")
    what = ", ".join(text for name, text in held.items() if name in words)
    if len(words) == 1 + len(held):
        return Finding("fine", "sandbox", f"{who}: {what}")
    advice = "let only people you trust submit recordings, or run the worker in a container of its own"
    return Finding("noted", "sandbox", f"{who}: {what or 'nothing'} here, of {' and '.join(held)}", advice)


def _storage() -> Iterator[Finding]:
    """Room on the disk, and whether the data folder can be written to; or the nearest folder above it that exists."""
    from whisper_farm.settings import data_folder

    folder, advice = data_folder(), "set WHISPER_FARM_DATA to a folder elsewhere"
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not place.is_dir():
        yield Finding("broken", "data folder", f"{folder} cannot be made: {place} is no folder", advice)
        return
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GB free in {place}"
    if free < TOO_FEW_BYTES:
        yield Finding("broken", "disk", detail, f"make room, or {advice}")
    elif free < ENOUGH_BYTES:
        yield Finding("noted", "disk", detail, "a model and a few hours of audio need about 2 GB")
    else:
        yield Finding("fine", "disk", detail)
    try:
        with tempfile.TemporaryFile(dir=place):
            yield Finding("fine", "data folder", str(folder))
    except OSError as error:
        reason = f"{folder} cannot be written to ({error.strerror})"
        yield Finding("broken", "data folder", reason, f"allow writing there, or {advice}")


def _server(flag: str | None, token: str | None) -> Finding:
    """A server that was asked for must answer; one that might run here may be missing."""
    asked_for = bool(flag or os.environ.get("WHISPER_FARM_SERVER"))
    if not asked_for and not admin_token_file().exists():
        return Finding("noted", "server", "none was named; transcribe needs none", "`whisper-farm serve` starts one")
    try:
        return Finding("fine", "server", _greet(flag, token))
    except FarmError as error:
        return Finding("broken" if asked_for else "noted", "server", error.message, SERVER_ADVICE.get(type(error)))


def _greet(flag: str | None, token: str | None) -> str:
    from whisper_farm.client.farm import FarmClient

    address = server_address(flag)
    with FarmClient(address, access_token(token, address), timeout=SERVER_SECONDS) as farm:
        try:
            here = farm.server()
        except Forbidden:
            return f"{address} answers; this token is for workers and opens nothing else"
    workers = counted(here.workers_live, "live worker")
    return f"{address}, version {here.version}, as {here.owner} ({here.scope}), {workers}"
