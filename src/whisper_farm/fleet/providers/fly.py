"""Machines of Fly.io, by its Machines API.

A launch carries its id in the machine's metadata and in its unique name: a create whose answer was lost is found again
and cannot be made twice. Nothing waits for a state: the loop looks. Machines have no services, never restart by
themselves, and destroy themselves at their end unless the pool keeps warm ones. Every refusal keeps Fly's own words.

The API's address is a setting (`address`, else `FLY_FLAPS_BASE_URL`); the token comes from `FLY_API_TOKEN`.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import Field

from whisper_farm.fleet.pools import Pool, Strict
from whisper_farm.fleet.providers.calls import JsonApi
from whisper_farm.fleet.providers.provider import CallFailed, Exit, Fault, Launch, Provider, Seen, SeenState

ADDRESS = "https://api.machines.dev"
OWNER, POOL, LAUNCH = "whisper_farm_owner", "whisper_farm_pool", "whisper_farm_launch"
PAGE = 200
MAX_PAGES = 1000
MAX_STOP_SECONDS = 300
BURST = 3
"""So many calls of one sort at once, and then one a second."""
STATES: dict[str, SeenState] = {
    "created": "coming", "creating": "coming", "starting": "coming", "replacing": "coming", "updating": "coming",
    "restarting": "running", "started": "running", "suspending": "running", "stopping": "stopping",
    "destroying": "stopping", "stopped": "stopped", "suspended": "stopped", "failed": "failed",
    "launch_failed": "failed", "destroyed": "gone", "replaced": "gone", "migrated": "gone",
}  # fmt: skip
_SIZE = re.compile(r"^(shared-cpu|performance)-(\d{1,2})x(?::(\d{3,6}))?$")
_CODES: dict[str, Fault] = {
    "insufficient_capacity": "capacity", "volume_placement_capacity": "capacity", "name_taken": "exists",
}  # fmt: skip
_NO_ROOM = re.compile(
    r"no capacity|could not reserve resource|insufficient (resources|CPUs|memory|IPs)|could not find a candidate host"
    r"|deploys to this host are temporarily disabled",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"machine limit|billing|payment|credit", re.IGNORECASE)
_STARTS = re.compile(r"still attempting to start", re.IGNORECASE)


class FlySettings(Strict):
    """The table `[providers.fly]`."""

    app: str = Field(min_length=1, max_length=63)
    address: str | None = Field(default=None, pattern=r"^https?://")


class FlyProvider(Provider):
    """One app of Fly.io."""

    def __init__(self, **settings: Any) -> None:
        told = FlySettings(**settings)
        address = told.address or os.environ.get("FLY_FLAPS_BASE_URL") or ADDRESS
        self._machines = f"/v1/apps/{quote(told.app, safe='')}/machines"
        self._token = os.environ.get("FLY_API_TOKEN", "")
        self._api = JsonApi("Fly's API", address, self._token)
        self._pace = {"create": CallRate(0.9, BURST), "list": CallRate(0.9, BURST), "get": CallRate(4.5, 10)}

    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        """A machine that the list has left out is asked for by its id. What has no id, or none any more, is asked for
        by its metadata."""
        listed = [one for one in await self._listed({f"metadata.{OWNER}": owner}) if _owner(one) in (owner, None)]
        found = {str(one["id"]): _seen(one) for one in listed}
        launches = {one.launch_id for one in found.values()}
        deleted = 0
        for launch_id, machine_id in known.items():
            if launch_id in launches or machine_id in found:
                continue
            if machine_id is not None and (one := await self._get(machine_id, launch_id)) is not None:
                found[one.machine_id] = one
            elif machine_id is None or (deleted := deleted + 1) <= BURST:
                found |= {one.machine_id: one for one in await self._launched(launch_id)}
        return list(found.values())

    async def _launched(self, launch_id: str) -> list[Seen]:
        """The machines of a launch, in every region, also if they have come and gone."""
        query = {f"metadata.{LAUNCH}": launch_id, "include_deleted": "true"}
        return [_seen(one) for one in await self._listed(query) if _metadata(one).get(LAUNCH) == launch_id]

    async def create(self, launch: Launch) -> Seen:
        await self._pace["create"].wait()
        body: dict[str, Any] = {"name": launch.launch_id, "config": config_of(launch)}
        if launch.region:
            body["region"] = launch.region
        return _seen(await self._call("POST", self._machines, "create", json=body))

    async def start(self, machine_id: str) -> None:
        """A machine that is starting already is as good as started."""
        try:
            await self._send("POST", f"{self._one(machine_id)}/start", "start")
        except CallFailed as refused:
            if not _STARTS.search(refused.message):
                raise

    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        body = {"signal": "SIGTERM", "timeout": _seconds(grace_seconds)}
        await self._send("POST", f"{self._one(machine_id)}/stop", "stop", json=body)

    async def destroy(self, machine_id: str) -> None:
        await self._send("DELETE", self._one(machine_id), "destroy", params={"force": "true"})

    async def close(self) -> None:
        """The machines go on."""
        await self._api.close()

    async def _listed(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """All pages. A page may be empty while others follow; the last one names no cursor."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            await self._pace["list"].wait()
            params = {**query, "limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            answer = await self._send("GET", self._machines, "list", params=params)
            found += self._api.read(answer, list)
            if not (cursor := answer.headers.get("fly-next-cursor")):
                return found
        raise CallFailed.of("transient", f"The list of machines does not end after {MAX_PAGES} pages.")

    async def _get(self, machine_id: str, launch_id: str) -> Seen | None:
        """One machine that the list has left out. A question without an answer proves nothing: it is out of reach."""
        await self._pace["get"].wait()
        try:
            return _seen(await self._call("GET", self._one(machine_id), "get"))
        except CallFailed as refused:
            if refused.fault == "missing":
                return None
            if refused.fault == "auth":
                raise
            return Seen(machine_id, launch_id, "unreachable")

    def _one(self, machine_id: str) -> str:
        return f"{self._machines}/{quote(machine_id, safe='')}"

    async def _call(self, method: str, path: str, call: str, **given: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._api.read(await self._send(method, path, call, **given), dict)
        return found

    async def _send(self, method: str, path: str, call: str, **given: Any) -> httpx.Response:
        if not self._token:
            raise CallFailed.of("auth", "FLY_API_TOKEN is not set: make one with `fly tokens create deploy`.")
        return await self._api.send(method, path, lambda answer: refusal(answer, call), **given)


class CallRate:
    """So many calls a second, with a burst."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._free_at = 0.0

    async def wait(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - (self._burst - 1) / self._per_second) + 1 / self._per_second
        await asyncio.sleep(max(0.0, self._free_at - 1 / self._per_second - now))


def config_of(launch: Launch) -> dict[str, Any]:
    """The machine's configuration: what the worker needs, whose it is, and that it ends for good when it ends."""
    pool = launch.pool
    if pool.image is None:
        raise CallFailed.of("configuration", f"The pool {pool.name} names no image, which Fly needs.")
    config: dict[str, Any] = {
        "image": pool.image,
        "env": {**launch.environment},
        "metadata": {OWNER: launch.owner, POOL: pool.name, LAUNCH: launch.launch_id},
        "guest": _guest(pool),
        "restart": {"policy": "no"},
        "auto_destroy": pool.warm == 0,
        "stop_config": {"signal": "SIGTERM", "timeout": _seconds(pool.grace_seconds)},
    }
    if pool.command is not None:
        config["init"] = {"cmd": [*pool.command]}
    return config


def _guest(pool: Pool) -> dict[str, Any]:
    found = _SIZE.match(pool.size or "shared-cpu-2x")
    if found is None:
        raise CallFailed.of("configuration", f"{pool.size} is no size of Fly; write performance-2x:8192.")
    kind, cpus = ("shared" if found[1] == "shared-cpu" else "performance"), int(found[2])
    memory = int(found[3]) if found[3] else cpus * (1024 if kind == "shared" else 2048)
    guest: dict[str, Any] = {"cpu_kind": kind, "cpus": cpus, "memory_mb": memory}
    if pool.accelerator is not None:
        guest |= {"gpu_kind": pool.accelerator, "gpus": 1}
    return guest


def _seconds(seconds: float) -> str:
    return f"{min(MAX_STOP_SECONDS, max(1, round(seconds)))}s"


def refusal(answer: httpx.Response, call: str) -> CallFailed:
    """What an answer that is no success means. A status word in it outranks its text."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    text = str(body.get("error") or body.get("message") or answer.text or answer.reason_phrase)[:1000]
    said = f"{text} (HTTP {answer.status_code})"
    return CallFailed.of(_fault(answer.status_code, str(body.get("status", "")), text, call), said)


def _fault(status: int, code: str, text: str, call: str) -> Fault:
    creates = call == "create"
    if status in (401, 403):
        return "auth"
    if status == 429 or "MANIFEST_UNKNOWN" in text:
        return "transient"
    if status == 408 or status >= 500:
        return "unknown" if creates else "transient"
    if code in _CODES:
        return _CODES[code]
    if _NO_ROOM.search(text):
        return "capacity"
    if "already_exists" in text:
        return "exists"
    if status == 402 or (status == 422 and _QUOTA.search(text)):
        return "quota"
    if status == 404:
        return "configuration" if call in ("create", "list") else "missing"
    if status in (409, 412):
        return "conflict"
    return "configuration"


def _metadata(machine: Mapping[str, Any]) -> dict[str, str]:
    """Its metadata. When its host is away the configuration is in another place, or nowhere."""
    config = machine.get("config") or machine.get("incomplete_config") or {}
    return config.get("metadata") or {}


def _owner(machine: Mapping[str, Any]) -> str | None:
    return _metadata(machine).get(OWNER)


def _seen(machine: Mapping[str, Any]) -> Seen:
    metadata = _metadata(machine)
    state = STATES.get(str(machine.get("state")), "coming")
    if machine.get("host_status", "ok") == "unreachable" and state != "gone":
        state = "unreachable"
    started, ended, exit_, message = _run_of(machine)
    if state not in ("stopped", "failed", "gone"):
        ended, exit_, message = None, None, ""
    return Seen(
        machine_id=str(machine["id"]),
        launch_id=metadata.get(LAUNCH) or machine.get("name"),
        state=state,
        region=str(machine.get("region", "")),
        pool=metadata.get(POOL),
        started_at=started,
        ended_at=ended,
        exit=exit_,
        message=message,
    )


def _run_of(machine: Mapping[str, Any]) -> tuple[float | None, float | None, Exit | None, str]:
    """When its last run began and ended, and how, from its events; of two at the same time the newer comes first."""
    started: float | None = None
    ended: tuple[float, Mapping[str, Any]] | None = None
    for event in sorted(machine.get("events") or [], key=lambda one: -float(one.get("timestamp") or 0)):
        at = float(event.get("timestamp", 0)) / 1000
        if event.get("type") == "exit" and ended is None and started is None:
            ended = at, (event.get("request") or {}).get("exit_event") or {}
        elif event.get("type") == "start" and event.get("status") == "started" and started is None:
            started = at
    if ended is None:
        return started, None, "lost" if started is not None else None, ""
    return (started, ended[0], *_exit(ended[1]))


def _exit(event: Mapping[str, Any]) -> tuple[Exit, str]:
    code = int(event.get("exit_code") or 0)  # Fly leaves out a zero
    if event.get("oom_killed"):
        return "crash", "It ran out of memory."
    if event.get("requested_stop"):
        return "requested", ""
    return ("ok", "") if code == 0 else ("crash", f"It ended with status {code}.")
