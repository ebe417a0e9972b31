"""The entry point `whisper-farm`: finds the command, runs it, and turns every way it can end into an exit code.

Promises: `--help` and `--version` answer at once. A command's module is imported when that command is asked for, and
nothing heavy before it runs. Users' mistakes and the farm's own errors are one line, never a traceback. Exit codes: 0
done, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM, 141 broken pipe.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from whisper_farm import __version__
from whisper_farm.cli.stopping import Stopped, told_to_stop
from whisper_farm.errors import FarmError
from whisper_farm.showing import printable

STOPPED = 130
BROKEN_PIPE = 141
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "This machine": {
        "transcribe": ("transcribe:transcribe", "Turn recordings into transcripts."),
        "watch": ("transcribe:watch", "Transcribe what is put into a folder."),
        "doctor": ("doctor:doctor", "Say what works here, and what to do about the rest."),
    },
    "A farm of machines": {
        "serve": ("serve:serve", "Run the farm's server."),
        "worker": ("worker:worker", "Work for a farm: recognise speech for it."),
        "sign-in-link": ("tokens:sign_in_link", "Print a link that signs in to the web app."),
        "workers": ("machines:workers", "Show the farm's machines, and say how many there shall be."),
        "plan": ("machines:plan", "Say what a backlog will take, before machines are started."),
        "token": ("tokens:token", "Make, list and revoke access tokens."),
        "hours": ("limits:hours", "Say when a worker works."),
        "limits": ("limits:limits", "Show or change what people and workers may have."),
        "db": ("db:db", "Look after the server's database."),
    },
    "Transcriptions on a farm": {
        "submit": ("submit:submit", "Send recordings and come back later."),
        "feed": ("feeds:feed", "Have the episodes of podcasts transcribed, as they come."),
        "webhook": ("webhooks:webhook", "Tell an address when transcriptions end."),
        "list": ("transcriptions:list_", "List transcriptions, newest first."),
        "search": ("transcriptions:search", "Find what was said."),
        "status": ("transcriptions:status", "Show one transcription, or the farm."),
        "follow": ("transcriptions:follow", "Watch a transcription until it ends."),
        "get": ("transcriptions:get", "Write or print a transcript."),
        "cancel": ("transcriptions:cancel", "Stop transcriptions."),
        "retry": ("transcriptions:retry", "Try again what failed or was cancelled."),
        "delete": ("transcriptions:delete", "Delete finished transcriptions and their audio."),
    },
}
"""Every command: where it lives and its one line of help, so that the list can be shown without importing any."""


class Menu(click.Group):
    """The list of commands, in sections; each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = {name: place for section in COMMANDS.values() for name, (place, _) in section.items()}.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(importlib.import_module(f"whisper_farm.cli.{module}"), attribute)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            command = "transcribe" if any(Path(word).exists() for word in given) else "COMMAND"
            ctx.fail(f"'{error.option_name}' comes after a command: whisper-farm {command} {shlex.join(given)}")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            if Path(args[0]).exists():
                ctx.fail(f"'{args[0]}' is no command. To transcribe it: whisper-farm transcribe {shlex.join(args)}")
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in section.items()])


@click.group(
    cls=Menu,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`whisper-farm COMMAND --help` explains each command.",
)
@click.version_option(__version__, "--version", "-V", prog_name="whisper-farm", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def menu(debug: bool) -> None:
    """Transcribe recordings with Whisper, on this machine or on a farm of many.

    \b
    whisper-farm transcribe talk.mp3          a transcript, as talk.txt, .srt …
    whisper-farm transcribe -f srt podcasts/  subtitles for a whole folder
    whisper-farm serve                        a server for many machines
    """


def run(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    gc.set_threshold(100_000)  # to load modules leaves no garbage; to look for it costs a tenth of every start
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # httpx's own command line, which loads for 90 ms
    args = list(sys.argv[1:] if argv is None else argv)
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a screen that cannot show a letter shows a question mark
    with told_to_stop():
        code = outcome(args, debug="--debug" in args[:1] or bool(os.environ.get("WHISPER_FARM_DEBUG")))
    os._exit(_flushed(code))  # the system takes all of it back; to take it apart first costs a tenth of a second


def outcome(args: list[str], debug: bool = False) -> int:
    """Run a command line; say what went wrong in one line; return the exit code."""
    try:
        with menu.make_context("whisper-farm", args) as context:  # `menu.main` has answers of its own to some errors
            code = menu.invoke(context)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        return BROKEN_PIPE
    except Stopped as stopped:
        if stopped.line:
            complain(stopped.line)
        return stopped.code
    except (KeyboardInterrupt, click.Abort):
        complain("stopped.")
        return STOPPED
    except FarmError as error:
        if debug:
            raise
        complain(error.message)
        return 1
    except Exception as error:
        if debug:
            raise
        complain(_unprinted(error) or _not_installed(error) or _not_a_message(error) or _unexpected(error))
        return 1
    return code if isinstance(code, int) else 0


def complain(line: str) -> None:
    """One line on the error stream, whatever is called what in it; a closed stream is no reason to fail."""
    with contextlib.suppress(OSError):
        print(f"whisper-farm: {printable(' '.join(line.splitlines()))}", file=sys.stderr, flush=True)


def _not_installed(error: Exception) -> str | None:
    """The line for a command that a worker's installation is too small for."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").startswith("whisper_farm"):
        return None
    return (
        f"this command is not installed here ({error.name} is missing). `deploy/install server` installs all of them."
    )


def _not_a_message(error: Exception) -> str | None:
    """The line for something that was given and that no message to a farm can hold: a name that is too long, say."""
    from pydantic import ValidationError

    from whisper_farm.protocol.wire import Request

    if not isinstance(error, ValidationError) or error.title not in {one.__name__ for one in Request.__subclasses__()}:
        return None
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}."


def _unexpected(error: Exception) -> str:
    """The line for an error nobody foresaw; the traceback goes to a file in the data folder."""
    import traceback

    from whisper_farm.settings import data_folder

    what = " ".join(f"{type(error).__name__}: {error}".split())
    try:
        log = data_folder() / "last-error.log"
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return f"unexpected error: {what} (whisper-farm --debug … shows where)"
    return f"unexpected error: {what} (details in {log}; whisper-farm --debug … shows them)"


def _unprinted(error: Exception) -> str | None:
    """The line for an error of the standard output itself: a disk that is full, for example."""
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed leads nowhere
        return f"what was printed could not be written: {error.strerror}."
    return None


def _open_what_is_closed() -> None:
    """Let a stream that the caller closed (`>&-`) lead nowhere; else the next file that is opened takes its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _flushed(code: int) -> int:
    """Flush what is left to print; a reader that has gone away (`| head`) is no error worth a message."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return code or BROKEN_PIPE
    except OSError as error:
        complain(f"what was printed could not be written: {error.strerror}.")
        return code or 1
    return code
