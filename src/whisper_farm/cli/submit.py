"""`whisper-farm submit`: send recordings to a running farm and come back later."""

from __future__ import annotations

import sys
from typing import Any

import click

from whisper_farm.cli.connection import connect, server_flags
from whisper_farm.cli.recognition import RECOGNITION, Wish, recognition_flags, wish_of
from whisper_farm.cli.whisper_flags import Command, truth

DEFAULT_ENGINE = "faster-whisper"
DEFAULT_MODELS = {"faster-whisper": "small", "pocketsphinx": "en-us", "tones": "instant"}
"""Of a farm: it does not fall back by itself, and nobody knows what its workers are before they come."""


@click.command(cls=Command, no_args_is_help=True, sections={"Recognition": RECOGNITION})
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO...")
@recognition_flags
@truth("--quiet", help="Print the ids only.")
@server_flags
def submit(**flags: Any) -> int:
    """Send recordings to a farm; prints the id of each transcription.

    AUDIO are files, folders and patterns, as for `transcribe`.

    \b
    whisper-farm submit talk.mp3 --model turbo
    whisper-farm follow $(whisper-farm submit talk.mp3 --quiet)
    """
    from whisper_farm.cli.inputs import recordings
    from whisper_farm.cli.main import complain
    from whisper_farm.errors import FarmError

    wish = wish_of(flags)
    inputs = recordings(flags["audio"])
    failed = len(inputs.unusable)
    for unusable in inputs.unusable:
        complain(unusable.error.message)
    if not inputs.files:
        return 1
    engine, model = farm_engine(wish)
    options = wish.options(engine, model)
    with connect(flags["server"], flags["token"]) as farm:
        for path in inputs.files:
            try:
                view = farm.submit_file(path, options=options, chunk_seconds=wish.chunk_seconds)
            except FarmError as error:
                failed += 1
                complain(error.message if str(path) in error.message else f"{path}: {error.message}")
                continue
            print(view.id if flags["quiet"] else f"{view.id}  {path}")
            sys.stdout.flush()
            if view.warning:
                complain(f"{path}: {view.warning}")
    return 1 if failed else 0


def farm_engine(wish: Wish) -> tuple[str, str]:
    """The engine and model to ask a farm for."""
    engine = DEFAULT_ENGINE if wish.engine == "auto" else wish.engine
    return engine, wish.model or DEFAULT_MODELS[engine]
