"""The flags that say how to recognise, shared by `transcribe` and `submit`, and what they become.

Names and meanings are openai/whisper's. Importing this loads nothing heavy: the checks that need the farm's
own models are made when the flags are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.languages import language_code
from whisper_farm.cli.whisper_flags import Number, OneOf, Whole, Words, truth
from whisper_farm.transcript.formats import FORMATS

if TYPE_CHECKING:
    from whisper_farm.transcript.options import RecognitionOptions, Task

HIGHEST_TEMPERATURE = 1.0


class FormatList(Words[tuple[str, ...]]):
    """`srt`, `srt,txt`, `srt txt` or `all`."""

    name = "format"

    def continues(self, word: str) -> bool:
        return all(part in (*FORMATS, "all") for part in word.split(","))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip().lower().lstrip(".") for part in str(value).split(",") if part.strip()]
        for part in parts:
            if part not in (*FORMATS, "all"):
                near = get_close_matches(part, FORMATS, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                self.fail(f"'{part}' is not one of {', '.join(FORMATS)}, all.{hint}", param, ctx)
        if not parts:
            self.fail("a format is missing.", param, ctx)
        return tuple(FORMATS) if "all" in parts else tuple(parts)


class Temperatures(Words[tuple[float, ...]]):
    """One number, or several to be tried in turn: `0`, `0,0.4`, `0 0.4`."""

    name = "temperature"

    def continues(self, word: str) -> bool:
        return all(_is_number(part) for part in word.split(","))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part for part in str(value).split(",") if part.strip()]
        if not parts or not all(_is_number(part) and 0 <= float(part) <= 2 for part in parts):
            self.fail(f"'{value}' is no temperature; write numbers from 0 to 2.", param, ctx)
        return tuple(float(part) for part in parts)


class Language(click.ParamType[str | None]):
    """A code or an English name."""

    name = "language"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | None:
        try:
            return language_code(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class EngineName(click.ParamType[str]):
    """An engine that is installed."""

    name = "engine"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from whisper_farm.engines.registry import engine_names

        name, offered = str(value).lower().replace("_", "-"), engine_names()
        if name in offered:
            return name
        near = get_close_matches(name, offered, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise click.BadParameter(f"'{value}' is none of {', '.join(offered)}.{hint}", ctx, param)


class NumberOrNone(click.ParamType[float | str]):
    """A number, or `None` to switch something off."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if str(value).lower() == "none":
            return "none"
        if not _is_number(str(value)):
            self.fail(f"'{value}' is neither a number nor None.", param, ctx)
        return float(value)


def _is_number(word: str) -> bool:
    try:
        return float(word) == float(word)
    except ValueError:
        return False


RECOGNITION = (
    "--model", "--engine", "--language", "--multilingual", "--task", "--initial_prompt", "--word_timestamps",
    "--vad_filter", "--beam_size", "--temperature", "--temperature_increment_on_fallback", "--chunk_seconds",
)  # fmt: skip
"""The flags that the help lists under this heading."""


MODELS = "tiny, base, small, medium, large-v3, turbo …, a repository of the model hub, or a folder."
HERE = f"{MODELS} [default: small; turbo on a GPU]"
ON_A_FARM = f"{MODELS} [default: small]"
"""The help of `--model`: what is chosen where nothing is said."""


