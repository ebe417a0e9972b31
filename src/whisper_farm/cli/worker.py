"""`whisper-farm worker`: recognise speech for a farm, until told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import server_flags
from whisper_farm.cli.machine_flags import MACHINE, machine_flags, machine_settings, worker_settings
from whisper_farm.cli.recognition_flags import EngineName
from whisper_farm.cli.whisper_flags import Command, truth

if TYPE_CHECKING:
    from whisper_farm.settings import WorkerSettings


@click.command(
    cls=Command,
    sections={
        "The farm": ("--server", "--token"),
        "What it does": ("--engine", "--model", "--no_cuts", "--name", "--local_files_only"),
        "This machine": MACHINE,
    },
    epilog="Ctrl-C or SIGTERM: finishes the chunks in hand and leaves; again: hands them back and leaves at once.",
)
@server_flags
@click.option(
    "--engine",
    multiple=True,
    type=EngineName(),
    metavar="NAME",
    help="A recogniser that is installed; may be given several times. [default: faster-whisper]",
)
@click.option("--model", multiple=True, metavar="NAME", help="Serve these models only, and load a single one at once.")
@truth("--no_cuts", help="Leave the cutting of recordings to other workers.")
@click.option("--name", metavar="NAME", help="What the farm calls this worker. [default: the host's name]")
@truth("--local_files_only", help="Never fetch a model.")
@machine_flags
def worker(**flags: Any) -> None:
    """Work for a farm: fetch chunks of audio over HTTP(S), recognise them, hand the words back.

    A worker needs the farm's address and a token, nothing else: no open port, no database. Start as many as you
    like, anywhere; they may come and go at any time.

    \b
    whisper-farm worker --server https://farm.example.org --token wf_worker_…
    """
    from whisper_farm.cli.connection import access_token, server_address
    from whisper_farm.worker.run import run_worker

    address = server_address(flags["server"])
    run_worker(settings_of(flags, address, access_token(flags["token"], address)))


def settings_of(flags: dict[str, Any], server: str, token: str) -> WorkerSettings:
    """The worker's settings: what the flags say, else the environment."""
    given = machine_settings(flags)
    if flags["engine"]:
        given["engines"] = tuple(flags["engine"])
    if flags["model"]:
        given["models"] = tuple(flags["model"])
    if flags["name"]:
        given["name"] = flags["name"]
    if flags["no_cuts"]:
        given["cuts"] = False
    if flags["local_files_only"]:
        given["local_files_only"] = True
    return worker_settings(server=server, token=token, **given)
