"""The flags that say how to recognise, shared by `transcribe` and `submit`, and what they become.

Names and meanings are openai/whisper's. Importing this loads nothing heavy: the checks that need the farm's
own models are made when the flags are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.cli.whisper_flags import Words, truth
from whisper_farm.errors import InvalidRequest
from whisper_farm.transcript.cues import CueLayout
from whisper_farm.transcript.formats import FORMATS, WHISPERS
from whisper_farm.transcript.languages import code_of

if TYPE_CHECKING:
    from whisper_farm.transcript.options import RecognitionOptions, Task

RECOGNITION = (
    "--model", "--engine", "--language", "--multilingual", "--task", "--initial_prompt", "--hotwords",
    "--diarize", "--min_speakers", "--max_speakers", "--speaker_model", "--word_timestamps", "--channel", "--track",
    "--raw", "--vad_filter", "--beam_size", "--temperature", "--temperature_increment_on_fallback", "--chunk_seconds",
)  # fmt: skip
"""The flags that the help lists under this heading."""
MODELS = "tiny, base, small, medium, large-v3, turbo …, a repository of the model hub, or a folder."
HERE = f"{MODELS} [default: small; turbo on a GPU]"
ON_A_FARM = f"{MODELS} [default: small]"
"""The help of `--model`: what is chosen where nothing is said."""
_FILE_NAME = re.compile(r"(\{(stem|date)\}|[^\x00-\x1f/\\{}]){1,200}")


def language_code(written: str) -> str | None:
    """Whisper's code for a language written as code or English name; None for `auto`."""
    try:
        return code_of(written)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def engine_name(written: str) -> str:
    """The name of an engine that is installed."""
    from whisper_farm.engines.registry import engine_names

    name, offered = written.lower().replace("_", "-"), engine_names()
    if name not in offered:
        raise click.BadParameter(f"'{written}' is none of {', '.join(offered)}.")
    return name


def number_or_none(written: str | float) -> float | None:
    """A number, or `None` to switch something off."""
    if str(written).lower() == "none":
        return None
    try:
        return float(written)
    except ValueError:
        raise click.BadParameter(f"'{written}' is neither a number nor None.") from None


def _formats(word: str) -> tuple[str, ...]:
    if word.lower() not in (*FORMATS, "all"):
        raise click.BadParameter(f"'{word}' is not one of {', '.join(FORMATS)}, all.")
    return WHISPERS if word.lower() == "all" else (word.lower(),)


def _file_name(written: str) -> str:
    if not _FILE_NAME.fullmatch(written) or not written.strip(" ."):
        raise click.BadParameter("a name without folders, in which {stem} and {date} are filled in.")
    return written


def _temperatures(word: str) -> tuple[float, ...]:
    number = number_or_none(word)
    if number is None or not 0 <= number <= 2:
        raise click.BadParameter(f"'{word}' is no temperature; write numbers from 0 to 2.")
    return (number,)


def _each_once(context: click.Context, option: click.Parameter, groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(format for group in groups for format in group))


