"""Settings from flags and the environment. One that cannot be is one line, whichever command reads it."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

from whisper_farm.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_settings import BaseSettings

    Settings = TypeVar("Settings", bound=BaseSettings)


def settled(kind: type[Settings], **given: Any) -> Settings:
    """Settings of a kind: what was given, else the environment, else the defaults."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    try:
        return kind(**given)
    except ValidationError as error:
        raise InvalidRequest(_wrong_setting(kind, error)) from error
    except SettingsError as error:  # says in words only which setting it is about: a list that is no JSON
        found = re.search(r'field "(\w+)"', str(error))
        raise InvalidRequest(_no_list(kind, found[1]) if found else f"{error}.") from error


def _wrong_setting(kind: type[BaseSettings], error: ValidationError) -> str:
    """The first setting that is wrong, and why."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "tuple_type":
        return _no_list(kind, name)
    return f"The setting {name} cannot be {first.get('input')!r}: {first['msg']}."


def _no_list(kind: type[BaseSettings], name: str) -> str:
    variable = f"{kind.model_config['env_prefix']}{name}".upper()
    value = os.environ.get(variable, "")
    example = json.dumps([part.strip() for part in value.split(",")])
    return f"The setting {name} cannot be {value!r}: it is a list and wants JSON, as in {variable}='{example}'."
