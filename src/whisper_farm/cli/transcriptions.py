"""`list`, `search`, `status`, `follow`, `get`, `cancel`, `retry`, `delete`: transcriptions on a running farm."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import connect, on_farm, server_flags
from whisper_farm.cli.recognition_flags import format_flags, layout_of
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.words import show_table
from whisper_farm.showing import printable, printable_lines, say
from whisper_farm.times import clock

if TYPE_CHECKING:
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.client import TranscriptionState, TranscriptionView

ID = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[a-z0-9]{1,8})?")
STATES = ("fetching", "queued", "running", "assembling", "done", "incomplete", "failed", "cancelled")
IDS = click.argument("transcription", nargs=-1, required=True, metavar="ID...")


@click.command("list", cls=Command)
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--feed", metavar="ID", help="Only episodes of this feed, as `feed list` names it.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, metavar="N", help="At most so many.")
@truth("--json", help="As JSON, one object a line.")
@on_farm
def list_(farm: FarmClient, state: TranscriptionState | None, feed: str | None, limit: int, json: bool) -> None:
    """List transcriptions, newest first."""
    from whisper_farm.cli.describing import as_row

    views = list(islice(farm.list(state, feed), limit))
    if json:
        for view in views:
            print(view.model_dump_json())
    else:
        head = ("ID", "STATE", "DONE", "SUBMITTED", "NAME")
        show_table(head, list(map(as_row, views)), "There are no transcriptions.")


@click.command(cls=Command)
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@click.option("--limit", type=click.IntRange(1, 200), default=50, metavar="N", help="At most so many passages.")
@truth("--json", help="As JSON, one object a line.")
@on_farm
def search(farm: FarmClient, words: tuple[str, ...], limit: int, json: bool) -> None:
    """Find what was said: passages with all these WORDS, the newest transcription first."""
    hits = farm.search(" ".join(words), limit)
    for hit in hits:
        line = f"{hit.transcription_id}  {clock(hit.seconds)}  {printable(hit.name)}: {printable(hit.text)}"
        print(hit.model_dump_json() if json else printable_lines(line))
    if not hits:
        print("Nobody said that.", file=sys.stderr)


@click.command(cls=Command)
@click.argument("transcription", required=False, metavar="[ID]")
@truth("--json", help="As JSON.")
@on_farm
def status(farm: FarmClient, transcription: str | None, json: bool) -> None:
    """Show one transcription with what went wrong in it, or, without an ID, the farm and its workers."""
    from whisper_farm.cli.describing import describe_farm, describe_transcription

    if transcription is None:
        here = farm.server()
        workers = farm.workers() if here.scope == "admin" else ()
        lines = [view.model_dump_json() for view in (here, *workers)] if json else describe_farm(here, workers)
    else:
        view = farm.get(checked(transcription))
        lines = [view.model_dump_json()] if json else describe_transcription(view, farm.jobs(view.id))
    for line in lines:
        say(line)


@click.command(cls=Command)
@IDS
@truth("--verbose", default=True, help="Show the transcript as it grows.")
@truth("--quiet", help="Show errors only.")
@on_farm
def follow(farm: FarmClient, transcription: tuple[str, ...], verbose: bool, quiet: bool) -> int:
    """Watch transcriptions until they end. Exit code 0 if all of them are done."""
    from whisper_farm.cli.describing import follow_to_the_end
    from whisper_farm.cli.progress import open_display
    from whisper_farm.cli.stopping import saying

    with saying("stopped watching; the farm goes on."), open_display(quiet, verbose) as display:
        return follow_to_the_end(farm, display, [checked(one) for one in transcription])


@click.command(cls=Command)
@IDS
@click.option("--output_dir", "-o", metavar="FOLDER", help="Write files into this folder, named after the recording.")
@format_flags("txt, with -o all")
@server_flags
def get(transcription: tuple[str, ...], output_dir: str | None, output_format: tuple[str, ...], **told: Any) -> None:
    """Print a transcript, or write transcripts as files with -o.

    \b
    whisper-farm get 3k7qz2m9xw4a > talk.txt
    whisper-farm get 3k7qz2m9xw4a -f srt -o subtitles/
    """
    from whisper_farm.cli.describing import write_transcripts

    if output_dir is None and (len(output_format) > 1 or len(transcription) > 1):
        raise click.UsageError("Several transcripts or formats need a folder to be written to: give -o FOLDER.")
    ids, layout = [checked(one) for one in transcription], layout_of(told)
    with connect(told["server"], told["token"]) as farm:
        if output_dir is None:
            content = farm.rendered(ids[0], output_format[0] if output_format else "txt", layout)
            click.echo(_for_a_terminal(content) if sys.stdout.isatty() else content, nl=False)
        else:
            for line in write_transcripts(farm, ids, output_dir, output_format, layout):
                say(line)


def _for_a_terminal(content: bytes) -> str:
    try:
        return printable_lines(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise click.UsageError("This format is no text to be shown: write it into a file, or give -o FOLDER.") from None


@click.command(cls=Command)
@IDS
@on_farm
def cancel(farm: FarmClient, transcription: tuple[str, ...]) -> int:
    """Stop transcriptions. What is done of them is kept: `retry` goes on from there."""
    return each(transcription, farm.cancel)


@click.command(cls=Command)
@IDS
@on_farm
def retry(farm: FarmClient, transcription: tuple[str, ...]) -> int:
    """Try again what failed or was cancelled; what is done is kept.

    What would fail again is left out, unless it is named by the id of its job.
    What is done but for its speakers, which no worker could tell apart, is recognised again beside it.

    \b
    whisper-farm retry 3k7qz2m9xw4a      all of it
    whisper-farm retry 3k7qz2m9xw4a.12   a chunk, as `status` names it
    """
    from whisper_farm.cli.sending import retry as try_again

    def again(one: str) -> TranscriptionView:
        whole, dot, _ = one.partition(".")
        return farm.retry(whole, one) if dot else try_again(farm, one)

    return each(transcription, again)


@click.command(cls=Command)
@IDS
@on_farm
def delete(farm: FarmClient, transcription: tuple[str, ...]) -> int:
    """Delete finished transcriptions with their audio and transcripts, for good."""
    return each(transcription, farm.delete, "deleted")


def each(ids: tuple[str, ...], call: Callable[[str], TranscriptionView | None], gone: str = "") -> int:
    """Do the same to each; print what became of it (`gone` where nothing is left); one that cannot be stops no other.

    Returns the exit code.
    """
    from whisper_farm.cli.main import complain
    from whisper_farm.errors import RequestError

    failed = 0
    for one in ids:
        try:
            view = call(checked(one))
            other = f" as {view.id}" if view and not one.startswith(view.id) else ""
            say(f"{one}  {view.state if view else gone}{other}")
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
