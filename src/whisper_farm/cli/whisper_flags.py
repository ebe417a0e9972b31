"""Whisper's way of writing flags, made to fit click.

Whisper users write `--word_timestamps True`, `-f srt txt` and `--output-dir .`; click knows none of it. `normalise`
rewrites such arguments, before click reads them, into `--flag=value … -- FILE …`, with every flag in its one canonical
spelling (underscores). For a flag that does not exist it names the nearest one that does. For a flag of openai/whisper
and its relatives it says why this program has none. It reads no file and knows no command: the table of flags comes
from the click command itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

import click

TRUE_WORDS = frozenset({"true", "yes", "1", "on"})
FALSE_WORDS = frozenset({"false", "no", "0", "off"})
BARE_TRUTHS = frozenset({"true", "false"})
"""Words that, standing after a yes-or-no flag, belong to it; any other word there is a file."""

_INDEPENDENT = "every chunk is recognised independently of the others here, so leave it out"
_LINES = "the lines of subtitles are not reflowed; use a subtitle editor on the .srt or .vtt"
_DECODER = "beam search runs with its defaults; `--beam_size` and `--temperature` can be set"
_VAD = "the speech model runs with its defaults; `--vad_filter False` switches it off"
_SPEAKERS = "speakers are not told apart"
UNSUPPORTED: Mapping[str, str] = {
    "--append_punctuations": "punctuation is attached to words as Whisper does by default",
    "--batched": "chunks are always recognised in batches; see `--batch_size`",
    "--best_of": _DECODER,
    "--carry_initial_prompt": "`--initial_prompt` is always given to every chunk, so leave it out",
    "--chunk_length": "use `--chunk_seconds`",
    "--chunk_size": "use `--chunk_seconds`",
    "--clip_timestamps": "cut the recording first; whole recordings are transcribed",
    "--condition_on_previous_text": _INDEPENDENT,
    "--diarize": _SPEAKERS,
    "--fp16": "use `--compute_type float16` or `--compute_type float32`",
    "--hallucination_silence_threshold": "text where nobody speaks is dropped anyway, see `--vad_filter`",
    "--hf_token": _SPEAKERS,
    "--highlight_words": _LINES,
    "--hotwords": "put the words into `--initial_prompt`, which every chunk is given",
    "--length_penalty": _DECODER,
    "--max_line_count": _LINES,
    "--max_line_width": _LINES,
    "--max_speakers": _SPEAKERS,
    "--max_words_per_line": _LINES,
    "--min_speakers": _SPEAKERS,
    "--no_align": "word times come from the recogniser itself, so leave it out",
    "--patience": _DECODER,
    "--prepend_punctuations": "punctuation is attached to words as Whisper does by default",
    "--print_progress": "progress is always shown; `--quiet` hides it",
    "--suppress_tokens": "the model's own list is used",
    "--vad_method": _VAD,
    "--vad_offset": _VAD,
    "--vad_onset": _VAD,
}
"""Flags of openai/whisper, whisperX and faster-whisper's command lines that this program has not, and what to do."""


Listed = TypeVar("Listed")


class UnknownFlag(click.UsageError):
    """A flag that this command does not have."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a command: its canonical name, and how much of the command line belongs to it."""

    name: str
    kind: Literal["switch", "truth", "value"]
    """`switch` takes nothing, `truth` True or False or nothing, `value` the next word."""
    continues: Callable[[str], bool] | None = None
    """For a value that may be a list: whether one more word belongs to it."""


class Words(click.ParamType[Listed]):
    """A parameter type whose flag may be followed by several words; `continues` says which ones are still its own."""

    def continues(self, word: str) -> bool:
        raise NotImplementedError


class OneOf(click.Choice[str]):
    """One of several words; a wrong one is answered with the nearest right one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        near = get_close_matches(str(value).lower(), self.choices, n=1)
        return super().get_invalid_choice_message(value, ctx) + (f" Did you mean '{near[0]}'?" if near else "")


class Whole(click.IntRange):
    """A whole number, called by that name where it is none."""

    name = "whole number"


class Number(click.FloatRange):
    """A number, called by that name where it is none."""

    name = "number"


class Command(click.Command):
    """A click command whose flags may be written as Whisper users write them, and are listed in sections."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The flags under their headings; those that are under none come last."""
        records = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                records[next(name for name in option.opts if name.startswith("--"))] = record
        listed = [(title, [records.pop(name) for name in names]) for title, names in self.sections.items()]
        for title, lines in [*listed, ("Options" if not listed else "Other", list(records.values()))]:
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            written = normalise(args, flags_of(self, ctx))
        except UnknownFlag as error:
            error.ctx = ctx
            raise
        return super().parse_args(ctx, written)