def recognition_flags(model_help: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """All flags that say how to recognise."""
    flags = [
        click.option("--model", metavar="NAME", help=model_help),
        click.option(
            "--engine",
            type=EngineName(),
            metavar="NAME",
            help="The recogniser, if another is installed. [default: faster-whisper]",
        ),
        click.option("--language", type=Language(), help="The language spoken, as en or English. [default: detected]"),
        truth("--multilingual", help="Find the language of every chunk: for recordings that change it."),
        click.option(
            "--task",
            type=OneOf(("transcribe", "translate"), case_sensitive=False),
            default="transcribe",
            help="What to write: what was said, or that in English.",
            show_default=True,
        ),
        click.option("--initial_prompt", metavar="TEXT", help="Names and words to expect; every chunk is given it."),
        truth("--word_timestamps", default=True, help="Times for every word, in the JSON."),
        truth("--vad_filter", default=True, help="Hold text and speech against each other."),
        click.option(
            "--beam_size",
            type=Whole(1, 32),
            metavar="N",
            default=5,
            help="Width of the search.",
            show_default=True,
        ),
        click.option(
            "--temperature",
            type=Temperatures(),
            multiple=True,
            help="Sampling temperature; several are tried in turn where a text looks wrong. [default: 0]",
        ),
        click.option(
            "--temperature_increment_on_fallback",
            type=NumberOrNone(),
            default=0.2,
            help="Step to the next temperature where one is given; None: no second try.",
            show_default=True,
        ),
        click.option("--compression_ratio_threshold", type=NumberOrNone(), default=2.4, hidden=True),
        click.option("--logprob_threshold", type=NumberOrNone(), default=-1.0, hidden=True),
        click.option("--no_speech_threshold", type=NumberOrNone(), default=0.6, hidden=True),
        click.option("--max_new_tokens", type=Whole(1, 448), hidden=True),
        click.option(
            "--chunk_seconds",
            type=Number(1, 600),
            metavar="SECONDS",
            default=30,
            help="The longest chunk; it ends at the best pause before.",
            show_default=True,
        ),
    ]
    return lambda command: reduce(lambda wrapped, flag: flag(wrapped), reversed(flags), command)


@dataclass(frozen=True, slots=True)
class Wish:
    """How the user wants recordings recognised, before it is decided by which engine and model."""

    model: str | None
    engine: str
    language: str | None
    multilingual: bool
    task: Task
    initial_prompt: str | None
    word_timestamps: bool
    vad_filter: bool
    beam_size: int
    temperature: Sequence[Sequence[float]]
    temperature_increment_on_fallback: float | str
    compression_ratio_threshold: float | str
    logprob_threshold: float | str
    no_speech_threshold: float | str
    max_new_tokens: int | None
    chunk_seconds: float

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those that were listed; of a single one, as Whisper does, the steps up to 1."""
        listed = tuple(value for group in self.temperature for value in group) or (0.0,)
        step = self.temperature_increment_on_fallback
        if len(listed) > 1 or isinstance(step, str) or step <= 0:
            return listed
        count = int((HIGHEST_TEMPERATURE - listed[0]) / step + 1e-6)
        return tuple(round(listed[0] + step * number, 6) for number in range(max(0, min(count, 15)) + 1))

    def options(self, engine: str, model: str) -> RecognitionOptions:
        """The farm's options for an engine and model."""
        from pydantic import ValidationError

        from whisper_farm.errors import InvalidRequest
        from whisper_farm.transcript.options import RecognitionOptions

        wanted = {
            "engine": engine,
            "model": model,
            "language": self.language,
            "multilingual": self.multilingual,
            "task": self.task,
            "initial_prompt": self.initial_prompt or None,
            "word_timestamps": self.word_timestamps,
            "vad_filter": self.vad_filter,
            "beam_size": self.beam_size,
            "temperature": self.temperatures,
            "compression_ratio_threshold": _number(self.compression_ratio_threshold),
            "logprob_threshold": _number(self.logprob_threshold),
            "no_speech_threshold": _number(self.no_speech_threshold),
            "max_new_tokens": self.max_new_tokens,
        }
        try:
            return RecognitionOptions.model_validate(wanted)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"--{name}: {first['msg']}.") from error


def _number(value: float | str) -> float | None:
    return None if isinstance(value, str) else value


def wish_of(flags: dict[str, Any]) -> Wish:
    """The wish among a command's flags. What the engine has not, or a model that cannot do the task, is wrong usage."""
    from whisper_farm.models import DEFAULT_ENGINE

    given = {name: flags[name] for name in Wish.__dataclass_fields__}
    wish = Wish(**{**given, "engine": given["engine"] or DEFAULT_ENGINE})
    if wish.multilingual and wish.language is not None:
        raise click.UsageError("--multilingual finds the language of every chunk: leave --language out.")
    if wish.model is not None and wish.task == "translate":
        _check_translates(wish.model)
    _check_engine(wish)
    return wish


def _check_engine(wish: Wish) -> None:
    from whisper_farm.engines.registry import check_options, engine_traits
    from whisper_farm.errors import OptionUnsupported

    model = wish.model or engine_traits(wish.engine).default_model("cpu", wish.task)
    try:
        check_options(wish.options(wish.engine, model))
    except OptionUnsupported as refusal:
        raise click.UsageError(refusal.message) from refusal


def _check_translates(model: str) -> None:
    from whisper_farm.models import can_translate

    if not can_translate(model):
        raise click.BadParameter(
            f"{model} was not trained to translate. Choose large-v3, medium or small.", param_hint="'--model'"
        )


def all_formats(context: click.Context, option: click.Parameter, given: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Every format asked for, once, in the order asked; all of them when none was."""
    return tuple(dict.fromkeys(format for group in given for format in group)) or tuple(FORMATS)
