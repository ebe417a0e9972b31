#!/usr/bin/env python3
"""Workers as runs of dstack, for a provider of kind `command`: one run for each machine.

FILE is yours: `type: task`, an image or commands that install `whisper-farm`, resources, `commands: [exec whisper-farm
worker]`. dstack ends the machine of a run that has ended, after the `idle_duration` of its fleet.

    dstack_machines.py create LAUNCH_ID OWNER FILE [FLAGS OF dstack apply …]
    dstack_machines.py list OWNER
    dstack_machines.py stop ID
    dstack_machines.py destroy ID
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any

from machine_commands import Refused, answer, launched, named, run, worker_settings

PROGRAM = os.environ.get("DSTACK", "dstack")
STATES = {
    "pending": "coming", "submitted": "coming", "provisioning": "coming", "running": "running",
    "terminating": "stopping", "terminated": "gone", "failed": "gone", "done": "gone",
}  # fmt: skip
EXITS = {"done": "ok", "terminated": "requested", "failed": "crash"}
TAKEN_AWAY = ("interrupted", "instance_unreachable", "failed_to_start_due_to_no_capacity")
"""Why a run may fail that is no fault of the worker."""
FAULTS = {
    "no offers": "capacity",
    "no capacity": "capacity",
    "not found": "missing",
    "unauthorized": "auth",
    "invalid token": "auth",
    "quota": "quota",
    "cannot connect": "transient",
    "validation error": "configuration",
}
RUNS = 200
MOST_LETTERS = 41


def create(launch_id: str, owner: str, file: str, *flags: str) -> dict[str, Any]:
    """Submit a run. dstack would put a second one of the same name in the place of the first."""
    name = named(launch_id, owner, MOST_LETTERS)
    if any(one["run_spec"]["run_name"] == name for one in runs()):
        raise Refused(f"The run {name} exists already.", "exists")
    settings = [f"--env={one}" for one in worker_settings()]
    run(PROGRAM, "apply", "-y", "-d", "-f", file, "--name", name, *settings, *flags)
    return {"id": name, **(launched(name, owner) or {})}


def listed(owner: str) -> list[dict[str, Any]]:
    """The runs of this farm among the newest."""
    found = [(one, launched(one["run_spec"]["run_name"], owner)) for one in runs()]
    return [described(one) | mine for one, mine in found if mine is not None]


def described(one: dict[str, Any]) -> dict[str, Any]:
    """A run, as the farm wants to know it."""
    told: dict[str, Any] = {"id": one["run_spec"]["run_name"], "state": STATES.get(one["status"], "running")}
    if told["state"] == "gone":
        why = str(one.get("termination_reason") or "")
        told |= {"exit": "lost" if why in TAKEN_AWAY else EXITS[one["status"]], "message": why}
        if one.get("last_processed_at"):
            told["ended_at"] = datetime.fromisoformat(one["last_processed_at"].replace("Z", "+00:00")).timestamp()
    return told


def runs() -> list[dict[str, Any]]:
    """The newest runs, ended ones included."""
    found: list[dict[str, Any]] = json.loads(run(PROGRAM, "ps", "--json", "--last", str(RUNS)))["runs"]
    return found


def stop(name: str) -> None:
    """Tell a run to stop: its worker gets a signal."""
    run(PROGRAM, "stop", "-y", name)


def destroy(name: str) -> None:
    """End a run at once; that it has ended already is no failure."""
    if any(one["run_spec"]["run_name"] == name and STATES.get(one["status"]) != "gone" for one in runs()):
        run(PROGRAM, "stop", "-y", "--abort", name)


if __name__ == "__main__":
    sys.exit(answer({"create": create, "list": listed, "stop": stop, "destroy": destroy}, FAULTS))