def truth(*names: str, default: bool = False, help: str, hidden: bool = False) -> Callable[..., Callable[..., object]]:
    """A yes-or-no flag: `--flag`, `--flag True`, `--flag=False`."""
    return click.option(
        *names, type=click.BOOL, default=default, metavar="[True|False]", help=help, hidden=hidden, show_default=default
    )


def flags_of(command: click.Command, ctx: click.Context) -> dict[str, Flag]:
    """The table of a command's flags, by every spelling with underscores that click knows."""
    table: dict[str, Flag] = {}
    for option in command.get_params(ctx):
        if isinstance(option, click.Option):
            long = next(name for name in option.opts if name.startswith("--"))
            continues = option.type.continues if isinstance(option.type, Words) else None
            kind: Literal["switch", "truth", "value"] = "value"
            if option.is_flag or option.count:
                kind = "switch"
            elif option.type is click.BOOL:
                kind = "truth"
            flag = Flag(long, kind, continues)
            table |= dict.fromkeys(option.opts, flag)
            table |= {name: Flag(name, "switch") for name in option.secondary_opts}
    return table


def normalise(args: Sequence[str], flags: Mapping[str, Flag]) -> list[str]:
    """Rewrite a Whisper-like command line as click reads it: flags first, as `--name=value`, then `--` and the rest."""
    options: list[str] = []
    rest: list[str] = []
    spelled = {name.replace("-", "_") for name in flags}
    at = 0
    while at < len(args):
        word = args[at]
        at += 1
        if word == "--":
            rest += args[at:]
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        flag, attached = _find(word, flags)
        written, used = _rewrite(flag, attached, args[at:], spelled)
        options += written
        at += used
    return [*options, "--", *rest] if rest else options


def _find(word: str, flags: Mapping[str, Flag]) -> tuple[Flag, str | None]:
    """The flag that a word names, and the value attached to it (`--name=value`, `-fsrt`)."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        canonical = "--" + name[2:].replace("-", "_")
        if canonical not in flags:
            raise UnknownFlag(_no_such_flag(name, canonical, flags))
        return flags[canonical], value if equals else None
    if word[:2] not in flags:
        raise UnknownFlag(f"No such option '{word[:2]}'. A file whose name begins with a dash is written ./{word}")
    return flags[word[:2]], word[2:].removeprefix("=") or None


def _rewrite(
    flag: Flag, attached: str | None, following: Sequence[str], known: Collection[str]
) -> tuple[list[str], int]:
    """What click is to read for a flag, and how many of the following words were its value."""
    if flag.kind == "switch":
        if attached is not None:
            raise UnknownFlag(f"Option '{flag.name}' takes no value.")
        return [flag.name], 0
    if flag.kind == "truth":
        if attached is None and following and following[0].lower() in BARE_TRUTHS:
            return [f"{flag.name}={_truth_word(flag, following[0])}"], 1
        return [f"{flag.name}={_truth_word(flag, attached if attached is not None else 'True')}"], 0
    values = [attached] if attached is not None else list(following[:1])
    if not values or (attached is None and values[0].partition("=")[0].replace("-", "_") in known):
        raise UnknownFlag(f"Option '{flag.name}' requires a value.")
    used = 0 if attached is not None else 1
    more = list(_continued(flag, following[used:]))
    return [f"{flag.name}={value}" for value in [*values, *more]], used + len(more)


def _continued(flag: Flag, following: Sequence[str]) -> Iterator[str]:
    for word in following:
        if flag.continues is None or not flag.continues(word):
            return
        yield word


def _truth_word(flag: Flag, word: str) -> str:
    if word.lower() in TRUE_WORDS:
        return "true"
    if word.lower() in FALSE_WORDS:
        return "false"
    raise UnknownFlag(f"Option '{flag.name}' takes True or False, not '{word}'.")


def _no_such_flag(written: str, canonical: str, flags: Mapping[str, Flag]) -> str:
    if reason := UNSUPPORTED.get(canonical):
        return f"Whisper's option '{canonical}' is not supported: {reason}."
    known = sorted({flag.name for flag in flags.values()})
    near = [name for name in known if name.startswith(canonical)] or get_close_matches(canonical, known, n=1)
    return f"No such option '{written}'." + (f" Did you mean '{near[0]}'?" if near else "")
