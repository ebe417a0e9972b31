"""What an engine can do on this machine: device, lanes and batch. Found in a child, for the library is imported."""

from __future__ import annotations

from whisper_farm.engines.devices import device_of, division_for
from whisper_farm.engines.registry import engine_traits, library_version
from whisper_farm.worker.pipe import Able, Begin


def ability(begin: Begin) -> Able:
    """The engine's device, lanes and batch here; what the owner set stands. EngineUnavailable if it cannot run."""
    traits = engine_traits(begin.engine)
    version = library_version(traits)
    device = device_of(traits, begin.device)
    division = division_for(traits, device, begin.slots, batch=begin.batch_size)
    return Able(
        engine=traits.name,
        version=version,
        device=device,
        lanes=division.slots,
        threads=begin.threads or division.threads,
        batch=division.batch,
        shares_model=traits.shares_model,
        models=traits.models,
    )
