"""`limits`: what people and tokens may have, how long transcriptions are kept. `hours`: when a worker works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from whisper_farm.cli.connection import on_farm
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.words import columns
from whisper_farm.errors import NotFound
from whisper_farm.showing import printable_lines, say
from whisper_farm.times import HOURS

if TYPE_CHECKING:
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.administration import LimitsChange
    from whisper_farm.settings import Limits

NONE = "none"
OTHER_HOURS = {"always": "", "own": None}


@click.command(cls=Command)
@click.argument("change", nargs=-1, metavar="[NAME=VALUE...]")
@truth("--json", help="As JSON.")
@on_farm
def limits(farm: FarmClient, change: tuple[str, ...], json: bool) -> None:
    """Show the limits of the farm, or change some. They count at once, and outlast the server.

    \b
    whisper-farm limits                        what counts, and the server's own
    whisper-farm limits max_unfinished=100     another number
    whisper-farm limits retention_days=none    no such limit
    whisper-farm limits max_unfinished=        as the server was given it, again
    """
    found = farm.limits()
    if change:
        found = farm.change_limits(_change(change, found.server))
    now, server = found.limits.model_dump(), found.server.model_dump()
    rows = [(name, _shown(now[name]), _shown(server[name]), _in_words(name, now[name])) for name in now]
    say(found.model_dump_json() if json else columns([("LIMIT", "IN FORCE", "SERVER'S OWN", "THAT IS"), *rows]))


@click.command(cls=Command)
@click.argument("worker", metavar="WORKER")
@click.argument("when", metavar="HH:MM-HH:MM|always|own")
@on_farm
def hours(farm: FarmClient, worker: str, when: str) -> None:
    """Say when the workers of a name work, by the clocks of their machines: at once, and after a restart of theirs.

    \b
    whisper-farm hours studio-mac 22:00-07:00   in these hours only
    whisper-farm hours studio-mac always        at any time
    whisper-farm hours studio-mac own           as it was started
    """
    found = next((one for one in farm.workers() if one.name == worker and one.state != "gone"), None)
    if found is None:
        raise NotFound(f"There is no worker {worker} now; `status` lists those that are there.")
    if when not in OTHER_HOURS and not re.match(HOURS, when):
        raise click.UsageError(f"'{when}' is neither HH:MM-HH:MM nor always nor own.")
    now = farm.change_hours(found.id, OTHER_HOURS.get(when, when))
    shown = now.hours if now.wanted_hours is None else now.wanted_hours
    say(printable_lines(f"{worker}  {shown or 'at any time'}"))


def _change(words: tuple[str, ...], server: Limits) -> LimitsChange:
    from whisper_farm.protocol.administration import LimitsChange

    told: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in LimitsChange.model_fields:
            raise click.UsageError(f"'{word}' is none of {', '.join(f'{one}=' for one in LimitsChange.model_fields)}.")
        told[name] = getattr(server, name) if value == "" else None if value == NONE else value
    try:
        return LimitsChange.model_validate(told)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise click.UsageError(f"{first['loc'][0]}: {first['msg']}.") from None


def _shown(value: float | None) -> str:
    return NONE if value is None else f"{value:.15g}"


def _in_words(name: str, value: float | None) -> str:
    """A large limit in the unit that people count it in."""
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return f"{value / (1 << 30):.4g} GiB"
    return f"{value / 3600:.4g} h" if name.endswith("_seconds") else ""
