"""A stand-in for a container engine's command line, as docker behaves: names are unique, ended ones stay listed.

`python -m support.container_command FOLDER run|ps|stop|rm …`. State is a folder of files; containers are processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUNNER = """
import json, os, subprocess, sys, time
file, command = sys.argv[1], sys.argv[2:]
told = json.load(open(file))
child = subprocess.Popen(command)
told |= {"pid": child.pid, "state": "running", "started_at": time.time()}
def write():
    with open(file + ".part", "w") as out:
        json.dump(told, out)
    os.replace(file + ".part", file)
write()
status = child.wait()
how = "ok" if status == 0 else "requested" if status < 0 else "crash"
told |= {"state": "gone", "ended_at": time.time(), "exit": how}
write()
"""


def main(folder: Path, verb: str, *words: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "down").exists():
        print("Cannot connect to the Docker daemon. Is the docker daemon running?", file=sys.stderr)
        return 1
    if verb == "run":
        return run(folder, *words)
    if verb == "ps":
        found = [read(file) for file in sorted(folder.glob("*.json"))]
        print(json.dumps([one for one in found if one["owner"] == words[0]]))
        return 0
    file = folder / f"{words[0]}.json"
    if not file.exists():
        print(json.dumps({"error": f"No such container: {words[0]}", "fault": "missing"}))
        return 1
    if (pid := read(file).get("pid")) and read(file)["state"] == "running":
        os.kill(pid, signal.SIGTERM if verb == "stop" else signal.SIGKILL)
    return 0


def run(folder: Path, launch_id: str, owner: str, pool: str, *command: str) -> int:
    file = folder / f"{launch_id}.json"
    if file.exists():
        print(json.dumps({"error": f'The container name "{launch_id}" is already in use', "fault": "exists"}))
        return 125
    if (folder / "full").exists():
        print(json.dumps({"error": "no space left on device", "fault": "capacity"}))
        return 125
    told = {"id": launch_id, "launch_id": launch_id, "owner": owner, "pool": pool, "state": "coming"}
    file.write_text(json.dumps(told))
    with (folder / f"{launch_id}.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(file), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    print(json.dumps(told))
    return 0


def read(file: Path) -> dict[str, Any]:
    for _ in range(100):
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except ValueError:
            time.sleep(0.01)
        else:
            return found
    raise ValueError(file)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
