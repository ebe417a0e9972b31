#!/usr/bin/env python3
"""Workers as containers, for a provider of kind `command`: create, list, stop and destroy them with `docker`.

On this machine, or on another one: `DOCKER_HOST=ssh://user@box` is Docker's own way there, and `podman` takes the same
words (`CONTAINERS=podman`). Needs Python alone. What they print is what docs/FLEET.md asks for.

    docker_machines.py create LAUNCH_ID OWNER POOL IMAGE [WORDS FOR docker run …]
    docker_machines.py list OWNER
    docker_machines.py stop ID
    docker_machines.py destroy ID
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any

from machine_commands import Refused, answer, run, worker_settings

PROGRAM = os.environ.get("CONTAINERS", "docker")
OWNER, LAUNCH, POOL = "whisper-farm.owner", "whisper-farm.launch", "whisper-farm.pool"
STATES = {"created": "coming", "running": "running", "removing": "stopping", "exited": "stopped", "dead": "failed"}
FAULTS = {
    "already in use": "exists",
    "no such container": "missing",
    "no such object": "missing",
    "cannot connect to the docker daemon": "transient",
    "no space left": "capacity",
    "unable to find image": "configuration",
    "pull access denied": "auth",
    "manifest unknown": "configuration",
    "could not select device driver": "configuration",
}
"""What a refusal says, and what kind of fault that is. A daemon that is away has made nothing."""


def create(launch_id: str, owner: str, pool: str, image: str, *words: str) -> dict[str, Any]:
    """Start a worker. Its settings go through the environment: a command line is for everybody to read."""
    labels = [f"{OWNER}={owner}", f"{LAUNCH}={launch_id}", f"{POOL}={pool}"]
    flags = [*(f"--env={name}" for name in worker_settings()), *(f"--label={label}" for label in labels)]
    call("run", "--detach", f"--name={launch_id}", "--init", *flags, *words, image, "worker")
    return {"id": launch_id, "launch_id": launch_id, "pool": pool}


def listed(owner: str) -> list[dict[str, Any]]:
    """The containers of this farm, ended ones included."""
    names = call("ps", "--all", "--no-trunc", f"--filter=label={OWNER}={owner}", "--format={{.Names}}").split()
    if not names:
        return []
    try:
        return [described(one) for one in json.loads(call("inspect", "--type=container", *names))]
    except Refused as error:
        if "no such" not in str(error).lower():
            raise
        return listed(owner)  # one has gone in between


def described(one: dict[str, Any]) -> dict[str, Any]:
    """A container, as the farm wants to know it."""
    state, labels = one["State"], one["Config"]["Labels"]
    told = {
        "id": one["Name"].removeprefix("/"), "launch_id": labels[LAUNCH], "pool": labels[POOL],
        "state": STATES.get(state["Status"], "running"), "started_at": moment(state["StartedAt"]),
    }  # fmt: skip
    if told["state"] in ("stopped", "failed"):
        code = state["ExitCode"]
        told["exit"] = (
            "ok" if code == 0 else "requested" if code in (130, 137, 143) and not state["OOMKilled"] else "crash"
        )
        told["message"] = "out of memory" if state["OOMKilled"] else state.get("Error") or f"status {code}"
        told["ended_at"] = moment(state["FinishedAt"])
    return told


def moment(written: str) -> float | None:
    """Seconds since 1970; the year 1 stands for never."""
    if written.startswith("0001-"):
        return None
    whole, _, rest = written.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    return datetime.fromisoformat((whole + zone).replace("Z", "+00:00")).timestamp()


def stop(machine_id: str) -> None:
    """Tell a worker to stop, and do not wait: its grace is its own."""
    call("kill", "--signal=TERM", machine_id)


def destroy(machine_id: str) -> None:
    """End a container at once, and forget it."""
    call("rm", "--force", machine_id)


def call(*words: str) -> str:
    """What the program prints; `Refused` if it fails."""
    return run(PROGRAM, *words)


if __name__ == "__main__":
    sys.exit(answer({"create": create, "list": listed, "stop": stop, "destroy": destroy}, FAULTS))
