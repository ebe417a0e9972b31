"""`whisper-farm serve`: run a farm's server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.recognition_flags import EngineName
from whisper_farm.cli.whisper_flags import Command, OneOf, Whole, truth

if TYPE_CHECKING:
    from whisper_farm.settings import ServerSettings


@click.command(
    cls=Command,
    epilog="Every setting has an environment variable too (WHISPER_FARM_PORT, WHISPER_FARM_DATABASE, …); flags win.",
)
@click.option("--host", metavar="HOST", help="Listen on this address; 0.0.0.0 for all. [default: 127.0.0.1]")
@click.option("--port", type=Whole(0, 65_535), metavar="PORT", help="[default: 8765]")
@click.option("--data", metavar="FOLDER", help="Where state is kept. [default: the user's data folder]")
@click.option(
    "--database", metavar="URL", help="sqlite:///PATH or postgresql://… [default: farm.db in the data folder]"
)
@click.option("--blobs", metavar="PLACE", help="A folder, or s3://BUCKET/PREFIX. [default: blobs in the data folder]")
@click.option("--public_url", metavar="URL", help="The address under which others reach this server.")
@click.option("--log_format", type=OneOf(("console", "json")), help="How log lines look. [default: console]")
@truth("--worker", help="Let this machine work for the farm, too.")
@click.option("--engine", type=EngineName(), metavar="NAME", help="Of that worker. [default: faster-whisper]")
def serve(worker: bool, engine: str | None, **flags: Any) -> None:
    """Run a farm's server: it takes recordings in, hands chunks to workers, puts transcripts together.

    Prints its address, where the admin's token is (made at the first start), and how to start a worker elsewhere.
    """
    from whisper_farm.cli.serving import run
    from whisper_farm.models import DEFAULT_ENGINE

    if engine and not worker:
        raise click.UsageError("--engine is that of a worker on this machine: give --worker, too.")
    run(server_settings(**flags), (engine or DEFAULT_ENGINE) if worker else None)


def server_settings(**given: Any) -> ServerSettings:
    """Settings of a server: what was given, else the environment, else the defaults."""
    from whisper_farm.cli.given import settled
    from whisper_farm.settings import ServerSettings

    return settled(ServerSettings, **{name: value for name, value in given.items() if value is not None})
