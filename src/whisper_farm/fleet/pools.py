"""Pools: what the farm may start, how much of it, and for how much money. They are read from one TOML file.

A pool names its provider and says what one machine of it is. `[fleet]` holds the rules that are equal for all pools,
`[providers.NAME]` the settings of one provider. A mistake is refused with the file, the line and what to do. This
module starts nothing and keeps nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.errors import PoolsInvalid
from whisper_farm.models import ModelName
from whisper_farm.times import DAY_SECONDS, HOURS, within_hours

PoolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Word = Annotated[str, Field(min_length=1, max_length=255)]
MAX_MACHINES = 1000
LATE_SECONDS = 300.0
"""A worker ends itself so long after the loop should have drained it."""
PATIENCE_SECONDS = 900.0
"""A worker whose farm is away for so long ends itself: nobody else may be left to end it."""
_HEADER = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"""^\s*["']?([A-Za-z0-9_-]+)["']?\s*[=.]""")


class Strict(BaseModel):
    """A table of the file: an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pool(Strict):
    """What one machine of this pool is, and how many of them may run at what cost."""

    name: PoolName = "pool"
    provider: PoolName = "local"
    image: Word | None = None
    command: tuple[Word, ...] | None = Field(default=None, min_length=1, max_length=64)
    """The worker's command line, where it is not `whisper-farm worker`."""
    size: Word | None = None
    """The provider's name of a size, such as `performance-8x`."""
    accelerator: Word | None = None
    regions: tuple[Word, ...] = Field(default=(), max_length=32)
    """In order of preference: where the first one is full, the next one is asked."""
    environment: dict[Word, str] = Field(default_factory=dict, max_length=64)
    engine: Word = DEFAULT_ENGINE
    model: ModelName | None = None
    """None serves any model of the engine."""
    slots: int = Field(default=1, ge=1, le=1024)
    """Jobs that one machine works on at the same time: no machine is started that would have none."""
    minimum: int = Field(default=0, ge=0, le=MAX_MACHINES)
    maximum: int = Field(default=1, ge=0, le=MAX_MACHINES)
    started_seconds: float | None = Field(default=None, ge=1, le=7 * DAY_SECONDS)
    """How long a machine may wait before it runs, where that differs from the rule: in the queue of a cluster, say."""
    warm: int = Field(default=0, ge=0, le=MAX_MACHINES)
    """Ended machines that are kept, stopped, to be started again; more than these are destroyed."""
    idle_seconds: float = Field(default=300, ge=1, le=DAY_SECONDS)
    """A worker without work for so long ends itself."""
    grace_seconds: float = Field(default=30, ge=0, le=300)
    """How long a worker that is told to stop may finish what it holds."""
    price_per_hour: float = Field(default=0, ge=0, le=1000)
    budget_per_day: float | None = Field(default=None, ge=0, le=1_000_000)
    budget_total: float | None = Field(default=None, ge=0, le=100_000_000)
    maximum_life_seconds: float = Field(default=DAY_SECONDS, ge=60, le=30 * DAY_SECONDS)
    hours: str | None = None
    """The hours of the day in UTC in which machines may be started, such as `08:00-20:00` or `22:00-06:00`."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum ({self.minimum}) is more than maximum ({self.maximum})")
        if len(set(self.regions)) < len(self.regions):
            raise ValueError("regions names a region twice")
        if self.price_per_hour == 0 and (self.budget_per_day is not None or self.budget_total is not None):
            raise ValueError("a budget needs price_per_hour: without it nothing is ever spent")
        if self.hours is not None and not re.match(HOURS, self.hours):
            raise ValueError("hours are written as HH:MM-HH:MM in UTC, such as 08:00-20:00")
        return self

    def is_open(self, now: float) -> bool:
        """Whether machines may be started at this time of day."""
        at = datetime.fromtimestamp(now, UTC)
        return self.hours is None or within_hours(self.hours, at.hour * 60 + at.minute)

    def environment_of(self, launch_id: str, region: str, server: str, token: str) -> dict[str, str]:
        """What a worker of this pool finds in its environment: the farm, its engine, its limits, where it is."""
        told: dict[str, object] = {
            "server": server, "token": token, "engines": json.dumps([self.engine]), "provider": self.provider,
            "launch_id": launch_id, "name": launch_id, "life_seconds": self.maximum_life_seconds + LATE_SECONDS,
            "patience_seconds": PATIENCE_SECONDS, "grace_seconds": self.grace_seconds,
            "price_per_hour": self.price_per_hour,
        }  # fmt: skip
        if self.minimum == 0:
            told["idle_seconds"] = self.idle_seconds
        if self.model is not None:
            told["models"] = json.dumps([self.model])
        if region:
            told["region"] = region
        if self.accelerator is not None:
            told["accelerators"] = json.dumps([self.accelerator])
        if "slots" in self.model_fields_set:
            told["slots"] = self.slots
        return {f"WHISPER_FARM_WORKER_{name.upper()}": str(value) for name, value in told.items()} | self.environment

    def serves(self, engine: str, model: str) -> bool:
        """Whether its workers can do jobs of this engine and model."""
        return self.engine == engine and self.model in (None, model)


class Rules(Strict):
    """How the loop decides; equal for all pools."""

    target_drain_seconds: float = Field(default=600, ge=1, le=DAY_SECONDS)
    """As many machines are wanted as would end the backlog within this time."""
    look_seconds: float = Field(default=10, ge=0.2, le=300)
    """How often the loop looks when nothing wakes it."""
    accepted_seconds: float = Field(default=120, ge=1, le=3600)
    started_seconds: float = Field(default=600, ge=1, le=7200)
    registered_seconds: float = Field(default=180, ge=1, le=3600)
    """The three deadlines of a launch: the provider takes it, the machine runs, its worker registers."""
    drain_seconds: float = Field(default=3600, ge=1, le=DAY_SECONDS)
    """A drain that takes longer hands its jobs back and ends."""
    hysteresis_seconds: float = Field(default=120, ge=0, le=DAY_SECONDS)
    """No pool is made smaller sooner than this after it grew."""
    fresh_seconds: float = Field(default=60, ge=1, le=3600)
    """What was seen longer ago than this is no ground for ending anything."""
    settle_seconds: float = Field(default=30, ge=0, le=600)
    """A provider's list may leave out a new machine for so long."""
    retry_seconds: float = Field(default=5, ge=0.05, le=600)
    retry_most_seconds: float = Field(default=300, ge=0.05, le=3600)
    """The pause after a failed call doubles from the first to the second, with jitter."""
    block_seconds: float = Field(default=600, ge=1, le=DAY_SECONDS)
    """How long a pool is left alone after a failure that no retry can mend."""
    crashes_most: int = Field(default=3, ge=1, le=100)
    """So many machines in a row that ended by themselves before they worked are a bad image."""
    coming_most: int = Field(default=5, ge=1, le=MAX_MACHINES)
    """Machines that are on their way at the same time, or as many as work already if those are more."""
    budget_reserve_seconds: float = Field(default=900, ge=0, le=DAY_SECONDS)
    """Nothing is started unless the budget still pays all machines for so long; below half of it they are drained."""


class Fleet(Strict):
    """The whole file."""

    pools: dict[PoolName, Pool] = Field(default_factory=dict, max_length=64)
    providers: dict[PoolName, dict[str, Any]] = Field(default_factory=dict, max_length=64)
    """Settings of providers; each provider checks its own. `kind` is the sort of provider, if its name is not."""
    fleet: Rules = Rules()

    @model_validator(mode="before")
    @classmethod
    def _named(cls, told: Any) -> Any:
        pools = told.get("pools") if isinstance(told, dict) else None
        if not isinstance(pools, dict):
            return told
        named = {name: {**pool, "name": name} if isinstance(pool, dict) else pool for name, pool in pools.items()}
        return told | {"pools": named}


def read_pools(file: Path) -> Fleet:
    """The pools of a file; raises `PoolsInvalid` with the file, the line and the mistake."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PoolsInvalid(f"The file of pools {file} cannot be read: {reason}.") from error
    return parse_pools(text, str(file))


def parse_pools(text: str, place: str = "pools.toml") -> Fleet:
    """The same from a text; `place` is what mistakes call it."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise PoolsInvalid(f"{place}:{found[1] if found else '?'}: this is no TOML: {error}.") from error
    try:
        return Fleet.model_validate(told)
    except ValidationError as error:
        raise PoolsInvalid("\n".join(_mistake(each, text, place) for each in error.errors()[:5])) from error


def _mistake(error: Any, text: str, place: str) -> str:
    path = [str(part) for part in error["loc"] if part != "[key]"]
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        said = "there is no such setting"
    return f"{place}:{line_of(text, path)}: {'.'.join(path) or 'the file'}: {said}"


def line_of(text: str, path: list[str]) -> int:
    """The number of the line that says the most of this path of tables and keys."""
    best, found, table = 0, 1, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here = table
        elif key := _KEY.match(line):
            here = [*table, key[1]]
        else:
            continue
        said = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(here, path, strict=False))))
        if said > best:
            best, found = said, number
    return found
