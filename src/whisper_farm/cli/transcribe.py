"""`whisper-farm transcribe` and `watch`: the commands and their help.

What they do is in `transcribing.py`, which is loaded when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from whisper_farm.cli.connection import token_flags
from whisper_farm.cli.recognition_flags import HERE, LAYOUT, RECOGNITION, format_flags, output_name, recognition_flags
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.worker import MACHINE, machine_flags


def _sections(own: str) -> dict[str, Sequence[str]]:
    """The headings of the help; `own` is a flag of the output that this command alone has."""
    return {
        "Recognition": RECOGNITION,
        "This machine": MACHINE,
        "Output": ("--output_dir", "--output_format", "--output_name", *LAYOUT, own, "--verbose", "--quiet"),
        "A farm instead of this machine": ("--server", "--token", "--token_file"),
    }


def _elsewhere(command: Callable[..., int]) -> Callable[..., object]:
    @wraps(command)
    def checked(**flags: Any) -> int:
        if flags["token"] and not flags["server"]:
            raise click.UsageError("--token is for a farm elsewhere: give its address with --server, too.")
        return command(**flags)

    with_token = token_flags("Access token of that farm; else WHISPER_FARM_TOKEN.")(checked)
    return click.option("--server", metavar="URL", help="Send the recordings to this farm.")(with_token)


@click.command(
    cls=Command,
    sections=_sections("--skip_existing"),
    no_args_is_help=True,
    epilog="Flags may be written with underscores or dashes. An interrupted run goes on where it stopped when the "
    "same command is given again. Exit code: 0 all done, 1 something failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.",
)
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO...")
@recognition_flags(HERE)
@machine_flags
@click.option("--output_dir", "-o", default=".", metavar="FOLDER", help="Where to write.")
@format_flags("all")
@output_name
@truth("--skip_existing", help="Leave recordings alone whose outputs are there.")
@truth("--verbose", default=True, help="Show the transcript as it grows.")
@truth("--quiet", help="Show errors only.")
@_elsewhere
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

    return run(flags)


@click.command(cls=Command, sections=_sections("--settle_seconds"), no_args_is_help=True)
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
)
@truth("--verbose", help="Show the transcripts as they grow.")
@truth("--quiet", help="Show errors only.")
@_elsewhere
def watch(**flags: Any) -> int:
    """Transcribe what is put into FOLDER, or below it, until it is stopped.

    What is there already and has no transcript is transcribed first. Started again, it goes on where it stopped.

    \b
    whisper-farm watch recordings/
    whisper-farm watch recordings/ -o transcripts -f srt --server http://farm:8765
    """
    from whisper_farm.cli.transcribing import watch_folder

    return watch_folder(flags)
