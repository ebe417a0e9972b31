"""Which models a recording is recognised with on this machine, and that they are here before work begins."""

from __future__ import annotations

from whisper_farm.engines.cache import plain_folder
from whisper_farm.engines.devices import device_of
from whisper_farm.engines.engine import EngineSettings, Progress
from whisper_farm.engines.registry import engine_traits
from whisper_farm.transcript.options import RecognitionOptions, Task


def choose_model(engine: str, model: str | None, task: Task, settings: EngineSettings, progress: Progress) -> str:
    """The model that was named, else the engine's default; fetched to this machine if it was not here.

    ModelUnavailable for what is no model, or cannot be fetched. No other model is taken instead.
    """
    traits = engine_traits(engine)
    wanted = model or traits.default_model(device_of(traits, settings.device), task)
    if traits.fetch is not None and (folder := plain_folder(wanted)) is not None:
        wanted = str(folder)
    if traits.fetch is not None:
        traits.fetch(RecognitionOptions(engine=engine, model=wanted), settings, progress)
    return wanted
