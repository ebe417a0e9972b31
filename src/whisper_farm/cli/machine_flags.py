"""The flags that say what this machine is used for, shared by `transcribe` and `worker`, and what they become."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import settled

if TYPE_CHECKING:
    from whisper_farm.settings import WorkerSettings

MACHINE = ("--device", "--compute_type", "--batch_size", "--threads", "--slots", "--model_dir")
"""The flags that the help lists under this heading."""


def device(written: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda` or `cuda:1`: the kind of device, and which one of them."""
    found = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d{1,2})", written.lower())
    if found is None:
        raise click.BadParameter(f"'{written}' is no device; write auto, cpu, cuda or cuda:1.")
    return found[1] or "cuda", int(found[2] or 0)


def machine_flags(command: Callable[..., object]) -> Callable[..., object]:
    """All flags that say what this machine is used for. Those not given are left to the environment."""
    device_help = "auto, cpu, cuda, cuda:1 … [default: a GPU if there is one]"
    compute_help = "int8, float16, float32 … [default: what suits the device]"
    flags = [
        click.option("--device", type=device, metavar="DEVICE", help=device_help),
        click.option("--compute_type", metavar="TYPE", help=compute_help),
        click.option("--batch_size", type=click.IntRange(1, 256), metavar="N", help="Chunks recognised together."),
        click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Processor threads of one slot."),
        click.option("--slots", type=click.IntRange(1, 1024), metavar="N", help="Batches at the same time."),
        click.option("--model_dir", metavar="FOLDER", help="Where models are kept."),
    ]
    return reduce(lambda wrapped, flag: flag(wrapped), reversed(flags), command)


def machine_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's settings among a command's flags: those that were given."""
    names = ("compute_type", "batch_size", "threads", "slots", "model_dir")
    given = {name: flags[name] for name in names if flags[name] is not None}
    if flags["device"] is not None:
        given["device"], given["device_index"] = flags["device"]
    return given


def worker_settings(**given: Any) -> WorkerSettings:
    """Settings of a worker: what was given, else the environment, else the defaults."""
    from whisper_farm.settings import WorkerSettings

    return settled(WorkerSettings, **given)
