"""What this machine can recognise with, and how it is divided: device, slots, threads and batch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from whisper_farm.engines.engine import Device, EngineTraits
from whisper_farm.errors import EngineUnavailable

MOST_SLOTS = 8
"""Batches at once on one processor, however many cores it has; the cores left over become threads of the slots."""


@dataclass(frozen=True, slots=True)
class Division:
    """How a machine is divided: batches at once, threads for each, chunks in each."""

    slots: int
    threads: int
    batch: int


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


def device_of(traits: EngineTraits, wanted: str) -> Device:
    """The device of an engine here. An engine that cannot use a GPU has none looked for."""
    return device_for(wanted) if "cuda" in traits.best_batch else "cpu"


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


def division_for(
    traits: EngineTraits, device: Device, slots: int | None = None, cores: int | None = None, batch: int | None = None
) -> Division:
    """How to divide this machine for an engine. What is given stands.

    On a processor many slots of one thread beat one slot of many threads; a GPU takes one large batch at a time.
    """
    cores = cores or usable_cores()
    on_processor = traits.slots or (min(cores, MOST_SLOTS) if traits.shares_model else cores)
    slots = slots or (1 if device == "cuda" else on_processor)
    return Division(slots, max(1, cores // slots), batch or traits.best_batch.get(device, 1))
