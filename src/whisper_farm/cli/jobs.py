"""`list`, `search`, `status`, `follow`, `get`, `cancel`, `retry`, `delete`: transcriptions on a running farm."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import click

from whisper_farm.cli.connection import connect, server_flags
from whisper_farm.cli.recognition_flags import formats_flag
from whisper_farm.cli.whisper_flags import Command, truth

if TYPE_CHECKING:
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.client import TranscriptionState, TranscriptionView

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
STATES = ("fetching", "queued", "running", "assembling", "done", "incomplete", "failed", "cancelled")


@click.command("list", cls=Command)
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, metavar="N", help="At most so many.")
@truth("--json", help="As JSON, one object a line.")
@server_flags
def list_(state: TranscriptionState | None, limit: int, json: bool, server: str | None, token: str | None) -> None:
    """List transcriptions, newest first."""
    from whisper_farm.cli.describing import as_row, columns

    with connect(server, token) as farm:
        views = list(islice(farm.list(state), limit))
    if json:
        for view in views:
            print(view.model_dump_json())
    elif views:
        print(columns([("ID", "STATE", "DONE", "SUBMITTED", "NAME"), *map(as_row, views)]))
    else:
        print("There are no transcriptions.", file=sys.stderr)


@click.command(cls=Command)
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@click.option("--limit", type=click.IntRange(1, 200), default=50, metavar="N", help="At most so many passages.")
@truth("--json", help="As JSON, one object a line.")
@server_flags
def search(words: tuple[str, ...], limit: int, json: bool, server: str | None, token: str | None) -> None:
    """Find what was said: passages with all these WORDS, the newest transcription first."""
    from whisper_farm.cli.progress import clock, printable

    with connect(server, token) as farm:
        hits = farm.search(" ".join(words), limit)
    for hit in hits:
        line = f"{hit.transcription_id}  {clock(hit.seconds)}  {printable(hit.name)}: {printable(hit.text)}"
        print(hit.model_dump_json() if json else line)
    if not hits:
        print("Nobody said that.", file=sys.stderr)


@click.command(cls=Command)
@click.argument("transcription", required=False, metavar="[ID]")
@truth("--json", help="As JSON.")
@server_flags
def status(transcription: str | None, json: bool, server: str | None, token: str | None) -> None:
    """Show one transcription with what went wrong in it, or, without an ID, the farm and its workers."""
    from whisper_farm.cli.describing import describe_farm, describe_transcription

    if transcription is not None:
        checked(transcription)
    with connect(server, token) as farm:
        if transcription is None:
            here = farm.server()
            workers = farm.workers() if here.scope == "admin" else ()
            lines = [view.model_dump_json() for view in (here, *workers)] if json else describe_farm(here, workers)
        else:
            view = farm.get(transcription)
            lines = [view.model_dump_json()] if json else describe_transcription(view, farm.jobs(view.id))
        for line in lines:
            print(line)


@click.command(cls=Command)
@click.argument("transcription", nargs=-1, required=True, metavar="ID...")
@truth("--verbose", default=True, help="Show the transcript as it grows.")
@truth("--quiet", help="Show errors only.")
@server_flags
def follow(transcription: tuple[str, ...], verbose: bool, quiet: bool, server: str | None, token: str | None) -> int:
    """Watch transcriptions until they end. Exit code 0 if all of them are done."""
    from whisper_farm.cli.describing import follow_to_the_end
    from whisper_farm.cli.progress import open_display
    from whisper_farm.cli.stopping import saying

    ids = [checked(one) for one in transcription]
    stopped = saying("stopped watching; the farm goes on.")
    with stopped, connect(server, token) as farm, open_display(quiet, verbose) as display:
        return follow_to_the_end(farm, display, ids)


@click.command(cls=Command)
@click.argument("transcription", nargs=-1, required=True, metavar="ID...")
@click.option("--output_dir", "-o", metavar="FOLDER", help="Write files into this folder, named after the recording.")
@formats_flag("txt, with -o all")
@server_flags
def get(
    transcription: tuple[str, ...],
    output_dir: str | None,
    output_format: tuple[str, ...],
    server: str | None,
    token: str | None,
) -> None:
    """Print a transcript, or write transcripts as files with -o.

    \b
    whisper-farm get 3k7qz2m9xw4a > talk.txt
    whisper-farm get 3k7qz2m9xw4a -f srt -o subtitles/
    """
    from whisper_farm.cli.describing import write_transcripts

    if output_dir is None and (len(output_format) > 1 or len(transcription) > 1):
        raise click.UsageError("Several transcripts or formats need a folder to be written to: give -o FOLDER.")
    ids = [checked(one) for one in transcription]
    with connect(server, token) as farm:
        if output_dir is None:
            sys.stdout.write(farm.rendered(ids[0], output_format[0] if output_format else "txt"))
        else:
            for line in write_transcripts(farm, ids, output_dir, output_format):
                print(line)


@click.command(cls=Command)
@click.argument("transcription", nargs=-1, required=True, metavar="ID...")
@server_flags
def cancel(transcription: tuple[str, ...], server: str | None, token: str | None) -> int:
    """Stop transcriptions. What is done of them is kept: `retry` goes on from there."""
    return each(transcription, server, token, lambda farm, one: farm.cancel(one))


@click.command(cls=Command)
@click.argument("transcription", nargs=-1, required=True, metavar="ID...")
@server_flags
def retry(transcription: tuple[str, ...], server: str | None, token: str | None) -> int:
    """Try again what failed or was cancelled; what is done is kept."""
    from whisper_farm.cli.sending import retry as try_again

    return each(transcription, server, token, try_again)


@click.command(cls=Command)
@click.argument("transcription", nargs=-1, required=True, metavar="ID...")
@server_flags
def delete(transcription: tuple[str, ...], server: str | None, token: str | None) -> int:
    """Delete finished transcriptions with their audio and transcripts, for good."""
    return each(transcription, server, token, lambda farm, one: farm.delete(one), "deleted")


def each(
    ids: tuple[str, ...],
    server: str | None,
    token: str | None,
    call: Callable[[FarmClient, str], TranscriptionView | None],
    gone: str = "",
) -> int:
    """Do the same to each; print what became of it (`gone` where nothing is left); one that cannot be stops no other.

    Returns the exit code.
    """
    from whisper_farm.cli.main import complain
    from whisper_farm.errors import RequestError

    failed = 0
    with connect(server, token) as farm:
        for one in ids:
            try:
                view = call(farm, checked(one))
                print(f"{one}  {view.state if view else gone}")
            except RequestError as error:
                failed += 1
                complain(error.message if one and one in error.message else f"{one}: {error.message}")
    return 1 if failed else 0


def checked(word: str) -> str:
    """An id as it was typed. What can be none is refused: as part of an address it could mean something else."""
    from whisper_farm.errors import InvalidRequest

    if not ID.fullmatch(word):
        raise InvalidRequest(f"'{word}' is no id; `list` shows the ids there are.")
    return word
