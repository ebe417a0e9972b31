"""Workers as jobs of a Slurm cluster, by its own commands.

One job for each launch, with the launch id as its name and, with the farm's tag, in its comment. The job's script ends
in `exec`, so that the worker is the job: as a child of a shell it would outlive it. Jobs are never requeued. A job that
waits in the queue counts; `started_seconds` of the pool says how long it may wait. Slurm's time limit is the machine's
longest life, and comes with a SIGTERM before it.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from whisper_farm.fleet.pools import LATE_SECONDS, Strict, Word
from whisper_farm.fleet.providers.calls import WORKER, Output, run
from whisper_farm.fleet.providers.provider import CallFailed, Exit, Fault, Launch, Provider, Seen, SeenState

CALL_SECONDS = 20.0
STATES: dict[str, SeenState] = {
    "PENDING": "coming", "CONFIGURING": "coming", "REQUEUED": "coming", "REQUEUE_HOLD": "coming", "RUNNING": "running",
    "SUSPENDED": "running", "STOPPED": "running", "RESIZING": "running", "SIGNALING": "running",
    "COMPLETING": "stopping", "STAGE_OUT": "stopping",
}  # fmt: skip
"""States of a job that is there; every other one is an end."""
_ENDS: dict[str, tuple[Exit, str]] = {
    "COMPLETED": ("ok", ""),
    "CANCELLED": ("requested", ""),
    "TIMEOUT": ("requested", "Its time in Slurm was over."),
    "DEADLINE": ("requested", "Its deadline in Slurm was over."),
    "OUT_OF_MEMORY": ("crash", "It ran out of memory."),
    "NODE_FAIL": ("lost", "Its node failed."),
    "PREEMPTED": ("lost", "Slurm has given its place to another job."),
    "BOOT_FAIL": ("lost", "Its node did not boot."),
}
_FIELD = re.compile(r"(?:^|\s)([A-Z][A-Za-z]*)=(\S*)")
_COMMENT = re.compile(r"owner=([\w.-]+),pool=([\w.-]+),launch=([\w.-]+)")
_WORDS: tuple[tuple[re.Pattern[str], Fault], ...] = (
    (re.compile(r"Invalid job id|already completed|no longer exists", re.I), "missing"),
    (re.compile(r"accounting/QOS policy|QOSMax|AssocMax|AssocGrp|limit exceeded|job submit limit", re.I), "quota"),
    (re.compile(r"access/permission denied|Invalid account|Invalid credential|munge", re.I), "auth"),
    (
        re.compile(r"Unable to contact slurm controller|Connection refused|Zero Bytes were transmitted", re.I),
        "transient",
    ),
    (re.compile(r"timed out|Slurm temporarily unable|Resource temporarily unavailable", re.I), "unknown"),
)


class SlurmSettings(Strict):
    """The table `[providers.slurm]`."""

    partition: Word | None = None
    account: Word | None = None
    cpus: int = Field(default=2, ge=1, le=1024)
    memory: str = Field(default="2G", pattern=r"^\d{1,7}[KMGT]?$")
    folder: Word | None = None
    """Where the jobs' output goes; the nodes must see it. None throws it away."""
    conf: Word | None = None
    """The cluster's `slurm.conf`, where it is not in its usual place."""


