"""Whisper's way of writing flags, made to fit click.

Whisper users write `--word_timestamps True`, `-f srt txt` and `--output-dir .`; click knows none of it. Before click
reads a command line, `as_click_reads` attaches every value to its flag and spells each flag with underscores. A flag of
openai/whisper and its relatives that this program has not is refused with the reason. All else is left to click.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")

_REASONS = {
    "punctuation is attached to words as Whisper does by default": "append_punctuations prepend_punctuations",
    "chunks are always recognised in batches; see `--batch_size`": "batched",
    "beam search runs with its defaults; `--beam_size` and `--temperature` can be set":
        "best_of length_penalty patience",
    "`--initial_prompt` is always given to every chunk, so leave it out": "carry_initial_prompt",
    "use `--chunk_seconds`": "chunk_length chunk_size",
    "cut the recording first; whole recordings are transcribed": "clip_timestamps",
    "every chunk is recognised independently of the others here, so leave it out": "condition_on_previous_text",
    "the model that tells speakers apart needs no token, so leave it out": "hf_token",
    "use `--speaker_model` with an ONNX file": "diarize_model",
    "use `--compute_type float16` or `--compute_type float32`": "fp16",
    "word times come from the recogniser itself, so leave it out": "no_align",
    "progress is always shown; `--quiet` hides it": "print_progress",
    "the model's own list is used": "suppress_tokens",
    "the speech model runs with its defaults; `--vad_filter False` switches it off": "vad_method vad_offset vad_onset",
}  # fmt: skip
UNSUPPORTED = {f"--{name}": reason for reason, names in _REASONS.items() for name in names.split()}
"""Flags of openai/whisper, whisperX and faster-whisper's command lines that this program has not, and what to do."""


class Words(click.ParamType[tuple[T, ...]]):
    """Several values of one flag: `srt,txt`, and `srt txt` as well. `read` makes values of one of them."""

    def __init__(self, name: str, read: Callable[[str], tuple[T, ...]]) -> None:
        """`read` raises `click.BadParameter` for what is no value."""
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[T, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(one for part in str(value).split(",") for one in self._read(part.strip()))

    def continues(self, word: str) -> bool:
        """Whether one more word of the command line belongs to the flag."""
        try:
            return bool(self.convert(word, None, None))
        except click.BadParameter:
            return False


class Command(click.Command):
    """A click command whose flags may be written as Whisper users write them, and are listed in sections.

    The help shows their defaults.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **settings: Any) -> None:
        settings.setdefault("context_settings", {"show_default": True})
        super().__init__(*args, **settings)
        self.sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The flags under their headings; those that are under none come last."""
        records = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                records[_long(option)] = record
        listed = [(title, [records.pop(name) for name in names]) for title, names in self.sections.items()]
        for title, lines in [*listed, ("Options" if not listed else "Other", list(records.values()))]:
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, list(as_click_reads(args, ctx)))
        except click.NoSuchOption:
            file = next((word for word in given if word.startswith("-") and Path(word).exists()), None)
            if file is None:
                raise
            raise click.UsageError(f"'{file}' is read as a flag; the file of that name is written ./{file}") from None


def truth(*names: str, default: bool = False, help: str) -> Callable[..., Callable[..., object]]:
    """A yes-or-no flag: `--flag`, `--flag True`, `--flag=False`."""
    return click.option(
        *names, type=click.BOOL, default=default, metavar="[True|False]", help=help, show_default=default
    )


def as_click_reads(args: Sequence[str], ctx: click.Context) -> Iterator[str]:
    """The same command line with every flag's value attached to it, so that nothing can be taken for a file."""
    options = {
        name: option
        for option in ctx.command.get_params(ctx)
        if isinstance(option, click.Option)
        for name in option.opts
    }
    rest = deque(args)
    while rest:
        word = rest.popleft()
        if word == "--":
            yield from (word, *rest)
            return
        name, value = _parted(word)
        if name not in options and (reason := UNSUPPORTED.get(name)):
            raise click.UsageError(f"Whisper's option '{name}' is not supported: {reason}.", ctx)
        if name in options:
            yield from _with_values(options[name], value, rest, options, ctx)
        else:
            yield word


def _parted(word: str) -> tuple[str, str | None]:
    """The flag that a word may name, spelled with underscores, and the value attached to it."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return "--" + name[2:].replace("-", "_"), value if equals else None
    return word[:2], word[2:].removeprefix("=") or None


def _with_values(
    option: click.Option, value: str | None, rest: deque[str], options: Mapping[str, click.Option], ctx: click.Context
) -> Iterator[str]:
    """The flag with each of its values; takes those that are not attached from the words that follow."""
    name = _long(option)
    if value is None and option.type is click.BOOL and not option.is_flag:
        value = rest.popleft() if rest and rest[0].lower() in ("true", "false") else "true"
    elif value is None and not option.is_flag and rest and _parted(rest[0])[0] not in options:
        value = rest.popleft()
    if value is None and not option.is_flag:
        raise click.BadOptionUsage(name, f"Option '{name}' requires an argument.", ctx)
    yield name if value is None else f"{name}={value}"
    while isinstance(option.type, Words) and rest and option.type.continues(rest[0]):
        yield f"{name}={rest.popleft()}"


def _long(option: click.Option) -> str:
    return max(option.opts, key=len)
