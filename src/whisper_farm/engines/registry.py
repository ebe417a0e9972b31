"""Which engines there are: those that an installed package names in the entry point group `whisper_farm.engines`.

The only place that knows engines by name. Looking one up loads its traits, and no recogniser's library.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from whisper_farm.engines.engine import EngineTraits
from whisper_farm.errors import EngineUnavailable, OptionUnsupported
from whisper_farm.models import has_no_option
from whisper_farm.transcript.options import RecognitionOptions

GROUP = "whisper_farm.engines"


def engine_names() -> tuple[str, ...]:
    """The names of all engines, in order of the alphabet."""
    return tuple(_installed())


def engine_traits(name: str) -> EngineTraits:
    """The engine of this name; EngineUnavailable, with the nearest name there is, for any other."""
    found = _installed().get(name)
    if found is None:
        near = get_close_matches(name, _installed(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_installed())}."
        raise EngineUnavailable(f"There is no engine {name!r}; {hint}")
    return _loaded(found)


def library_version(traits: EngineTraits) -> str:
    """The version of an engine's library; EngineUnavailable if it cannot be imported here."""
    try:
        return traits.version()
    except (ImportError, OSError) as problem:
        raise EngineUnavailable(
            f"The engine {traits.name} does not work here: {problem}. See `whisper-farm doctor`."
        ) from problem


def check_options(options: RecognitionOptions) -> None:
    """Refuse, as OptionUnsupported, a model, language, task or option that the engine surely has not."""
    traits = engine_traits(options.engine)
    if traits.models is not None and options.model not in traits.models:
        near = (get_close_matches(options.model, traits.models, 1) or traits.models)[0]
        raise OptionUnsupported(f"{traits.name} has no model {options.model!r}; did you mean {near!r}?")
    if options.task not in traits.tasks:
        raise OptionUnsupported(f"{traits.name} cannot {options.task}.")
    if traits.languages is not None and options.language not in (None, *traits.languages):
        raise OptionUnsupported(f"{traits.name} does not know the language {options.language!r}.")
    if unheeded := [name for name in options.unusual() if name not in traits.options]:
        raise has_no_option(traits.name, unheeded[0])


@cache
def _installed() -> dict[str, EntryPoint]:
    return {found.name: found for found in sorted(entry_points(group=GROUP), key=lambda found: found.name)}


@cache
def _loaded(found: EntryPoint) -> EngineTraits:
    try:
        traits = found.load()
    except (ImportError, AttributeError) as problem:
        raise EngineUnavailable(f"The engine {found.name} cannot be loaded from {found.value}: {problem}.") from problem
    if not isinstance(traits, EngineTraits):
        raise EngineUnavailable(f"The engine {found.name} is no engine: {found.value} is no EngineTraits.")
    return traits
