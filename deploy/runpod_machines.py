#!/usr/bin/env python3
"""Workers as pods of RunPod, for a provider of kind `command`, by its REST API (v2).

The key comes from RUNPOD_API_KEY. A pod whose worker has ended is terminated by the farm: RunPod would pay on, and one
that is only stopped may come back without a GPU.

    runpod_machines.py create LAUNCH_ID OWNER IMAGE GPU [DATA_CENTER] [FIELD=JSON …]
    runpod_machines.py list OWNER
    runpod_machines.py destroy ID
"""

from __future__ import annotations

import json
import os
import sys
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from machine_commands import SECONDS, Refused, answer, launched, named, worker_settings

ADDRESS = os.environ.get("RUNPOD_API", "https://api.runpod.io/v2")
STATES = {
    "PROVISIONING": "coming", "STARTING": "coming", "RUNNING": "running", "EXITED": "stopped", "ERROR": "failed",
    "TERMINATED": "gone",
}  # fmt: skip
FAULTS = {401: "auth", 402: "quota", 403: "auth", 404: "missing", 422: "configuration", 429: "transient"}
MOST_LETTERS = 190


def create(launch_id: str, owner: str, image: str, gpu: str, place: str = "", *more: str) -> dict[str, Any]:
    """Ask for a pod with one GPU. Names need not be unique there: this one is looked for first."""
    name = named(launch_id, owner, MOST_LETTERS)
    if any(one["name"] == name for one in pods()):
        raise Refused(f"The pod {name} exists already.", "exists")
    body = {"name": name, "image": image, "gpu": {"id": gpu, "count": 1}, "env": worker_settings()}
    body |= {"dataCenterIds": [place]} if place else {}
    body |= {field: json.loads(value) for field, _, value in (one.partition("=") for one in more)}
    return described(call("POST", "/pods", body), owner) or {}


def listed(owner: str) -> list[dict[str, Any]]:
    """The pods of this farm."""
    return [told for one in pods() if (told := described(one, owner)) is not None]


def described(one: dict[str, Any], owner: str) -> dict[str, Any] | None:
    """A pod, as the farm wants to know it; None for others."""
    mine = launched(one["name"], owner)
    return None if mine is None else {"id": one["id"], **mine, "state": STATES.get(one.get("status", ""), "coming")}


def pods() -> list[dict[str, Any]]:
    """All pods of the account: a list, or an object that holds one."""
    found = call("GET", "/pods")
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), [])
    return list(found)


def destroy(pod: str) -> None:
    """Terminate a pod; that it is gone already is no failure."""
    try:
        call("DELETE", f"/pods/{quote(pod, safe='')}")
    except Refused as error:
        if error.fault != "missing":
            raise


def call(method: str, path: str, body: Any = None) -> Any:
    """The answer to a request. 400 is a broken rule or no room, and does not say which: another place may have some."""
    key = os.environ.get("RUNPOD_API_KEY")
    if not key:
        raise Refused("RUNPOD_API_KEY is not set.", "auth")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = Request(ADDRESS + path, None if body is None else json.dumps(body).encode(), headers, method=method)
    creates = method == "POST"
    try:
        with urlopen(request, timeout=SECONDS) as answered:
            said = answered.read()
    except HTTPError as error:
        unsure = creates and error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
        other = "unknown" if unsure else "capacity" if creates else "transient"
        raise Refused(_words(error), FAULTS.get(error.code, other)) from error
    except (URLError, TimeoutError) as error:
        raise Refused(f"RunPod did not answer: {error}", "unknown" if creates else "transient") from error
    return json.loads(said) if said else None


def _words(error: HTTPError) -> str:
    """What a refusal says: the title and the detail of its problem document."""
    text = error.read(10_000).decode(errors="replace")
    try:
        told = json.loads(text)
        text = " ".join(str(told[name]) for name in ("title", "detail") if told.get(name)) or text
    except (ValueError, AttributeError, TypeError):
        pass
    return f"{text[:500]} (HTTP {error.code})"


if __name__ == "__main__":
    sys.exit(answer({"create": create, "list": listed, "destroy": destroy}, {}))
