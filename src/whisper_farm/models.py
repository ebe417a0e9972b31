"""Whisper models that have names, and what is known of them wherever they are: no file is looked at."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.errors import OptionUnsupported

REPOSITORIES = {
    "tiny.en": "Systran/faster-whisper-tiny.en",
    "tiny": "Systran/faster-whisper-tiny",
    "base.en": "Systran/faster-whisper-base.en",
    "base": "Systran/faster-whisper-base",
    "small.en": "Systran/faster-whisper-small.en",
    "small": "Systran/faster-whisper-small",
    "medium.en": "Systran/faster-whisper-medium.en",
    "medium": "Systran/faster-whisper-medium",
    "large-v1": "Systran/faster-whisper-large-v1",
    "large-v2": "Systran/faster-whisper-large-v2",
    "large-v3": "Systran/faster-whisper-large-v3",
    "large": "Systran/faster-whisper-large-v3",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
"""Models by the names that faster-whisper gives them."""

ModelName = Annotated[str, Field(min_length=1, max_length=255)]
"""A model's name, a repository of the model hub, or a folder on the worker's machine: one bound for every message."""

_NO_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
"""A name, or a repository of the model hub (owner/name)."""
_ENGINE = re.compile(r"[a-z][a-z0-9-]{1,31}")
"""More than one letter: a drive of Windows is no engine."""
_CANNOT_TRANSLATE = frozenset(
    word
    for name, repo in REPOSITORIES.items()
    if "turbo" in name or "distil" in name or ".en" in name
    for word in (name, repo)
)
"""They were never trained to: asked to translate, they write what was said in its own language."""


def may_be_folder(model: str) -> bool:
    """Whether this could be the path of a folder rather than a model's name or repository."""
    return _NO_FOLDER.fullmatch(model) is None


def engine_and_model(written: str) -> tuple[str, str]:
    """What `ENGINE:MODEL` names; a model alone is one of the default engine."""
    engine, colon, model = written.partition(":")
    if colon and model and _ENGINE.fullmatch(engine):
        return engine, model
    return DEFAULT_ENGINE, written


def can_translate(model: str) -> bool:
    """Whether a model was trained to translate; one that is not in the list above is taken to be."""
    return model not in _CANNOT_TRANSLATE


def cannot_translate(model: str) -> OptionUnsupported:
    """The refusal of a model that is asked to translate and was not trained to."""
    return OptionUnsupported(f"The model {model} cannot translate; choose large-v3, medium or small.")


def has_no_option(engine: str, name: str) -> OptionUnsupported:
    """The refusal of an option that an engine would not heed."""
    return OptionUnsupported(f"{engine} has no option --{name}; leave it out.")
