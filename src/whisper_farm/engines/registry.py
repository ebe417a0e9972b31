"""Which engines there are. Knows their names and traits; imports a recogniser's library only when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from whisper_farm.engines.engine import Engine, EngineKind, EngineSettings, FetchProgress
from whisper_farm.errors import EngineUnavailable
from whisper_farm.transcript.options import RecognitionOptions

Progress = Callable[[FetchProgress], None]


def _load_whisper(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    try:
        from whisper_farm.engines import whisper
    except (ImportError, OSError) as problem:
        raise EngineUnavailable(
            f"faster-whisper cannot be loaded: {problem}. Repair it: pip install --force-reinstall faster-whisper"
        ) from problem
    return whisper.load(options, settings, progress)


def _load_sphinx(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    from whisper_farm.engines import sphinx

    return sphinx.load(options, settings, progress)


def _load_tones(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    from whisper_farm.engines import tones

    return tones.load(options, settings, progress)


ENGINES: dict[str, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind("faster-whisper", _load_whisper, shares_model=True, best_batch={"cpu": 4, "cuda": 16}),
        EngineKind(
            "pocketsphinx",
            _load_sphinx,
            shares_model=False,
            any_model=False,
            models=("en-us",),
            languages=("en",),
        ),
        EngineKind("tones", _load_tones, shares_model=True),
    )
}


def engine_kind(name: str) -> EngineKind:
    """The engine of this name; EngineUnavailable, with the nearest name there is, for any other."""
    if kind := ENGINES.get(name):
        return kind
    near = get_close_matches(name, ENGINES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ENGINES)}."
    raise EngineUnavailable(f"There is no engine {name!r}; {hint}")
