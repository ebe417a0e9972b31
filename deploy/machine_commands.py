"""What the scripts beside this file share: they start workers elsewhere, for a provider of kind `command`.

Each script has the calls that docs/FLEET.md asks for, and prints JSON. Needs Python alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

SECONDS = 45


class Refused(Exception):
    """A call was refused, in the words of whoever did. `fault` is one of docs/FLEET.md, or found by these words."""

    def __init__(self, said: str, fault: str | None = None) -> None:
        super().__init__(said)
        self.fault = fault


def answer(calls: Mapping[str, Callable[..., Any]], faults: Mapping[str, str]) -> int:
    """Do the call that the command line names, and print its answer. `faults` knows what is said for which fault."""
    verb, *words = sys.argv[1:] or ["help"]
    if verb not in calls:
        print(f"{sys.argv[0]} {'|'.join(calls)} …", file=sys.stderr)
        return 2
    try:
        print(json.dumps(calls[verb](*words)))
    except Refused as error:
        said = str(error)
        # The last phrase that is found counts: a special one stands after the general one that comes with it.
        found = [fault for phrase, fault in faults.items() if phrase in said.lower()]
        fault = error.fault or (found[-1] if found else None)
        print(json.dumps({"error": said, **({"fault": fault} if fault else {})}))
        return 1
    return 0


def run(*line: str, given: str | None = None) -> str:
    """What a program prints; `Refused` if it fails. `given` is its standard input."""
    source: Any = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, **source)
    except OSError as error:
        raise Refused(f"{line[0]} cannot be run: {error.strerror}.", "configuration") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{line[0]} did not end within {SECONDS} s.") from error
    if done.returncode:
        raise Refused(" ".join((done.stderr or done.stdout).split())[-500:] or f"status {done.returncode}")
    return done.stdout


def worker_settings() -> dict[str, str]:
    """What the worker must find in its environment."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("WHISPER_FARM_WORKER_")}


def named(launch_id: str, owner: str, most: int) -> str:
    """A name for a launch, where names are all that can be written on a machine: the launch, and the farm's tag."""
    name = f"{launch_id}-{owner[-6:]}"
    if len(name) > most:
        raise Refused(f"The name {name} has more than {most} letters: give the pool a shorter one.", "configuration")
    return name


def launched(name: str, owner: str) -> dict[str, Any] | None:
    """The launch of a name, and its pool; None for what is not this farm's."""
    launch_id, _, tag = name.rpartition("-")
    return {"launch_id": launch_id, "pool": launch_id.rpartition("-")[0]} if tag == owner[-6:] and launch_id else None
