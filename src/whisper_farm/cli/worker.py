"""`whisper-farm worker`: recognise speech for a farm, until told to stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import server_flags
from whisper_farm.cli.machine_flags import MACHINE, machine_flags, machine_settings, worker_settings
from whisper_farm.cli.recognition_flags import engine_name
from whisper_farm.cli.whisper_flags import Command, truth

if TYPE_CHECKING:
    from whisper_farm.settings import WorkerSettings

ENDING = ("--grace", "--idle", "--life", "--patience", "--parent")


def _seconds(flag: str, help: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    limits = click.FloatRange(0, 31_536_000)
    return click.option(flag, f"{flag[2:]}_seconds", type=limits, metavar="SECONDS", help=help)


@click.command(
    cls=Command,
    sections={
        "The farm": ("--server", "--token"),
        "What it does": ("--engine", "--model", "--no_cuts", "--name", "--local_files_only"),
        "This machine": MACHINE,
        "When it ends": ENDING,
    },
    epilog="Ctrl-C or SIGTERM: finishes the chunks in hand and leaves; again: hands them back and leaves at once.",
)
@server_flags
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=engine_name,
    metavar="NAME",
    help="A recogniser that is installed; may be given several times. [default: faster-whisper]",
)
@click.option(
    "--model", "models", multiple=True, metavar="NAME", help="Serve these models only, and load a single one at once."
)
@truth("--no_cuts", help="Leave the cutting of recordings to other workers.")
@click.option("--name", metavar="NAME", help="What the farm calls this worker. [default: the host's name]")
@truth("--local_files_only", help="Never fetch a model.")
@machine_flags
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
    whisper-farm worker --server https://farm.example.org --token wf_worker_…
    """
    from whisper_farm.cli.connection import access_token, server_address
    from whisper_farm.worker.run import run_worker

    told = os.environ.get
    address = server_address(flags["server"] or told("WHISPER_FARM_WORKER_SERVER"))
    token = access_token(flags["token"] or told("WHISPER_FARM_WORKER_TOKEN"), address)
    run_worker(settings_of(flags, address, token))


def settings_of(flags: dict[str, Any], server: str, token: str) -> WorkerSettings:
    """The worker's settings: what the flags say, else the environment."""
    given = {name: value for name, value in flags.items() if value is not None and value is not False and value != ()}
    if given.pop("no_cuts", False):
        given["cuts"] = False
    return worker_settings(**{**given, **machine_settings(flags), "server": server, "token": token})
