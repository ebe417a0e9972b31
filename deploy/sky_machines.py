#!/usr/bin/env python3
"""Workers on clusters of SkyPilot, for a provider of kind `command`: one cluster for each machine.

TASK is yours: resources, a setup that installs `whisper-farm`, and `run: exec whisper-farm worker`. SkyPilot's own
ending of idle clusters stays on as a second net: it runs on the cluster, and a launch that is cut off lacks it.

    sky_machines.py create LAUNCH_ID OWNER TASK.yaml [FLAGS OF sky launch …]
    sky_machines.py list OWNER
    sky_machines.py destroy ID
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from machine_commands import Refused, answer, launched, named, run, worker_settings

PROGRAM = os.environ.get("SKY", "sky")
STATES = {"INIT": "coming", "UP": "running", "STOPPED": "stopped", "AUTOSTOPPING": "stopping"}
FAULTS = {
    "no cloud access": "auth",
    "credentials": "auth",
    "not found": "missing",
    "does not exist": "missing",
    "failed to provision": "capacity",
    "quota": "quota",
    "resourcesunavailable": "capacity",
    "invalid": "configuration",
    "no launchable resource": "configuration",
}
IDLE_MINUTES = 15
MOST_LETTERS = 63


def create(launch_id: str, owner: str, task: str, *flags: str) -> dict[str, Any]:
    """Ask for a cluster, and do not wait for it. The name of one that is there would run the task once more on it."""
    name = named(launch_id, owner, MOST_LETTERS)
    if any(one["name"] == name for one in clusters()):
        raise Refused(f"The cluster {name} exists already.", "exists")
    settings = [f"--{'secret' if one.endswith('_TOKEN') else 'env'}={one}" for one in worker_settings()]
    ending = [f"--idle-minutes-to-autostop={IDLE_MINUTES}", "--down"]
    run(PROGRAM, "launch", "-y", "-d", "--async", f"--cluster={name}", *ending, *settings, *flags, task)
    return {"id": name, **(launched(name, owner) or {})}


def listed(owner: str) -> list[dict[str, Any]]:
    """The clusters of this farm."""
    found = [(one, launched(one["name"], owner)) for one in clusters()]
    return [
        {"id": one["name"], **mine, "state": STATES.get(str(one["status"]).rpartition(".")[2], "running")}
        for one, mine in found
        if mine is not None
    ]


def clusters() -> list[dict[str, Any]]:
    """All clusters that SkyPilot knows."""
    found: list[dict[str, Any]] = json.loads(run(PROGRAM, "status", "-o", "json"))
    return found


def destroy(name: str) -> None:
    """End a cluster for good; that it is gone already is no failure."""
    if any(one["name"] == name for one in clusters()):
        run(PROGRAM, "down", "-y", name)


if __name__ == "__main__":
    sys.exit(answer({"create": create, "list": listed, "destroy": destroy}, FAULTS))
