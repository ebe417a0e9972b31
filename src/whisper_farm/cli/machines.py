"""`whisper-farm workers` and `plan`: the machines of a farm, how many there shall be, and what they cost."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whisper_farm.cli.connection import connect, server_flags
from whisper_farm.cli.whisper_flags import Command, truth
from whisper_farm.cli.words import columns, span, when
from whisper_farm.errors import NotFound
from whisper_farm.showing import printable_lines, say
from whisper_farm.times import DAY_SECONDS, clock

if TYPE_CHECKING:
    from whisper_farm.fleet.plan import Plan
    from whisper_farm.protocol.administration import WorkerView
    from whisper_farm.protocol.machines import (
        MachineAction,
        MachineLine,
        MachineList,
        MachineView,
        MachineWork,
        PoolChange,
        PoolView,
    )

SWITCHES = {"resume": "on", "pause": "paused", "drain": "drained", "stop": "stopped"}
MACHINE_ACTIONS: tuple[MachineAction, ...] = ("start", "drain", "stop", "destroy")


@click.command(cls=Command, epilog="Pools are described in the file that the server was given with --pools.")
@click.option(
    "--on", "pool", metavar="NAME", help="The pool that is meant: its name, or its provider if it is the one."
)
@click.option("--machine", metavar="ID", help="The one machine that is meant.")
@click.option(
    "-n",
    "--number",
    "number",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Let it have so many machines, work or no work.",
)
@truth("--auto", help="Leave the number to the farm again.")
@truth("--pause", help="Start nothing more there.")
@truth("--drain", help="Let that machine, or all there, finish what they hold and end.")
@truth("--stop", help="End that machine, or all there, at once; what they hold is handed back.")
@truth("--resume", help="Switch it on again.")
@truth("--start", help="Start that stopped machine.")
@truth("--destroy", help="Destroy that machine.")
@truth("--sync", help="Ask the providers now.")
@truth("--log", help="Show what happened, oldest first.")
@truth("--json", help="As JSON.")
@server_flags
def workers(
    pool: str | None, machine: str | None, server: str | None, token: str | None, json: bool, **told: Any
) -> None:
    """List pools and machines with their state, age and cost; with --on or --machine, change a pool or a machine.

    \b
    whisper-farm workers                     pools and machines, and why so many
    whisper-farm workers --on local -n 4     four workers, whatever there is to do
    whisper-farm workers --on cloud --auto   as many as the work needs
    whisper-farm workers --machine ID --log  what happened to one machine
    """
    switches = [name for name in dict.fromkeys((*SWITCHES, *MACHINE_ACTIONS)) if told[name]]
    number, auto = told["number"], told["auto"]
    if machine is not None and (pool is not None or number is not None or auto):
        raise click.UsageError("--machine goes with --start, --drain, --stop, --destroy and --log only.")
    action = None if machine is None else _action(switches)
    change = _change(number, auto, switches) if machine is None else None
    if change is not None and pool is None:
        raise click.UsageError("Say which pool is meant: --on NAME.")
    with connect(server, token) as farm:
        if machine is not None and action is not None:
            farm.change_machine(machine, action)
        if told["log"]:
            _print(farm.machine_log(machine)[::-1], json)
            return
        listed = farm.sync_machines() if told["sync"] else farm.machines()
        compared: list[WorkerView] = []
        if machine is not None:
            listed = listed.model_copy(update={"pools": (), "machines": _only(listed, machine)})
        elif pool is not None:
            found = named(listed, pool)
            listed = farm.change_pool(found, change) if change is not None else _of_pool(listed, found)
        else:
            compared = [one for one in farm.workers() if one.compared]
    differ = [f"{one.name}: {one.differed} of {one.compared} results differ from a second worker's" for one in compared]
    print(listed.model_dump_json() if json else printable_lines("\n".join([*describe(listed), *differ])))


def _action(given: list[str]) -> MachineAction | None:
    if len(given) > 1:
        raise click.UsageError(f"--{given[0]} and --{given[1]} exclude each other.")
    found = next((one for one in MACHINE_ACTIONS if one in given), None)
    if given and found is None:
        raise click.UsageError(f"--{given[0]} is for pools: say which one, with --on NAME.")
    return found


def _only(listed: MachineList, machine: str) -> tuple[MachineView, ...]:
    found = tuple(one for one in listed.machines if one.id == machine)
    if not found:
        raise NotFound(f"There is no machine {machine}, and none of that name ended today.")
    return found


def _of_pool(listed: MachineList, pool: str) -> MachineList:
    pools = tuple(one for one in listed.pools if one.name == pool)
    machines = tuple(one for one in listed.machines if one.pool == pool)
    return listed.model_copy(update={"pools": pools, "machines": machines})


def _change(number: int | None, auto: bool, switches: list[str]) -> PoolChange | None:
    from whisper_farm.protocol.machines import PoolChange

    if number is not None and auto:
        raise click.UsageError("-n and --auto exclude each other.")
    if len(switches) > 1:
        raise click.UsageError(f"--{switches[0]} and --{switches[1]} exclude each other.")
    if number is None and not auto and not switches:
        return None
    if switches and switches[0] not in SWITCHES:
        raise click.UsageError(f"Say which machine is meant: --machine ID --{switches[0]}.")
    told = {"fixed": number, "automatic": auto, "switch": SWITCHES[switches[0]] if switches else None}
    return PoolChange.model_validate(told)


def named(listed: MachineList, name: str) -> str:
    """The pool of that name, or the one pool of that provider."""
    names = [one.name for one in listed.pools]
    if name in names:
        return name
    alike = [one.name for one in listed.pools if one.provider == name]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise click.UsageError(f"{name} provides several pools: say which of {', '.join(alike)}.")
    known = ", ".join(names) or "none: the server was given no --pools FILE"
    raise click.UsageError(f"There is no pool {name}. The pools are: {known}.")


def describe(listed: MachineList) -> Iterator[str]:
    """Pools and machines in words."""
    if not listed.pools and not listed.machines:
        yield "This farm starts no machines: its server was given no --pools FILE."
        yield "`whisper-farm status` lists the workers that somebody else has started."
        return
    for pool in listed.pools:
        yield from _pool(pool)
    if len(listed.pools) > 1 and (today := sum(pool.spent_today for pool in listed.pools)):
        yield f"{today:.2f} spent today in all pools."
    there = [one for one in listed.machines if one.ended_at is None]
    ended = len(listed.machines) - len(there)
    if there:
        rows = [("MACHINE", "STATE", "REGION", "AGE", "COST", "JOBS", "WHAT"), *map(_row, there)]
        yield columns(rows)
    if ended:
        yield f"{ended} more ended today."


def _pool(pool: PoolView) -> Iterator[str]:
    state = "" if pool.switch == "on" else f", {pool.switch}"
    asked = "" if pool.fixed is None else f", {pool.fixed} by hand"
    yield f"{pool.name} ({pool.provider}{state}{asked}): {pool.working} work of {pool.counted}; {pool.why}"
    money = [f"{pool.spent_today:.2f} spent today"]
    if pool.budget_per_day is not None:
        money[0] += f" of {pool.budget_per_day:g}"
    money.append(f"{pool.spent:.2f} in all" + (f" of {pool.budget_total:g}" if pool.budget_total is not None else ""))
    if pool.price_per_audio_hour is not None:
        money.append(f"{pool.price_per_audio_hour:.3f} an hour of audio")
    if pool.price_per_hour:
        yield "  " + ", ".join(money)
    if pool.seconds_left:
        most = f", {span(pool.seconds_left_at_maximum)} with {pool.maximum}" if pool.seconds_left_at_maximum else ""
        yield f"  {span(pool.seconds_left)} left with the machines that work{most}"
    if pool.blocked is not None:
        yield f"  Stopped until somebody looks: {pool.blocked}"


def _row(machine: MachineView) -> tuple[str, ...]:
    why = machine.failure or _work(machine.work) or machine.why
    cost = f"{machine.cost:.3f}"
    return machine.id, machine.state, machine.region or "-", span(machine.age_seconds), cost, str(machine.jobs), why


def _work(work: tuple[MachineWork, ...]) -> str:
    verbs = {"chunk": "cuts", "peaks": "makes the listening copy of"}
    shown = [
        f"{verbs.get(one.kind, f'{clock(one.start_seconds)}–{clock(one.end_seconds)} of')} {one.name}" for one in work
    ]
    return ", ".join(shown)


def _print(lines: tuple[MachineLine, ...], json: bool) -> None:
    for line in lines:
        shown = printable_lines(f"{when(line.at)} {line.machine or line.pool} {line.kind}: {line.text}")
        print(line.model_dump_json() if json else shown)
    if not lines:
        print("Nothing has happened yet.", file=sys.stderr)


SPAN = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?$")
SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": DAY_SECONDS}


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
def plan(pools: str, deadline: float | None, budget: float | None, **told: Any) -> None:
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
    engine, model = told["engine"] or first.engine, told["model"] or first.model or "any"
    backlog = Backlog(engine, model, told["audio"], told["speed"], told["boot"], time.time())
    if deadline is not None:
        made = plan_for_deadline(fleet, backlog, deadline)
    elif budget is not None:
        made = plan_for_budget(fleet, backlog, budget)
    else:
        made = make_plan(fleet, backlog)
    say("\n".join(describe_plan(made, deadline)))


def describe_plan(made: Plan, deadline: float | None) -> Iterator[str]:
    """The plan in words."""
    rows = [(one.pool, str(one.most), f"{one.machine_seconds / 3600:.2f}", f"{one.cost:.2f}") for one in made.pools]
    yield columns([("POOL", "MACHINES", "HOURS", "COST"), *rows])
    if made.seconds is None:
        yield f"It is never done: {span(made.left_seconds)} of audio are left."
    else:
        yield f"It is done in {span(made.seconds)}, for {made.cost:.2f}."
    if deadline is not None and (made.seconds is None or made.seconds > deadline):
        yield f"The pools cannot do it in {span(deadline)}: {'; '.join(pool.why for pool in made.pools if pool.why)}"
