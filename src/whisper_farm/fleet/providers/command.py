"""Machines by commands of your own: four command lines, with JSON answers.

For whatever has a command line: ssh, docker, SkyPilot, dstack, RunPod (how: docs/FLEET.md). Each command is a
list of words, run without a shell. `{launch_id}`, `{owner}`, `{pool}`, `{region}`, `{image}`, `{size}`,
`{accelerator}`, `{machine_id}` and `{grace_seconds}` are replaced in every word. The worker's environment is that of
`create`. Answers are JSON on standard output:

- `create` prints a machine: `{"id": …, "launch_id": …, "state": …}`. If known, it adds `region`, `pool`, `started_at`,
  `ended_at` (seconds since 1970), `exit` (`ok`, `crash`, `requested`, `lost`) and `message`.
- `list` prints a list of such machines: those of this `{owner}` only.
- A command that fails prints `{"error": …, "fault": …}`, where the fault is a word of `provider.Fault`. Without one a
  failed create may have made something, and any other call may be made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whisper_farm.fleet.pools import Strict, Word
from whisper_farm.fleet.providers.calls import Output, run
from whisper_farm.fleet.providers.provider import CallFailed, Exit, Fault, Launch, Provider, Seen, SeenState

FAULTS = frozenset(get_args(Fault))
Line = Annotated[tuple[Word, ...], Field(min_length=1, max_length=64)]


class CommandSettings(Strict):
    """The table `[providers.NAME]` with `kind = "command"`."""

    create: Line
    list: Line
    destroy: Line
    stop: Line | None = None
    """None destroys at once."""
    start: Line | None = None
    timeout_seconds: float = Field(default=50, gt=0, le=55)


class DescribedMachine(BaseModel):
    """A machine, as a command describes it. What else it says is left out."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    id: str = Field(min_length=1, max_length=255)
    launch_id: str | None = None
    state: SeenState = "coming"
    region: str = ""
    pool: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit: Exit | None = None
    message: str = ""


class CommandProvider(Provider):
    """Whatever these commands reach."""

    def __init__(self, **settings: Any) -> None:
        self._told = CommandSettings(**settings)

    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        printed = await self._run(self._told.list, {"owner": owner})
        if not isinstance(printed, list):
            raise CallFailed.of("configuration", "The command `list` must print a JSON list of machines.")
        return [_seen(one) for one in printed]

    async def create(self, launch: Launch) -> Seen:
        pool = launch.pool
        words = {
            "launch_id": launch.launch_id, "owner": launch.owner, "pool": pool.name, "region": launch.region,
            "image": pool.image or "", "size": pool.size or "", "accelerator": pool.accelerator or "",
            "grace_seconds": f"{pool.grace_seconds:g}",
        }  # fmt: skip
        return _seen(await self._run(self._told.create, words, launch.environment, creates=True))

    async def start(self, machine_id: str) -> None:
        if self._told.start is None:
            raise CallFailed.of("configuration", "This provider has no command `start`.")
        await self._run(self._told.start, {"machine_id": machine_id}, answers=False)

    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        words = {"machine_id": machine_id, "grace_seconds": f"{grace_seconds:g}"}
        await self._run(self._told.stop or self._told.destroy, words, answers=False)

    async def destroy(self, machine_id: str) -> None:
        await self._run(self._told.destroy, {"machine_id": machine_id}, answers=False)

    async def _run(
        self,
        line: Sequence[str],
        words: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
        creates: bool = False,
        answers: bool = True,
    ) -> Any:
        """What the command prints, read as JSON."""
        words_of_line = [_filled(word, words) for word in line]
        output = await run(words_of_line, self._told.timeout_seconds, {**os.environ, **(environment or {})})
        if output.status != 0:
            raise _failed(line[0], output, creates)
        if not answers:
            return None
        try:
            return json.loads(output.printed)
        except ValueError as error:
            fault: Fault = "unknown" if creates else "configuration"
            raise CallFailed.of(fault, f"{line[0]} printed no JSON: {output.printed.strip()[-500:]}") from error


def _filled(word: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _seen(told: object) -> Seen:
    try:
        one = DescribedMachine.model_validate(told)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        raise CallFailed.of("unknown", f"This is no description of a machine: {said}") from error
    return Seen(
        one.id, one.launch_id, one.state, one.region, one.pool, one.started_at, one.ended_at, one.exit, one.message
    )


def _failed(name: str, output: Output, creates: bool) -> CallFailed:
    try:
        answer = json.loads(output.printed)
    except ValueError:
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    fault: Fault = answer["fault"] if answer.get("fault") in FAULTS else "unknown" if creates else "transient"
    return CallFailed.of(fault, f"{answer.get('error') or output.words or name} (status {output.status})")
