"""Stand-ins for `ssh`, `sky` and `dstack`, as far as the scripts in deploy/ use them; unknown flags are refused.

`python -m support.cloud_stand_ins NAME …`. Machines are processes, their state a folder of files (`CLOUD_FOLDER`). A
file `full` there means no room, a file `down` nobody answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.container_command import RUNNER, main, read

PROGRAM = os.environ.get("CLOUD_PROGRAM", '["sleep", "60"]')


def ssh(folder: Path, *words: str) -> int:
    """The remote command is run by a shell, in a home of its own."""
    assert words[:2] == ("-oBatchMode=yes", "-oConnectTimeout=10")
    host, *line = words[2:]
    if (folder / "down").exists():
        return refuse(f"ssh: connect to host {host} port 22: Connection refused", 255)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TMPDIR") if name in os.environ}
    return subprocess.run(["sh", "-c", " ".join(line)], env={**kept, "HOME": str(folder)}, check=False).returncode


def sky(folder: Path, verb: str, *words: str) -> int:
    if verb == "status":
        assert words == ("-o", "json")
        print(json.dumps([{"name": one["id"], "status": _of(one, "INIT", "UP", "UP")} for one in machines(folder)]))
        return 0
    if verb == "down":
        assert words[0] == "-y"
        if not there(folder, words[1]):
            return refuse(f"Cluster(s) not found: {words[1]}.", 1)
        return remove(folder, words[1])
    assert verb == "launch"
    flags = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.startswith("--")}
    assert flags.keys() <= {"--async", "--cluster", "--idle-minutes-to-autostop", "--down", "--env", "--secret"}
    assert words[:2] == ("-y", "-d"), "it would ask, or wait for the run"
    assert "--async" in flags, "it would wait for the cluster"
    if not Path(words[-1]).exists():
        return refuse(f"Invalid value: task file {words[-1]}", 2)
    if there(folder, flags["--cluster"]):
        raise AssertionError("the task would run once more on the cluster that is there")
    return start(
        folder, flags["--cluster"], [word.partition("=")[2] for word in words if word[:5] in ("--env", "--sec")]
    )


def dstack(folder: Path, verb: str, *words: str) -> int:
    if verb == "ps":
        assert words[:2] == ("--json", "--last")
        print(json.dumps({"project": "main", "runs": [_run(one) for one in machines(folder)]}))
        return 0
    if verb == "stop":
        name = words[-1]
        assert words[0] == "-y"
        if not (folder / f"{name}.json").exists():
            return refuse(f"Run {name} not found", 1)
        return main(folder, "rm" if "--abort" in words else "stop", name)
    assert verb == "apply"
    assert words[:3] == ("-y", "-d", "-f"), "it would ask, or attach"
    if (folder / "full").exists():
        return refuse("No offers found", 1)
    if (folder / f"{words[5]}.json").exists():
        raise AssertionError("the run that is there would be replaced")
    return start(folder, words[5], [word.removeprefix("--env=") for word in words if word.startswith("--env=")])


def _run(one: dict[str, Any]) -> dict[str, Any]:
    ended = {"ok": "done", "requested": "terminated", "crash": "failed"}.get(one.get("exit", ""), "failed")
    at = datetime.fromtimestamp(one.get("ended_at") or 0, UTC).isoformat()
    state, why = (
        _of(one, "provisioning", "running", ended),
        "container_exited_with_error" if ended == "failed" else None,
    )
    return {"run_spec": {"run_name": one["id"]}, "status": state, "termination_reason": why, "last_processed_at": at}


def _of(one: dict[str, Any], coming: str, running: str, gone: str) -> str:
    return {"coming": coming, "running": running}.get(one["state"], gone)


def machines(folder: Path) -> list[dict[str, Any]]:
    return [read(file) for file in sorted(folder.glob("*.json")) if there(folder, file.stem)]


def there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").exists() and not (folder / f"{name}.removed").exists()


def remove(folder: Path, name: str) -> int:
    main(folder, "rm", name)
    (folder / f"{name}.removed").touch()
    return 0


def start(folder: Path, name: str, passed: list[str]) -> int:
    """A process with what was passed to it, and nothing else of the farm's settings."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"id": name, "state": "coming"}))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WHISPER_FARM_WORKER_")}
    with (folder / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(file), *json.loads(PROGRAM)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True, env=kept | {key: os.environ[key] for key in passed},
        )  # fmt: skip
    return 0


def refuse(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status


if __name__ == "__main__":
    where = Path(os.environ["CLOUD_FOLDER"])
    where.mkdir(parents=True, exist_ok=True)
    sys.exit({"ssh": ssh, "sky": sky, "dstack": dstack}[sys.argv[1]](where, *sys.argv[2:]))
