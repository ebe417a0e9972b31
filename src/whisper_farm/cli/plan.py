"""`whisper-farm plan`: what a backlog will take on the pools of a file, before anything is started."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.whisper_flags import Command

if TYPE_CHECKING:
    from whisper_farm.fleet.plan import Plan

SPAN = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?$")
SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def time_span(written: str | float) -> float:
    """The seconds of a stretch of time: `90`, `15m`, `10h`, `2d`."""
    found = SPAN.match(str(written))
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"'{written}' is no length of time; write 90, 15m, 10h or 2d.")
    return float(found[1]) * SECONDS[found[2]]


@click.command(cls=Command)
@click.option("--pools", required=True, metavar="FILE", help="The file of pools.")
@click.option("--audio", required=True, type=time_span, metavar="TIME", help="How much there is to transcribe, as 10h.")
@click.option("--speed", type=click.FloatRange(0.01, 10_000), default=10.0, metavar="X", help="Of one machine.")
@click.option("--boot", type=time_span, default=60.0, metavar="TIME", help="From a machine's start to its first work.")
@click.option("--engine", metavar="NAME", help="[default: that of the first pool]")
@click.option("--model", metavar="NAME", help="[default: that of the first pool]")
@click.option("--deadline", type=time_span, metavar="TIME", help="When it must be done, from now, as 2h.")
@click.option("--budget", type=click.FloatRange(0, 100_000_000), metavar="MONEY", help="What it may cost.")
def plan(
    pools: str,
    audio: float,
    speed: float,
    boot: float,
    engine: str | None,
    model: str | None,
    deadline: float | None,
    budget: float | None,
) -> None:
    """Say how many machines of which pool a backlog gets, what that costs, and when it is done.

    It is the decision of the farm itself, on a virtual clock, in a world in which nothing goes wrong.

    \b
    whisper-farm plan --pools farm.toml --audio 100h --speed 20 --deadline 2h
    """
    from whisper_farm.fleet.plan import Backlog, make_plan, plan_for_budget, plan_for_deadline
    from whisper_farm.fleet.pools import read_pools

    if deadline is not None and budget is not None:
        raise click.UsageError("--deadline and --budget exclude each other: a plan keeps to one of them.")
    fleet = read_pools(Path(pools))
    first = next(iter(fleet.pools.values()), None)
    if first is None:
        raise click.UsageError(f"{pools} describes no pool.")
    backlog = Backlog(engine or first.engine, model or first.model or "any", audio, speed, boot, time.time())
    if deadline is not None:
        made = plan_for_deadline(fleet, backlog, deadline)
    elif budget is not None:
        made = plan_for_budget(fleet, backlog, budget)
    else:
        made = make_plan(fleet, backlog)
    print("\n".join(describe(made, deadline)))


def describe(made: Plan, deadline: float | None) -> Iterator[str]:
    """The plan in words."""
    from whisper_farm.cli.describing import columns
    from whisper_farm.cli.progress import span

    rows = [("POOL", "MACHINES", "HOURS", "COST"), *map(_row, made.pools)]
    yield columns(rows)
    if made.seconds is None:
        yield f"It is never done: {span(made.left_seconds)} of audio are left."
    else:
        yield f"It is done in {span(made.seconds)}, for {made.cost:.2f}."
    if deadline is not None and (made.seconds is None or made.seconds > deadline):
        yield f"The pools cannot do it in {span(deadline)}: {'; '.join(pool.why for pool in made.pools if pool.why)}"


def _row(pool: Any) -> tuple[str, ...]:
    return pool.pool, str(pool.most), f"{pool.machine_seconds / 3600:.2f}", f"{pool.cost:.2f}"
