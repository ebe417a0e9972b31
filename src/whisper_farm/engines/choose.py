"""Which engine, model and device this machine should use, and how many batches at once.

`choose` is the meaning of `--engine auto`: Whisper if its model is here or can be fetched, else PocketSphinx
with a notice, unless PocketSphinx could not do what was asked. An engine that was named is never replaced.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from whisper_farm.engines.cache import find_model, local_model
from whisper_farm.engines.engine import EngineKind, EngineSettings, FetchProgress
from whisper_farm.engines.registry import engine_kind
from whisper_farm.errors import EngineUnavailable, ModelUnavailable
from whisper_farm.transcript.options import Task

Device = Literal["cpu", "cuda"]

MOST_LANES = 8
"""Batches at once on one processor, however many cores it has; the cores left over become threads of the lanes."""

_LIBRARIES = {"faster-whisper": "faster_whisper", "pocketsphinx": "pocketsphinx", "tones": "numpy"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What will recognise, and what the user should be told about it, if anything."""

    engine: str
    model: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """How a machine is divided: batches at once, threads for each, chunks in each."""

    lanes: int
    threads: int
    batch: int


def choose(
    engine: str,
    model: str | None,
    language: str | None,
    task: Task,
    settings: EngineSettings,
    progress: Callable[[FetchProgress], None],
) -> Choice:
    """The engine and model for a recording; with `auto`, Whisper's model is on this machine afterwards.

    A name that is no model's, or a folder that holds none, is an error and no reason to fall back.
    """
    if engine != "auto":
        kind = engine_kind(engine)
        return Choice(kind.name, model or _default_of(kind, settings, task))
    wanted = model or default_model(device_for(settings.device), task)
    local_model(wanted, None, settings.model_dir)
    try:
        if trouble := trouble_with("faster-whisper"):
            raise EngineUnavailable(f"faster-whisper does not work here: {trouble}.")
        find_model(wanted, settings, None, progress)
    except (EngineUnavailable, ModelUnavailable) as problem:
        return _stand_in(problem, language, task)
    return Choice("faster-whisper", wanted)


def default_model(device: Device, task: Task = "transcribe") -> str:
    """The model for who names none: `small`, on a GPU `turbo`; turbo cannot translate, so `large-v3` does that."""
    if device == "cpu":
        return "small"
    return "turbo" if task == "transcribe" else "large-v3"


def device_for(wanted: str) -> Device:
    """The device that a setting means here; EngineUnavailable for a GPU that is not there."""
    if wanted == "cpu":
        return "cpu"
    if gpus():
        return "cuda"
    if wanted == "cuda":
        raise EngineUnavailable(
            "No GPU that CTranslate2 can use is here; use --device cpu, or see `whisper-farm doctor`."
        )
    return "cpu"


def gpus() -> int:
    """How many GPUs CTranslate2 can use; 0 where it cannot be loaded."""
    try:
        import ctranslate2
    except (ImportError, OSError):
        return 0
    return int(ctranslate2.get_cuda_device_count())


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lanes_for(
    kind: EngineKind, device: Device, slots: int | None = None, cores: int | None = None, batch: int | None = None
) -> Lanes:
    """How to divide this machine for an engine. What is given stands.

    On a processor many lanes of one thread beat one lane of many threads; a GPU takes one large batch at a time.
    """
    cores = cores or usable_cores()
    size = batch or kind.best_batch.get(device, 1)
    on_processor = min(cores, MOST_LANES) if kind.shares_model else cores
    lanes = slots or (1 if device == "cuda" else on_processor)
    return Lanes(lanes, max(1, cores // lanes), size)


def trouble_with(engine: str) -> str | None:
    """Why an engine's library cannot be loaded here, or None if it can."""
    try:
        importlib.import_module(_LIBRARIES[engine_kind(engine).name])
    except (ImportError, OSError) as problem:
        return str(problem)
    return None


def _default_of(kind: EngineKind, settings: EngineSettings, task: Task) -> str:
    if kind.models:
        return kind.models[0]
    return "instant" if kind.name == "tones" else default_model(device_for(settings.device), task)


def _stand_in(problem: EngineUnavailable | ModelUnavailable, language: str | None, task: Task) -> Choice:
    """PocketSphinx instead of Whisper; the problem itself if it could not do what was asked."""
    kind = engine_kind("pocketsphinx")
    refusal = None
    if task != "transcribe":
        refusal = "cannot translate"
    elif language is not None and language not in (kind.languages or ()):
        refusal = f"knows English only, not {language!r}"
    elif trouble := trouble_with(kind.name):
        refusal = f"does not work here: {trouble}"
    if refusal:
        raise type(problem)(f"{problem.message} PocketSphinx cannot stand in: it {refusal}.") from problem
    notice = (
        f"{problem.message} PocketSphinx stands in: English only, and far less accurate on real voices than Whisper."
    )
    return Choice(kind.name, kind.models[0], notice)
