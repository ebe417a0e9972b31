"""`whisper-farm transcribe`: the command and its help. What it does is in `transcribing.py`, loaded when it runs."""

from __future__ import annotations

from typing import Any

import click

from whisper_farm.cli.connection import token_flags
from whisper_farm.cli.recognition_flags import HERE, LAYOUT, RECOGNITION, format_flags, output_name, recognition_flags
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.worker import MACHINE, machine_flags

SECTIONS = {
    "Recognition": RECOGNITION,
    "This machine": MACHINE,
    "Output": ("--output_dir", "--output_format", "--output_name", *LAYOUT, "--skip_existing", "--verbose", "--quiet"),
    "A farm instead of this machine": ("--server", "--token", "--token_file"),
}


@click.command(
    cls=Command,
    sections=SECTIONS,
    no_args_is_help=True,
    epilog="Flags may be written with underscores or dashes. An interrupted run goes on where it stopped when the "
    "same command is given again. Exit code: 0 all done, 1 something failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.",
)
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO...")
@recognition_flags(HERE)
@machine_flags
@click.option("--output_dir", "-o", default=".", metavar="FOLDER", help="Where to write.", show_default=True)
@format_flags("all")
@output_name
@truth("--skip_existing", help="Leave recordings alone whose outputs are there.")
@truth("--verbose", default=True, help="Show the transcript as it grows.")
@truth("--quiet", help="Show errors only.")
@click.option("--server", metavar="URL", help="Send the recordings to this farm.")
@token_flags("Access token of that farm; else WHISPER_FARM_TOKEN.")
def transcribe(**flags: Any) -> int:
    """Turn recordings into transcripts, with all of this machine's cores or its GPU.

    AUDIO are files, folders, patterns and links: any audio or video that FFmpeg reads.

    \b
    whisper-farm transcribe talk.mp3
    whisper-farm transcribe *.m4a --model turbo --language English
    whisper-farm transcribe podcasts/ -o transcripts -f srt,txt --skip_existing
    whisper-farm transcribe talk.mp3 --server http://farm:8765 --token …
    """
    from whisper_farm.cli.transcribing import run

    if flags["token"] and not flags["server"]:
        raise click.UsageError("--token is for a farm elsewhere: give its address with --server, too.")
    return run(flags)
