"""What a provider of machines is: its calls, and one word for each way they can fail.

A provider is a file here (or in another package) with a class, named by an entry point of the group
`whisper_farm.providers`. It keeps nothing between calls that it could not find out again: the books are the farm's.
Every call ends within its own time limit, and raises `CallFailed` for what it knows the meaning of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal

from whisper_farm.errors import FleetError, PoolsInvalid
from whisper_farm.fleet.pools import Fleet, Pool

GROUP = "whisper_farm.providers"
SeenState = Literal["coming", "running", "stopping", "stopped", "failed", "gone", "unreachable"]
Exit = Literal["ok", "crash", "requested", "lost"]
"""How a machine ended: by itself in good order, by a fault of its own, as told, or it was taken away."""
Fault = Literal["capacity", "transient", "unknown", "exists", "missing", "conflict", "quota", "auth", "configuration"]
"""What a failed call means.

`capacity`: nothing was made, there is no room here now. `transient`: nothing was done, the same call may succeed.
`unknown`: it may have been done. `exists`: a machine of this launch exists already. `missing`: there is no such
machine. `conflict`: not in the machine's present state. `quota`, `auth`, `configuration`: a person has to act.
"""
NOTHING_MADE: frozenset[Fault] = frozenset({"capacity", "transient", "quota", "auth", "configuration"})
"""After these it is certain that no machine exists."""
NO_RETRY: frozenset[Fault] = frozenset({"quota", "auth", "configuration"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A machine as its provider shows it."""

    machine_id: str
    launch_id: str | None
    state: SeenState
    region: str = ""
    pool: str | None = None
    started_at: float | None = None
    """When the run that goes on, or the last one, began, by the provider's clock; None if it does not say."""
    ended_at: float | None = None
    exit: Exit | None = None
    message: str = ""
    sure: bool = True
    """Whether `gone` proves that the process is gone; else a worker that is heard of counts for more."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is asked of a provider when a machine is created."""

    launch_id: str
    owner: str
    pool: Pool
    region: str
    environment: Mapping[str, str] = field(default_factory=dict)


class Provider(ABC):
    """One account, cluster or computer on which machines can be had. Machines go on when it is closed."""

    @abstractmethod
    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        """All machines with that tag. Of the `known` launches also those that have ended, if it can tell.

        `known` gives the id of each launch's machine, None where no answer has told it.
        """

    @abstractmethod
    async def create(self, launch: Launch) -> Seen:
        """Make a machine that carries the launch id. The same launch twice makes one machine, if it can be helped."""

    async def start(self, machine_id: str) -> None:
        """Let a stopped machine run again."""
        raise CallFailed.of("missing", "What has ended here cannot be started again.")

    @abstractmethod
    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        """Ask its worker to end; after the grace it is ended."""

    @abstractmethod
    async def destroy(self, machine_id: str) -> None:
        """End it at once and for good; done already is no error."""

    async def close(self) -> None:  # noqa: B027 (most hold nothing)
        """End what it holds."""


class CallFailed(FleetError, status=502):
    """A provider's call failed, in a way that the provider knows. The loop answers it; no client ever sees it."""

    fault: Fault = "unknown"

    @classmethod
    def of(cls, fault: Fault, message: str) -> CallFailed:
        """The error of a call that failed in this way; `message` holds the provider's own words."""
        error = cls(message)
        error.fault = fault
        return error


def classified(error: Exception) -> CallFailed:
    """What an error means that says so itself; anything else may have been done or not."""
    if isinstance(error, CallFailed):
        return error
    if isinstance(error, FleetError):
        return CallFailed.of("configuration", error.message)
    if isinstance(error, TimeoutError):
        return CallFailed.of("unknown", "The provider did not answer in time.")
    return CallFailed.of("unknown", f"{type(error).__name__}: {error}")


def open_providers(fleet: Fleet) -> dict[str, Provider]:
    """The providers that the pools name; raises `PoolsInvalid` if one is not there or its settings are wrong."""
    named = {pool.provider: name for name, pool in fleet.pools.items()}
    return {name: _open(name, dict(fleet.providers.get(name, {})), pool) for name, pool in named.items()}


def _open(name: str, settings: dict[str, Any], pool: str) -> Provider:
    kind = str(settings.pop("kind", name))
    found = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in found:
        known = ", ".join(sorted(found)) or "none"
        raise PoolsInvalid(f"pools.{pool}.provider: there is no provider {kind}; installed are: {known}.")
    try:
        provider: Provider = found[kind].load()(**settings)
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise PoolsInvalid(f"providers.{name}: {said}") from error
    return provider
