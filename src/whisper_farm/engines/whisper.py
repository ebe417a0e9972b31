"""Whisper by faster-whisper (CTranslate2): the default engine. Its traits; `hearing` is the recogniser itself.

Its models come from the model hub at first use, or from a folder.
"""

from __future__ import annotations

from whisper_farm.engines.engine import Device, Engine, EngineSettings, EngineTraits, Progress
from whisper_farm.engines.hub import find_model
from whisper_farm.errors import EngineUnavailable
from whisper_farm.transcript.options import RecognitionOptions, Task


def _load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    try:
        from whisper_farm.engines import hearing
    except (ImportError, OSError) as problem:
        raise EngineUnavailable(
            f"faster-whisper cannot be loaded: {problem}. Repair it: pip install --force-reinstall faster-whisper"
        ) from problem
    return hearing.load(options, settings, progress)


def _version() -> str:
    from whisper_farm.engines import hearing

    return hearing.VERSION


def _default_model(device: Device, task: Task) -> str:
    """`small`, on a GPU `turbo`; turbo cannot translate, so `large-v3` does that."""
    if device == "cpu":
        return "small"
    return "turbo" if task == "transcribe" else "large-v3"


def _fetch(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> object:
    return find_model(options.model, settings, progress, options.revision)


TRAITS = EngineTraits(
    name="faster-whisper",
    load=_load,
    version=_version,
    default_model=_default_model,
    options=frozenset(RecognitionOptions.model_fields),
    best_batch={"cpu": 4, "cuda": 16},
    fetch=_fetch,
)
