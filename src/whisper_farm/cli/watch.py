"""`whisper-farm watch`: the command and its help. What it does is in `transcribing.py`, loaded when it runs."""

from __future__ import annotations

from typing import Any

import click

from whisper_farm.cli.recognition_flags import HERE, LAYOUT, RECOGNITION, format_flags, output_name, recognition_flags
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.worker import MACHINE, machine_flags

SECTIONS = {
    "Recognition": RECOGNITION,
    "This machine": MACHINE,
    "Output": ("--output_dir", "--output_format", "--output_name", *LAYOUT, "--settle_seconds", "--verbose", "--quiet"),
    "A farm instead of this machine": ("--server", "--token"),
}


@click.command(cls=Command, sections=SECTIONS, no_args_is_help=True)
@click.argument("folder", metavar="FOLDER")
@recognition_flags(HERE)
@machine_flags
@click.option("--output_dir", "-o", metavar="FOLDER", help="Where to write. [default: beside each recording]")
@format_flags("all")
@output_name
@click.option(
    "--settle_seconds",
    type=click.FloatRange(0, 3600),
    default=5,
    help="A file is taken when it has not changed for so long.",
    show_default=True,
)
@truth("--verbose", help="Show the transcripts as they grow.")
@truth("--quiet", help="Show errors only.")
@click.option("--server", metavar="URL", help="Send the recordings to this farm.")
@click.option("--token", metavar="TOKEN", help="Access token of that farm; else WHISPER_FARM_TOKEN.")
def watch(**flags: Any) -> int:
    """Transcribe what is put into FOLDER, or below it, until it is stopped.

    What is there already and has no transcript is transcribed first. Started again, it goes on where it stopped.

    \b
    whisper-farm watch recordings/
    whisper-farm watch recordings/ -o transcripts -f srt --server http://farm:8765
    """
    from whisper_farm.cli.transcribing import watch_folder

    if flags["token"] and not flags["server"]:
        raise click.UsageError("--token is for a farm elsewhere: give its address with --server, too.")
    return watch_folder(flags)
