"""What an engine can do on this machine: device, lanes and batch. Found in a child, for the library is imported."""

from __future__ import annotations

from importlib import metadata

from whisper_farm import __version__
from whisper_farm.engines.choose import Device, device_for, lanes_for, trouble_with
from whisper_farm.engines.engine import EngineKind
from whisper_farm.engines.registry import engine_kind
from whisper_farm.errors import EngineUnavailable
from whisper_farm.worker.pipe import Able, Begin


def ability(begin: Begin) -> Able:
    """The engine's device, lanes and batch here; what the owner set stands. EngineUnavailable if it cannot run."""
    kind = engine_kind(begin.engine)
    if trouble := trouble_with(kind.name):
        raise EngineUnavailable(f"The engine {kind.name} does not work here: {trouble}.")
    device = _device(kind, begin)
    division = lanes_for(kind, device, begin.slots, batch=begin.batch_size)
    return Able(
        engine=kind.name,
        version=_version(kind.name),
        device=device,
        lanes=division.lanes,
        threads=begin.threads or division.threads,
        batch=division.batch,
        shares_model=kind.shares_model,
        models=None if kind.any_model else kind.models,
    )


def _device(kind: EngineKind, begin: Begin) -> Device:
    """An engine that would gain nothing from batches on a GPU does not use one: no need to look for it."""
    return device_for(begin.device) if kind.best_batch.get("cuda", 1) > 1 else "cpu"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return __version__