def format_flags(default: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """`--output_format`: every format asked for, once, in the order asked; none where none was. And `LAYOUT`."""
    formats = f"{', '.join(FORMATS)} or all; several: -f srt,txt. [default: {default}]"
    kind, names = Words("format", _formats), ("--output_format", "-f")
    flag = click.option(*names, type=kind, multiple=True, callback=_each_once, metavar="FORMAT", help=formats)
    return _all_of([flag, *_LAYOUT_FLAGS])


def layout_of(flags: Mapping[str, Any]) -> CueLayout:
    """The layout of subtitles among a command's flags."""
    try:
        return CueLayout(**{field.name: flags[field.name] for field in fields(CueLayout)})
    except InvalidRequest as refusal:
        raise click.UsageError(f"--{refusal.message}") from refusal


def _all_of(flags: Sequence[Callable[..., Any]]) -> Callable[[Callable[..., object]], Callable[..., object]]:
    return lambda command: reduce(lambda wrapped, flag: flag(wrapped), reversed(flags), command)


output_name = click.option(
    "--output_name",
    type=_file_name,
    metavar="NAME",
    default="{stem}",
    help="What outputs are called, as {stem}.en or {date} {stem}.",
)
_LAYOUT_FLAGS = [
    click.option("--max_line_width", type=int, metavar="N", help="Subtitles: longest line, in characters."),
    click.option("--max_line_count", type=int, metavar="N", help="Subtitles: most lines of a cue."),
    click.option("--max_words_per_line", type=int, metavar="N", help="Subtitles: most words of a line."),
    truth("--highlight_words", help="Subtitles: underline each word while it is spoken."),
]
LAYOUT = ("--max_line_width", "--max_line_count", "--max_words_per_line", "--highlight_words")


_FLAGS = [
    click.option(
        "--engine",
        type=engine_name,
        metavar="NAME",
        help=f"The recogniser, if another is installed. [default: {DEFAULT_ENGINE}]",
    ),
    click.option(
        "--language",
        type=language_code,
        metavar="NAME",
        help="The language spoken, as en or English. [default: detected]",
    ),
    truth("--multilingual", help="Find the language of every chunk: for recordings that change it."),
    click.option(
        "--task",
        type=click.Choice(("transcribe", "translate"), case_sensitive=False),
        default="transcribe",
        help="What to write: what was said, or that in English.",
    ),
    click.option("--initial_prompt", metavar="TEXT", help="What may have been said before; every chunk is given it."),
    click.option("--hotwords", metavar="TEXT", help="Names and words to expect; every chunk is given them."),
    click.option(
        "--channel",
        type=click.Choice(("mix", "left", "right", "each"), case_sensitive=False),
        default="mix",
        help="What of two channels is heard; each: both apart, as two speakers.",
    ),
    click.option(
        "--track",
        metavar="TRACK",
        help="Of several audio tracks: its number or language. [default: the one that players play]",
    ),
    click.option("--raw", metavar="CODING", help="Sound without a header: alaw, mulaw, gsm, s16le@16000 …"),
    truth("--diarize", help="Tell speakers apart by their voices."),
    click.option("--min_speakers", type=click.IntRange(1, 20), metavar="N", help="With --diarize: at least so many."),
    click.option("--max_speakers", type=click.IntRange(1, 20), metavar="N", help="With --diarize: at most so many."),
    click.option(
        "--speaker_model", metavar="FILE", help="What compares voices, as ONNX. [default: CAM++, fetched once]"
    ),
    truth("--word_timestamps", default=True, help="Times for every word, in the JSON."),
    truth("--vad_filter", default=True, help="Leave out what nobody speaks in, and text that nobody spoke."),
    click.option("--hallucination_silence_threshold", type=number_or_none, metavar="SECONDS", hidden=True),
    click.option("--beam_size", type=click.IntRange(1, 16), metavar="N", default=5, help="Width of the search."),
    click.option(
        "--temperature",
        type=Words("temperature", _temperatures),
        multiple=True,
        metavar="T",
        help="Sampling temperature; several are tried in turn where a text looks wrong. [default: 0]",
    ),
    click.option(
        "--temperature_increment_on_fallback",
        type=number_or_none,
        default=0.2,
        metavar="T",
        help="Step to the next temperature where one is given; None: no second try.",
    ),
    click.option("--compression_ratio_threshold", type=number_or_none, default=2.4, hidden=True),
    click.option("--logprob_threshold", type=number_or_none, default=-1.0, hidden=True),
    click.option("--no_speech_threshold", type=number_or_none, default=0.6, hidden=True),
    click.option("--max_new_tokens", type=click.IntRange(1, 448), hidden=True),
    click.option(
        "--chunk_seconds",
        type=click.FloatRange(1, 600),
        metavar="SECONDS",
        default=30,
        help="The most speech in a chunk; it ends at the best pause before.",
    ),
]


def recognition_flags(model_help: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """All flags that say how to recognise. Their defaults are those of `RecognitionOptions`."""
    flags = [click.option("--model", metavar="NAME", help=model_help), *_FLAGS]
    return _all_of(flags)


@dataclass(frozen=True, slots=True)
class RecognitionWish:
    """How the user wants recordings recognised, before it is decided by which engine and model."""

    engine: str
    model: str | None
    task: Task
    chunk_seconds: float
    flags: Mapping[str, Any]
    """The command's flags: those with the names of options are the options."""

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those that were listed; of a single one, as Whisper does, the steps up to 1."""
        listed = tuple(value for group in self.flags["temperature"] for value in group) or (0.0,)
        step = self.flags["temperature_increment_on_fallback"]
        if len(listed) > 1 or step is None or step <= 0:
            return listed
        count = int((1.0 - listed[0]) / step + 1e-6)
        return tuple(round(listed[0] + step * number, 6) for number in range(max(0, min(count, 15)) + 1))

    @property
    def speaker_model(self) -> str | None:
        """The file of the speaker model, wherever the command runs."""
        file = self.flags["speaker_model"]
        return None if file is None else str(Path(file).expanduser().absolute())

    def options(self, engine: str, model: str) -> RecognitionOptions:
        """The farm's options for an engine and model."""
        from pydantic import ValidationError

        from whisper_farm.transcript.options import RecognitionOptions

        wanted = {name: value for name, value in self.flags.items() if name in RecognitionOptions.model_fields}
        wanted |= {"engine": engine, "model": model, "temperature": self.temperatures}
        wanted |= {name: wanted[name] or None for name in ("initial_prompt", "hotwords")}
        wanted |= {"speaker_model": self.speaker_model}
        try:
            return RecognitionOptions.model_validate(wanted)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise click.UsageError(f"--{name}: {first['msg']}.") from error


def wish_of(flags: Mapping[str, Any]) -> RecognitionWish:
    """The wish among a command's flags. What the engine has not, or a model that cannot do the task, is wrong usage."""
    from whisper_farm.engines.registry import check_options, engine_traits
    from whisper_farm.errors import OptionUnsupported
    from whisper_farm.models import can_translate, cannot_translate

    wish = RecognitionWish(
        flags["engine"] or DEFAULT_ENGINE, flags["model"], flags["task"], flags["chunk_seconds"], flags
    )
    model = wish.model or engine_traits(wish.engine).default_model("cpu", wish.task)
    if flags["multilingual"] and flags["language"] is not None:
        raise click.UsageError("--multilingual finds the language of every chunk: leave --language out.")
    seconds = flags["hallucination_silence_threshold"]
    if seconds is not None and not (flags["vad_filter"] and seconds >= 1):  # it would change nothing
        raise click.UsageError("--hallucination_silence_threshold is met from 1 second on, and with --vad_filter only.")
    try:
        if wish.task == "translate" and not can_translate(model):
            raise cannot_translate(model)
        check_options(wish.options(wish.engine, model))
    except OptionUnsupported as refusal:
        raise click.UsageError(refusal.message) from refusal
    return wish
