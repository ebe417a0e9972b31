"""The machines API: pools with limits and switches, machines with state, age and cost, and what happened to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from whisper_farm.protocol.wire import Answer, Id, JobKind, Name, Request, Seconds

PoolSwitch = Literal["on", "paused", "drained", "stopped"]
MachineAction = Literal["start", "drain", "stop", "destroy"]


class PoolView(Answer):
    """One pool, how large it should be, and why."""

    name: Name
    provider: Name
    engine: Name
    model: str | None
    switch: PoolSwitch
    fixed: int | None
    """The number of machines that was asked for by hand; None leaves it to the loop."""
    minimum: int
    maximum: int
    wanted: int
    why: str
    inputs: dict[str, Any]
    """The numbers that the decision came from."""
    counted: int
    """Machines that are not proven gone."""
    working: int
    blocked: str | None
    """What a person has to mend before more machines are started."""
    price_per_hour: float
    spent_today: float
    spent: float
    budget_per_day: float | None
    budget_total: float | None
    price_per_audio_hour: float | None
    """What an hour of audio costs: of today's machines so far; before they have heard any, by price and speed."""
    seconds_left: float | None
    seconds_left_at_maximum: float | None
    """How long the backlog takes with the machines that work, and with as many as are allowed."""


class MachineWork(Answer):
    """What a machine does now for one transcription: so many jobs, between these seconds of the recording."""

    transcription_id: Id
    name: Name
    kind: JobKind
    jobs: int
    start_seconds: Seconds
    end_seconds: Seconds


class MachineView(Answer):
    """One machine."""

    id: Id
    """Its launch in the farm's books."""
    pool: Name
    provider: Name
    region: str
    state: Name
    machine_id: str | None
    worker_id: str | None
    jobs: int
    work: tuple[MachineWork, ...] = ()
    """What those jobs are, by transcription; what was begun first comes first."""
    why: str
    failure: str | None
    age_seconds: float
    ran_seconds: float
    cost: float
    intended_at: float
    registered_at: float | None
    ended_at: float | None


class MachineLine(Answer):
    """One line of what happened."""

    at: float
    pool: Name
    machine: str | None
    kind: Name
    text: str


class MachineList(Answer):
    """All pools, and the machines that count or ended today. Without a file of pools both are empty."""

    pools: tuple[PoolView, ...]
    machines: tuple[MachineView, ...]


class MachineLog(Answer):
    """What happened, newest first."""

    lines: tuple[MachineLine, ...]


class PoolChange(Request):
    """Switch a pool, or say how many machines it shall have. What is left out stays."""

    switch: PoolSwitch | None = None
    fixed: int | None = Field(default=None, ge=0, le=1000)
    automatic: bool = False
    """Leave the number to the loop again."""


class ScalingView(Answer):
    """How many workers there should be in all, busy ones included: for a scaler outside of the farm, such as KEDA."""

    wanted: int
    why: str