class SlurmProvider(Provider):
    """One cluster, or one partition of it."""

    def __init__(self, **settings: Any) -> None:
        self._told = SlurmSettings(**settings)

    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        """Slurm remembers ended jobs for some minutes."""
        printed = await self._call("squeue", "-h", "-r", "-o", "%i|%T|%S|%k", "-t", "all", "--me")
        listed = [one for line in printed.splitlines() if (one := _listed(line, owner)) is not None]
        seen = [one for one in listed if one.state != "gone"]
        there = {one.launch_id for one in seen}
        ended = {one.machine_id for one in listed if one.launch_id in known and one.launch_id not in there}
        ended |= {job for launch_id, job in known.items() if job is not None and launch_id not in there}
        for job in sorted(ended):
            seen += await self._ended(job)
        return seen

    async def create(self, launch: Launch) -> Seen:
        told, pool = self._told, launch.pool
        minutes = math.ceil((pool.maximum_life_seconds + LATE_SECONDS) / 60)
        line = [
            "sbatch", "--parsable", "--no-requeue", f"--job-name={launch.launch_id}",
            f"--comment=owner={launch.owner},pool={pool.name},launch={launch.launch_id}",
            f"--signal=B:TERM@{max(1, round(pool.grace_seconds)) + 60}", f"--time={minutes}",
            f"--cpus-per-task={told.cpus}", f"--mem={told.memory}",
            f"--output={f'{told.folder}/{launch.launch_id}.log' if told.folder else os.devnull}",
            f"--export={','.join(['PATH', 'HOME', *launch.environment])}",
        ]  # fmt: skip
        line += [f"--partition={launch.region or told.partition}"] if launch.region or told.partition else []
        line += [f"--account={told.account}"] if told.account else []
        line += [f"--gres=gpu:{pool.accelerator}:1"] if pool.accelerator else []
        script = f"#!/bin/sh\nexec {shlex.join(pool.command or WORKER)}\n"
        printed = await self._call(*line, environment=launch.environment, given=script, creates=True)
        job = printed.strip().partition(";")[0]
        if not job.isdigit():
            raise CallFailed.of("unknown", f"sbatch printed no number of a job: {printed.strip()[:200]}")
        return Seen(job, launch.launch_id, "coming", launch.region, pool.name)

    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        """One SIGTERM; a job that still waits is cancelled."""
        await self._call("scancel", "--state=PENDING", machine_id)
        await self._call("scancel", "--batch", "--signal=TERM", machine_id)

    async def destroy(self, machine_id: str) -> None:
        """The worker and what it started are killed; Slurm's own cancel makes sure of the job."""
        await self._call("scancel", "--signal=KILL", "--full", machine_id)
        await self._call("scancel", machine_id)

    async def _ended(self, machine_id: str) -> list[Seen]:
        """A job that the queue does not show any more, if Slurm remembers it."""
        try:
            printed = await self._call("scontrol", "-o", "show", "job", machine_id)
        except CallFailed as refused:
            if refused.fault == "missing":
                return []
            raise
        return [_remembered(dict(_FIELD.findall(printed)))]

    async def _call(
        self, *line: str, environment: Mapping[str, str] | None = None, given: str | None = None, creates: bool = False
    ) -> str:
        told = {**os.environ, **(environment or {}), "SLURM_TIME_FORMAT": "%s"}
        if self._told.conf is not None:
            told["SLURM_CONF"] = self._told.conf
        output = await run(line, CALL_SECONDS, told, given)
        if output.status != 0:
            raise CallFailed.of(_fault(output, creates), f"{line[0]}: {output.words} (status {output.status})")
        return output.printed


def _fault(output: Output, creates: bool) -> Fault:
    found = next((fault for words, fault in _WORDS if words.search(output.words)), None)
    if found is not None:
        return found if creates or found != "unknown" else "transient"
    return "configuration" if creates else "transient"


def _listed(line: str, owner: str) -> Seen | None:
    job, state, started, comment = [*line.split("|", 3), "", "", ""][:4]
    mine = _COMMENT.search(comment)
    if mine is None or mine[1] != owner:
        return None
    runs = STATES.get(state, "gone")
    return Seen(job, mine[3], runs, "", mine[2], _time(started) if runs != "coming" else None)


def _remembered(job: Mapping[str, str]) -> Seen:
    mine = _COMMENT.search(job.get("Comment", ""))
    state = job.get("JobState", "")
    runs = STATES.get(state, "gone")
    exit_, message = _exit(state, job.get("ExitCode", "0:0")) if runs == "gone" else (None, "")
    return Seen(
        job.get("JobId", ""), mine[3] if mine else None, runs, "", mine[2] if mine else None,
        _time(job.get("StartTime", "")) if runs != "coming" else None,
        _time(job.get("EndTime", "")) if runs == "gone" else None, exit_, message,
    )  # fmt: skip


def _exit(state: str, code: str) -> tuple[Exit, str]:
    if state in _ENDS:
        return _ENDS[state]
    status, _, number = code.partition(":")
    if number not in ("", "0"):
        return "lost", f"It was ended by signal {number}."
    return "crash", f"It ended with status {status}."


def _time(told: str) -> float | None:
    """Seconds since 1970; Slurm writes N/A or Unknown for a time that has not come."""
    return float(told) if told.isdigit() else None
