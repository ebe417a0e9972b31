#!/usr/bin/env python3
"""Workers on a computer that ssh reaches, for a provider of kind `command`: one provider for each computer.

There is a shell with `ps` there, and `whisper-farm` (`deploy/install worker`); ssh asks for nothing: keys, known hosts.
What is known of each worker is in `~/.whisper-farm/machines` there. Settings go through ssh's input, seen by nobody.

    ssh_machines.py create USER@HOST LAUNCH_ID OWNER POOL [THE WORKER'S COMMAND …]
    ssh_machines.py list USER@HOST OWNER
    ssh_machines.py stop USER@HOST ID
    ssh_machines.py destroy USER@HOST ID
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

from machine_commands import Refused, answer, run, worker_settings

PROGRAM = os.environ.get("SSH", "ssh")
FORGET_SECONDS = 3600
EXISTS, MISSING, NO_PROGRAM = "There is such a launch already.", "No such machine.", "It is not installed there: "
FAULTS = {
    EXISTS.lower(): "exists",
    MISSING.lower(): "missing",
    NO_PROGRAM.lower(): "configuration",
    "could not resolve hostname": "configuration",
    "permission denied": "auth",
    "host key verification failed": "auth",
    "connection refused": "transient",
    "connection timed out": "transient",
    "no route to host": "transient",
    "no space left": "capacity",
}
START = f"""
command -v "$1" >/dev/null || {{ echo "{NO_PROGRAM}$1" >&2; exit 3; }}
umask 077
mkdir -p "$HOME/.whisper-farm/machines" && cd "$HOME/.whisper-farm/machines"
mkdir "$launch" 2>/dev/null || {{ echo "{EXISTS}" >&2; exit 3; }}
cd "$launch"
printf '%s\\n%s\\n' "$owner" "$pool" >whose
nohup sh -c '
    "$@" &
    ps -o lstart= -p $! >born
    date +%s >started
    echo $! >pid
    wait $!
    echo $? >status
    date +%s >ended
' worker "$@" </dev/null >log 2>&1 &
"""
"""The worker is a child of a shell that notes how it ends. `born` tells it from a later process with its number."""
ALIVE = """
alive() {
    [ ! -s "$1/status" ] && [ -s "$1/born" ] && [ "$(ps -o lstart= -p "$(cat "$1/pid")")" = "$(cat "$1/born")" ]
}
cd "$HOME/.whisper-farm/machines" 2>/dev/null || cd /
"""
LIST = f"""{ALIVE}
now=$(date +%s)
for one in */whose; do
    [ -f "$one" ] && [ "$(head -n 1 "$one")" = "$owner" ] || continue
    one=${{one%/whose}}
    if [ -s "$one/ended" ] && [ $((now - $(cat "$one/ended"))) -gt {FORGET_SECONDS} ]; then rm -r "$one"; continue; fi
    state=gone
    if [ ! -s "$one/pid" ]; then state=coming; elif alive "$one"; then state=running; fi
    asked=
    [ ! -f "$one/asked" ] || asked=asked
    set -- "$one" "$(sed -n 2p "$one/whose")" $state
    for fact in started ended status; do set -- "$@" "$(cat "$one/$fact" 2>/dev/null)"; done
    echo "$1|$2|$3|$4|$5|$6|$asked|$(tail -n 1 "$one/log" | tr '|' ' ')"
done
"""
SIGNAL = f"""{ALIVE}
[ -d "$launch" ] && alive "$launch" || {{ echo "{MISSING}" >&2; exit 3; }}
touch "$launch/asked"
kill -s TERM "$(cat "$launch/pid")"
"""
DESTROY = f"""{ALIVE}
[ -f "$launch/whose" ] || exit 0
if alive "$launch"; then kill -s KILL "$(cat "$launch/pid")"; fi
rm -r "$launch"
"""


def create(host: str, launch_id: str, owner: str, pool: str, *command: str) -> dict[str, Any]:
    """Start a worker there; it goes on when the connection ends."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in worker_settings().items())
    line = shlex.join(command or ("whisper-farm", "worker"))
    remote(host, f"{exports}set -- {line}\n{START}", launch=launch_id, owner=owner, pool=pool)
    return {"id": launch_id, "launch_id": launch_id, "pool": pool}


def listed(host: str, owner: str) -> list[dict[str, Any]]:
    """The workers of this farm there; those that have ended for an hour more."""
    return [described(*line.split("|", 7)) for line in remote(host, LIST, owner=owner).splitlines() if "|" in line]


def described(
    launch_id: str, pool: str, state: str, started: str, ended: str, status: str, asked: str, last: str
) -> dict[str, Any]:
    """A worker, as the farm wants to know it. Without a status it ended with its computer."""
    told: dict[str, Any] = {"id": launch_id, "launch_id": launch_id, "pool": pool, "state": state}
    told |= {"started_at": float(started)} if started else {}
    if state == "gone":
        code = int(status or 137)
        told["exit"] = "ok" if code == 0 else "requested" if asked else "lost" if code > 128 else "crash"
        told["message"] = "" if code == 0 or asked else f"status {code}: {last[:300]}"
        told |= {"ended_at": float(ended)} if ended else {}
    return told


def stop(host: str, launch_id: str) -> None:
    """Tell a worker to stop, and do not wait: its grace is its own."""
    remote(host, SIGNAL, launch=launch_id)


def destroy(host: str, launch_id: str) -> None:
    """End a worker at once, and forget it."""
    remote(host, DESTROY, launch=launch_id)


def remote(host: str, script: str, **words: str) -> str:
    """What a script prints there."""
    if host.startswith("-"):
        raise Refused(f"{host} is no computer.", "configuration")
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in words.items())
    return run(PROGRAM, "-oBatchMode=yes", "-oConnectTimeout=10", host, "sh", given=given + script)


if __name__ == "__main__":
    sys.exit(answer({"create": create, "list": listed, "stop": stop, "destroy": destroy}, FAULTS))
