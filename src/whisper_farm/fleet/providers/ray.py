"""Workers as jobs of an existing Ray cluster, by the Jobs REST API of its head. Ray is not imported here.

The launch id is the job's submission id, so that no launch is made twice. After any create that failed the job is
looked for. FAILED does not mean gone: when a job's supervisor is killed its worker lives on, and it is the worker's own
heartbeat that counts then. A stop of a job that waits does nothing in Ray: such a job goes on counting until it starts,
and is stopped then. The token comes from `RAY_AUTH_TOKEN`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import Field

from whisper_farm.fleet.pools import Strict, Word
from whisper_farm.fleet.providers.calls import JsonApi
from whisper_farm.fleet.providers.provider import CallFailed, Exit, Fault, Launch, Provider, Seen, SeenState

OWNER, POOL = "whisper_farm_owner", "whisper_farm_pool"
PROGRAM = ("whisper-farm", "worker")
STATES: dict[str, SeenState] = {"PENDING": "coming", "RUNNING": "running"}
_ENDS: dict[str, Exit] = {"SUCCEEDED": "ok", "STOPPED": "requested"}


class RaySettings(Strict):
    """The table `[providers.ray]`."""

    address: str = Field(pattern=r"^https?://")
    """Of the head's dashboard, such as `http://head:8265`."""
    cpus: float = Field(default=1, gt=0, le=1024)
    gpus: float = Field(default=0, ge=0, le=64)
    resources: dict[Word, float] = Field(default_factory=dict, max_length=16)


class RayProvider(Provider):
    """One Ray cluster."""

    def __init__(self, **settings: Any) -> None:
        self._told = RaySettings(**settings)
        self._api = JsonApi("Ray's head", self._told.address, os.environ.get("RAY_AUTH_TOKEN"))

    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        """Ended jobs are told of the known launches only: Ray never forgets one by itself."""
        listed = self._api.read(await self._call("GET", "/api/jobs/"), list)
        mine = [one for one in listed if one.get("submission_id") and (one.get("metadata") or {}).get(OWNER) == owner]
        seen = [_seen(one) for one in mine]
        return [one for one in seen if one.state != "gone" or one.launch_id in known]

    async def create(self, launch: Launch) -> Seen:
        told, pool = self._told, launch.pool
        body: dict[str, Any] = {
            "entrypoint": f"exec {shlex.join(pool.command or PROGRAM)}",
            "submission_id": launch.launch_id,
            "metadata": {OWNER: launch.owner, POOL: pool.name},
            "runtime_env": {"env_vars": {**launch.environment}},
            "entrypoint_num_cpus": told.cpus,
        }
        if told.gpus or pool.accelerator:
            body["entrypoint_num_gpus"] = told.gpus or 1
        resources = {**told.resources} | ({f"accelerator_type:{pool.accelerator}": 0.001} if pool.accelerator else {})
        if resources:
            body["entrypoint_resources"] = resources
        try:
            await self._call("POST", "/api/jobs/", json=body)
        except CallFailed as refused:
            if refused.fault != "unknown":
                raise
            return await self._found_again(launch.launch_id, refused)
        return Seen(launch.launch_id, launch.launch_id, "coming", "", pool.name)

    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        """The grace is the cluster's own: `RAY_JOB_STOP_WAIT_TIME_S` on its nodes."""
        if (await self._job(machine_id)).state == "coming":
            raise CallFailed.of("conflict", "Ray does not stop a job that waits; it is stopped when it runs.")
        await self._call("POST", f"{_path(machine_id)}/stop")

    async def destroy(self, machine_id: str) -> None:
        """A job that has ended is forgotten by Ray, too."""
        seen = await self._job(machine_id)
        if seen.state == "gone":
            await self._call("DELETE", _path(machine_id))
        else:
            await self.stop(machine_id, 0)

    async def close(self) -> None:
        """The jobs go on."""
        await self._api.close()

    async def _found_again(self, launch_id: str, refused: CallFailed) -> Seen:
        """The job of a create that failed, if it was made: a second submission and a head that starts are both 500."""
        try:
            return await self._job(launch_id)
        except CallFailed as missing:
            fault: Fault = "transient" if missing.fault == "missing" else "unknown"
            raise CallFailed.of(fault, refused.message) from refused

    async def _job(self, job: str) -> Seen:
        return _seen(self._api.read(await self._call("GET", _path(job)), dict))

    async def _call(self, method: str, path: str, **given: Any) -> httpx.Response:
        return await self._api.send(method, path, _refusal, **given)


def _refusal(answer: httpx.Response) -> CallFailed:
    lines = [line for line in answer.text.splitlines() if line.strip()] or [answer.reason_phrase]
    return CallFailed.of(_fault(answer.status_code), f"{lines[-1].strip()[:500]} (HTTP {answer.status_code})")


def _fault(status: int) -> Fault:
    if status in (401, 403):
        return "auth"
    if status == 404:
        return "missing"
    return "configuration" if status in (400, 405, 422) else "unknown"


def _path(machine_id: str) -> str:
    return f"/api/jobs/{quote(machine_id, safe='')}"


def _seen(job: Mapping[str, Any]) -> Seen:
    launch_id = str(job.get("submission_id"))
    state = STATES.get(str(job.get("status")), "gone")
    pool = (job.get("metadata") or {}).get(POOL)
    started, ended = _time(job.get("start_time")), _time(job.get("end_time"))
    if state == "coming":
        return Seen(launch_id, launch_id, state, "", pool)
    if state == "running":
        return Seen(launch_id, launch_id, state, "", pool, started)
    exit_, message = _exit(job)
    sure = job.get("status") in _ENDS or isinstance(job.get("driver_exit_code"), int)
    return Seen(launch_id, launch_id, state, "", pool, started, ended, exit_, message, sure)


def _exit(job: Mapping[str, Any]) -> tuple[Exit, str]:
    """How a job ended. A failure without an exit code is one of Ray's, not of the worker."""
    status, code = str(job.get("status")), job.get("driver_exit_code")
    if status in _ENDS:
        return _ENDS[status], ""
    said = " ".join(str(job.get("message") or "").split())[-300:]
    if not isinstance(code, int) or code < 0 or code > 128:
        return "lost", said
    return "crash", f"It ended with status {code}. {said}"


def _time(milliseconds: Any) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None
