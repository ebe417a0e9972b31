"""`whisper-farm worker`: recognise speech for a farm, until told to stop.

The flags that say what this machine is used for are shared with `transcribe`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.cli.connection import access_token, server_address, server_flags, settled
from whisper_farm.cli.recognition_flags import engine_name
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.whole_files import ADMIN_TOKEN_FILE, WORKER_TOKEN_FILE

if TYPE_CHECKING:
    from whisper_farm.settings import WorkerSettings

MACHINE = ("--device", "--compute_type", "--batch_size", "--threads", "--slots", "--model_dir")
"""The flags that the help lists under this heading."""


def device(written: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda` or `cuda:1`: the kind of device, and which one of them."""
    found = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d{1,2})", written.lower())
    if found is None:
        raise click.BadParameter(f"'{written}' is no device; write auto, cpu, cuda or cuda:1.")
    return found[1] or "cuda", int(found[2] or 0)


def machine_flags(command: Callable[..., object]) -> Callable[..., object]:
    """All flags that say what this machine is used for. Those not given are left to the environment."""
    device_help = "auto, cpu, cuda, cuda:1 … [default: a GPU if there is one]"
    compute_help = "int8, float16, float32 … [default: what suits the device]"
    flags = [
        click.option("--device", type=device, metavar="DEVICE", help=device_help),
        click.option("--compute_type", metavar="TYPE", help=compute_help),
        click.option("--batch_size", type=click.IntRange(1, 256), metavar="N", help="Chunks recognised together."),
        click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Processor threads of one slot."),
        click.option("--slots", type=click.IntRange(1, 1024), metavar="N", help="Batches at the same time."),
        click.option("--model_dir", metavar="FOLDER", help="Where models are kept."),
    ]
    return reduce(lambda wrapped, flag: flag(wrapped), reversed(flags), command)


def machine_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's settings among a command's flags: those that were given."""
    names = ("compute_type", "batch_size", "threads", "slots", "model_dir")
    given = {name: flags[name] for name in names if flags[name] is not None}
    if flags["device"] is not None:
        given["device"], given["device_index"] = flags["device"]
    return given


def worker_settings(**given: Any) -> WorkerSettings:
    """Settings of a worker: what was given, else the environment, else the defaults."""
    from whisper_farm.settings import WorkerSettings

    return settled(WorkerSettings, **given)


ENDING = ("--hours", "--grace", "--idle", "--life", "--patience", "--parent")


def _seconds(flag: str, help: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    limits = click.FloatRange(0, 31_536_000)
    return click.option(flag, f"{flag[2:]}_seconds", type=limits, metavar="SECONDS", help=help)


@click.command(
    cls=Command,
    sections={
        "The farm": ("--server", "--token", "--token_file", "--join"),
        "What it does": ("--engine", "--model", "--no_cuts", "--name", "--local_files_only"),
        "This machine": MACHINE,
        "When it ends": ENDING,
    },
    epilog="Ctrl-C or SIGTERM: finishes the chunks in hand and leaves; again: hands them back and leaves at once.",
)
@server_flags
@click.option("--join", metavar="CODE", help="Join by a code of the farm page, and keep a token of its own.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=engine_name,
    metavar="NAME",
    help=f"A recogniser that is installed; may be given several times. [default: {DEFAULT_ENGINE}]",
)
@click.option(
    "--model", "models", multiple=True, metavar="NAME", help="Serve these models only, and load a single one at once."
)
@truth("--no_cuts", help="Leave the cutting of recordings to other workers.")
@click.option("--name", metavar="NAME", help="What the farm calls this worker. [default: the host's name]")
@truth("--local_files_only", help="Never fetch a model.")
@machine_flags
@click.option("--hours", metavar="HH:MM-HH:MM", help="Work within these hours only, by the clock of this machine.")
@_seconds("--grace", "One signal is enough: after this time it leaves at once.")
@_seconds("--idle", "End when there was no work for so long.")
@_seconds("--life", "End so long after the start.")
@_seconds("--patience", "End when the farm was away for so long.")
@click.option(
    "--parent", type=click.IntRange(1, 2**31), metavar="PID", help="End when this process, which started it, is gone."
)
def worker(**flags: Any) -> None:
    """Work for a farm: fetch chunks of audio over HTTP(S), recognise them, hand the words back.

    A worker needs the farm's address and a token, nothing else: no open port, no database. Start as many as you
    like, anywhere; they may come and go at any time.

    \b
    whisper-farm worker --server https://farm.example.org --join ABCDE-FGH23
    whisper-farm worker --server https://farm.example.org --token_file FILE
    """
    import asyncio

    from whisper_farm.worker.joining import join, joined_token
    from whisper_farm.worker.run import run_worker

    told = os.environ.get
    address = server_address(flags["server"] or told("WHISPER_FARM_WORKER_SERVER"))
    code, given = flags.pop("join"), flags["token"] or told("WHISPER_FARM_WORKER_TOKEN") or told("WHISPER_FARM_TOKEN")
    if code is not None:
        name = (flags["name"] or socket.gethostname() or "worker")[:255]
        given = asyncio.run(join(address, code, name, lambda line: click.echo(line, err=True)))
    token = access_token(given or joined_token(address), address, (WORKER_TOKEN_FILE, ADMIN_TOKEN_FILE))
    run_worker(settings_of(flags, address, token))


def settings_of(flags: dict[str, Any], server: str, token: str) -> WorkerSettings:
    """The worker's settings: what the flags say, else the environment."""
    given = {name: value for name, value in flags.items() if value is not None and value is not False and value != ()}
    if given.pop("no_cuts", False):
        given["cuts"] = False
    return worker_settings(**{**given, **machine_settings(flags), "server": server, "token": token})
