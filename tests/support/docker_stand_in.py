"""A stand-in for `docker`: run, ps, inspect, kill and rm, as far as deploy/docker_machines.py uses them.

Names are unique, flags it does not know are refused, ended containers stay, `--init` and `--env=NAME` mean what they
mean there. A container is a process of this package's worker; state is a folder of files (`CONTAINERS_FOLDER`).
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

NEVER = "0001-01-01T00:00:00Z"


def docker(folder: Path, verb: str, *words: str) -> int:
    flags = [word.removeprefix("--") for word in words if word.startswith("--")]
    rest = [word for word in words if not word.startswith("--")]
    folder.mkdir(parents=True, exist_ok=True)
    match verb:
        case "run":
            return run(folder, flags, rest)
        case "ps":
            (owner,) = [flag.split("=")[-1] for flag in flags if flag.startswith("filter=label=whisper-farm.owner=")]
            assert {"all", "no-trunc", "format={{.Names}}"} <= set(flags)
            for file in sorted(folder.glob("*.json")):
                if there(folder, file.stem) and read(file)["owner"] == owner:
                    print(file.stem)
            return 0
        case "inspect":
            if gone := [name for name in rest if not there(folder, name)]:
                return refuse(f"Error response from daemon: No such container: {gone[0]}", 1)
            print(json.dumps([inspected(read(folder / f"{name}.json")) for name in rest]))
            return 0
        case "kill" | "rm":
            (name,) = rest
            if not there(folder, name):
                # As docker does it: a forced removal of what is not there is no failure.
                return 0 if verb == "rm" else refuse(f"Error response from daemon: No such container: {name}", 1)
            status = main(folder, "stop" if verb == "kill" else "rm", name)
            if verb == "rm":
                (folder / f"{name}.removed").touch()
            return status
    return refuse(f"docker: '{verb}' is not a docker command.", 1)


def there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").exists() and not (folder / f"{name}.removed").exists()


def refuse(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status


def run(folder: Path, flags: list[str], rest: list[str]) -> int:
    told = dict(flag.split("=", 1) for flag in flags if "=" in flag and not flag.startswith(("label=", "env=")))
    labels = dict(flag.removeprefix("label=").split("=", 1) for flag in flags if flag.startswith("label="))
    assert {flag for flag in flags if "=" not in flag} == {"detach", "init"}
    assert rest[1:] == ["worker"]
    name, file = told["name"], folder / f"{told['name']}.json"
    if rest[0] == "nobody/nothing":
        return refuse(
            "Unable to find image 'nobody/nothing:latest' locally docker: Error response from daemon: "
            "pull access denied for nobody/nothing, repository does not exist",
            125,
        )
    if there(folder, name):
        return refuse(
            f'docker: Error response from daemon: Conflict. The container name "/{name}" is already in use', 125
        )
    file.write_text(
        json.dumps({"id": name, "owner": labels["whisper-farm.owner"], "labels": labels, "state": "created"})
    )
    passed = [flag.removeprefix("env=") for flag in flags if flag.startswith("env=")]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WHISPER_FARM_WORKER_")}
    with (folder / f"{name}.log").open("ab") as log:
        command = [sys.executable, "-m", "whisper_farm", "worker"]
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(file), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, env=kept | {key: os.environ[key] for key in passed},
        )  # fmt: skip
    print("4c01db0b339c" + name)
    return 0


def inspected(told: dict[str, Any]) -> dict[str, Any]:
    code = {"ok": 0, "requested": 143, "crash": 1}.get(told.get("exit", ""), 0)
    state = {
        "Status": "exited" if told["state"] == "gone" else told["state"], "ExitCode": code, "OOMKilled": False,
        "Error": "", "StartedAt": written(told.get("started_at")), "FinishedAt": written(told.get("ended_at")),
    }  # fmt: skip
    return {"Name": f"/{told['id']}", "State": state, "Config": {"Labels": told["labels"]}}


def written(moment: float | None) -> str:
    """A moment as docker writes it, with nine digits after the point."""
    return NEVER if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


if __name__ == "__main__":
    sys.exit(docker(Path(os.environ["CONTAINERS_FOLDER"]), *sys.argv[1:]))
