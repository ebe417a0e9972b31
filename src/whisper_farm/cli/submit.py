"""`whisper-farm submit`: send recordings to a running farm and come back later."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import connect, server_flags
from whisper_farm.cli.recognition_flags import ON_A_FARM, RECOGNITION, RecognitionWish, recognition_flags, wish_of
from whisper_farm.cli.whisper_flags import Command, truth

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whisper_farm.cli.files import Inputs
    from whisper_farm.cli.progress import Display
    from whisper_farm.cli.sending import TranscriptionRequest
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.client import TranscriptionView


@click.command(cls=Command, no_args_is_help=True, sections={"Recognition": RECOGNITION})
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO...")
@recognition_flags(ON_A_FARM)
@truth("--quiet", help="Print the ids only.")
@server_flags
def submit(**flags: Any) -> int:
    """Send recordings to a farm; prints the id of each transcription.

    AUDIO are files, folders, patterns and links, as for `transcribe`. Links are fetched by the farm.

    \b
    whisper-farm submit talk.mp3 --model turbo
    whisper-farm follow $(whisper-farm submit talk.mp3 --quiet)
    """
    from whisper_farm.cli.files import recordings
    from whisper_farm.cli.spool import spooling

    wish = wish_of(flags)
    with spooling() as spool:
        return _submit(wish, flags, recordings(flags["audio"], spool))


def _submit(wish: RecognitionWish, flags: Mapping[str, Any], inputs: Inputs) -> int:
    from whisper_farm.cli.main import complain
    from whisper_farm.cli.progress import open_display
    from whisper_farm.cli.sending import TranscriptionRequest

    for error in inputs.errors:
        complain(error.message)
    todo: list[Path | str] = [*inputs.files, *inputs.links]
    if not todo:
        return 1
    request = TranscriptionRequest(wish.options(wish.engine, farm_model(wish)), wish.chunk_seconds)
    sent = 0
    with connect(flags["server"], flags["token"]) as farm, open_display(flags["quiet"], verbose=False) as display:
        farm.server()  # a farm that is not there, or knows no such token, is one line and not one for every recording
        for place in todo:
            name = str(place) if isinstance(place, str) or place not in inputs.piped else place.name
            if view := _send(farm, place, name, request, display):
                sent += 1
                display.result(view.id if flags["quiet"] else f"{view.id}  {name}")
                if view.warning:
                    display.note(f"{name}: {view.warning}")
    return 0 if sent == len(todo) and not inputs.errors else 1


def _send(
    farm: FarmClient, place: Path | str, name: str, request: TranscriptionRequest, display: Display
) -> TranscriptionView | None:
    from whisper_farm.cli.stopping import saying
    from whisper_farm.errors import FarmError
    from whisper_farm.ingest.addresses import link_name

    progress = partial(display.transfer, name, "sending")
    try:
        with saying(f"stopped while {name} was being sent."):
            if isinstance(place, str):
                return farm.submit(request.submission(link_name(place), url=place))
            return farm.submit_file(
                place, options=request.options, chunk_seconds=request.chunk_seconds, progress=progress
            )
    except FarmError as error:
        display.error(error.message if name in error.message else f"{name}: {error.message}")
        return None
    finally:
        display.end(name)


def farm_model(wish: RecognitionWish) -> str:
    """The model to ask a farm for: nobody knows what its workers are before they come, so the smaller one."""
    from whisper_farm.engines.registry import engine_traits

    return wish.model or engine_traits(wish.engine).default_model("cpu", wish.task)
