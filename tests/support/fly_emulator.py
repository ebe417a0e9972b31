"""Fly's Machines API as it behaves: states with delays, empty pages, refusals in Fly's words, hosts that die.

Every machine is a real process that runs the real worker, with the environment that Fly gives. Every request and every
answer is held against the published schema, in which unknown fields are refused. What a machine costs is counted from
the moment its process starts until it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SCHEMA = json.loads((Path(__file__).parents[1] / "fleet" / "data" / "fly-machines-subset.openapi.json").read_text())
WORKER = (sys.executable, "-m", "whisper_farm", "worker")
APP, TOKEN = "farm", "fly-token"
NOT_STARTABLE = ("created", "creating", "replacing", "stopping")
DESTROYABLE = ("stopped", "suspended", "failed", "created")
GPU = "GPU machines are no longer supported: config.guest.gpu_kind and config.guest.gpus must be unset"


def check(schema: str, value: object) -> None:
    """Hold a value against one schema of the page; raises with what is wrong."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": SCHEMA["components"]}
    problems = [error.message for error in Draft202012Validator(whole).iter_errors(value)]
    assert not problems, f"{schema}: {problems}"


@dataclass
class FlyMachine:
    """One machine, and the process that it is."""

    id: str
    name: str
    region: str
    config: dict[str, Any]
    created_at: float
    state: str = "created"
    version: str = field(default_factory=lambda: secrets.token_hex(13).upper())
    events: list[dict[str, Any]] = field(default_factory=list)
    host_status: str = "ok"
    process: subprocess.Popen[bytes] | None = None
    runs: list[list[float | None]] = field(default_factory=list)
    stop_asked: bool = False
    kill_at: float | None = None
    shown_at: float = 0.0
    next_at: float = 0.0

    def seconds(self) -> float:
        """What is on the bill."""
        return sum((end or time.time()) - begin for begin, end in self.runs if begin is not None)

    def view(self) -> dict[str, Any]:
        """As the API shows it."""
        stamp = datetime.fromtimestamp(self.created_at, UTC).isoformat()
        shown = {
            "id": self.id, "name": self.name, "state": self.state, "region": self.region, "version": self.version,
            "instance_id": self.version, "private_ip": "fdaa:0:1::2", "created_at": stamp, "updated_at": stamp,
            "events": self.events[:20], "checks": [], "host_status": self.host_status,
        }  # fmt: skip
        return shown | {"config" if self.host_status == "ok" else "incomplete_config": self.config}


@dataclass
class Script:
    """One answer to be given instead of the usual one. With `happens`, what was asked is done all the same."""

    status: int
    body: dict[str, Any]
    happens: bool = False


class FlyEmulator:
    """The API and the machines behind it. Use `fly_emulator` to run it."""

    def __init__(self, log_folder: Path) -> None:
        self.log_folder = log_folder
        self.machines: dict[str, FlyMachine] = {}
        self.full: set[str] = set()
        self.regions = {"cdg", "ams", "iad"}
        self.most = 100
        self.prepare_seconds = 0.1
        self.boot_seconds = 0.1
        self.unlisted_seconds = 0.0
        self.page_size = 2
        self.empty_pages = True
        self.terse = False
        """Keep to what the schema promises and no more: no bodies where it has none, new fields, events in any order,
        and who is destroyed is found in lists of the deleted only."""
        self.stuck = False
        self.bad_image = False
        self.rates: dict[str, tuple[float, int]] = {"create": (1, 3), "list": (1, 3), "get": (5, 10)}
        self.limited = 0
        self.calls: Counter[str] = Counter()
        self.problems: list[str] = []
        self.down = False
        self.url = ""
        self._scripts: dict[str, list[Script]] = {}
        self._tokens: dict[str, tuple[float, float]] = {}
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

    def script(self, call: str, status: int, error: str, code: str | None = None, happens: bool = False) -> None:
        """Answer the next such call in this way."""
        body = {"error": error} | ({"status": code} if code else {})
        self._scripts.setdefault(call, []).append(Script(status, body, happens))

    def seconds(self) -> float:
        """All machine-seconds on the bill."""
        return sum(one.seconds() for one in self.machines.values())

    def running(self) -> int:
        """Machines that are there and not destroyed."""
        return sum(one.state != "destroyed" for one in self.machines.values())

    def processes(self) -> list[int]:
        """The processes that live."""
        return [
            one.process.pid for one in self.machines.values() if one.process is not None and one.process.poll() is None
        ]

    # what happens by itself

    def live(self) -> None:
        """Let every machine come to where it is by now."""
        with self._lock:
            for machine in list(self.machines.values()):
                self._step(machine)

    def _step(self, machine: FlyMachine) -> None:
        now = time.time()
        if machine.host_status == "unreachable":
            return
        if machine.state == "created" and now >= machine.next_at and not self.stuck:
            machine.state, machine.next_at = "starting", now + self.boot_seconds
        elif machine.state == "starting" and now >= machine.next_at:
            self._boot(machine)
        elif machine.process is not None and (code := machine.process.poll()) is not None:
            self._exited(machine, code)
        elif machine.kill_at is not None and now >= machine.kill_at and machine.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.process.pid, signal.SIGKILL)

    def _boot(self, machine: FlyMachine) -> None:
        facts = {
            "FLY_APP_NAME": APP, "FLY_MACHINE_ID": machine.id, "FLY_REGION": machine.region,
            "FLY_IMAGE_REF": machine.config["image"],
        }  # fmt: skip
        command = ["sh", "-c", "exit 7"] if self.bad_image else [*(machine.config.get("init") or {}).get("cmd", WORKER)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        with (self.log_folder / f"{machine.id}.log").open("ab") as log:
            machine.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**kept, **machine.config.get("env", {}), **facts},
            )  # fmt: skip
        machine.state = "started"
        machine.runs.append([self._event(machine, "start", "started"), None])

    def _exited(self, machine: FlyMachine, code: int) -> None:
        request: dict[str, Any] = {"requested_stop": machine.stop_asked, "restarting": False, "oom_killed": False}
        if code != 0:
            request["exit_code"] = code if code > 0 else 128 - code
        machine.process, machine.kill_at = None, None
        machine.runs[-1][1] = self._event(machine, "exit", "stopped", {"exit_event": request})
        machine.state = "stopped"
        if machine.config.get("auto_destroy") or machine.state == "destroying":
            self._destroyed(machine)

    def _destroyed(self, machine: FlyMachine) -> None:
        machine.state = "destroyed"
        self._event(machine, "destroy", "destroyed")

    def _event(self, machine: FlyMachine, kind: str, status: str, request: dict[str, Any] | None = None) -> float:
        at = round(time.time(), 3)
        event = {
            "id": f"e{next(self._numbers)}", "type": kind, "status": status, "source": "flyd",
            "timestamp": round(at * 1000), "request": request or {},
        }  # fmt: skip
        machine.events.insert(0, event)
        return at

    def kill_host(self, machine: FlyMachine) -> None:
        """Its host dies: the process is gone, the API goes on showing the machine, and cannot reach it."""
        with self._lock:
            if machine.process is not None:
                os.killpg(machine.process.pid, signal.SIGKILL)
                machine.process.wait(20)
                machine.process = None
                machine.runs[-1][1] = round(time.time(), 3)
            machine.host_status = "unreachable"

    def end_all(self) -> None:
        for machine in self.machines.values():
            if machine.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(machine.process.pid, signal.SIGKILL)
                machine.process.wait(20)

    # the API

    def app(self) -> Starlette:
        machines = f"/v1/apps/{APP}/machines"
        return Starlette(
            routes=[
                Route(machines, self._answer("list", self._list), methods=["GET"]),
                Route(machines, self._answer("create", self._create), methods=["POST"]),
                Route(machines + "/{id}", self._answer("get", self._get), methods=["GET"]),
                Route(machines + "/{id}", self._answer("destroy", self._destroy), methods=["DELETE"]),
                Route(machines + "/{id}/start", self._answer("start", self._start), methods=["POST"]),
                Route(machines + "/{id}/stop", self._answer("stop", self._stop), methods=["POST"]),
                Route(machines + "/{id}/wait", self._answer("wait", self._wait), methods=["GET"]),
            ]
        )

    def _answer(self, call: str, work: Callable[[Request, Any], Response]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            raw = await request.body()
            return await asyncio.to_thread(self._answered, call, work, request, raw)

        return answer

    def _answered(self, call: str, work: Callable[[Request, Any], Response], request: Request, raw: bytes) -> Response:
        self.calls[call] += 1
        if self.down:
            return error(503, "upstream connect error")
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return error(401, "Authenticate: token validation error")
        if not self._allowed(call, request.path_params.get("id", "app")):
            self.limited += 1
            return error(429, "rate limit exceeded")
        scripted = self._scripts.get(call) or []
        script = scripted.pop(0) if scripted else None
        if script is not None and not script.happens:
            check("ErrorResponse", script.body)
            return JSONResponse(script.body, script.status)
        body = json.loads(raw) if raw else None
        try:
            self._check_query(call, request)
            with self._lock:
                self.live()
                done = work(request, body)
        except AssertionError as problem:
            self.problems.append(str(problem))
            return error(400, f"invalid request: {problem}")
        return done if script is None else JSONResponse(script.body, script.status)

    def _allowed(self, call: str, who: str) -> bool:
        """So many calls a second of one kind for one machine or app, with a burst."""
        if not self.rates:
            return True
        rate, burst = self.rates.get(call, (1, 3))
        now = time.monotonic()
        left, then = self._tokens.get(f"{call} {who}", (float(burst), now))
        left = min(float(burst), left + (now - then) * rate)
        self._tokens[f"{call} {who}"] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    def _check_query(self, call: str, request: Request) -> None:
        path = {"list": "/machines", "create": "/machines", "get": "/{machine_id}", "destroy": "/{machine_id}"}
        ending = path.get(call, f"/{call}")
        method = {"list": "get", "create": "post", "get": "get", "destroy": "delete", "wait": "get"}.get(call, "post")
        described = next(one for name, one in SCHEMA["paths"].items() if name.endswith(ending))[method]
        known = {one["name"] for one in described["parameters"] if one["in"] == "query"}
        for name in request.query_params:
            assert name in known or (name.startswith("metadata.") and "metadata.{key}" in known), f"query {name}"

    def _list(self, request: Request, body: Any) -> Response:
        query = request.query_params
        wanted = {
            name.removeprefix("metadata."): value for name, value in query.items() if name.startswith("metadata.")
        }
        now = time.time()
        found = [
            one
            for one in self.machines.values()
            if (query.get("include_deleted") == "true" or one.state != "destroyed")
            and now >= one.shown_at
            and all(one.config.get("metadata", {}).get(name) == value for name, value in wanted.items())
        ]
        first = int(query.get("cursor", "0").split("-")[0])
        empty = self.empty_pages and not query.get("cursor", "x-x").endswith("e")
        page = [] if empty else found[first : first + self.page_size]
        following = first if empty else first + self.page_size
        headers = {}
        if empty or following < len(found):
            headers["fly-next-cursor"] = f"{following}-{'e' if empty else 'n'}"
        views = [one.view() for one in page]
        for view in views:
            check("Machine", view)
        return JSONResponse([self._extended(view) for view in views], headers=headers)

    def _extended(self, view: dict[str, Any]) -> dict[str, Any]:
        """A machine with fields that nobody knows yet."""
        if not self.terse:
            return view
        events = [event | {"new": {"deep": 1}} for event in reversed(view["events"])]
        return view | {"events": events, "new": ["field"], "updated_at": None}

    def _done(self, told: dict[str, Any]) -> Response:
        """The answer to a call for which the schema describes none."""
        return Response() if self.terse else JSONResponse(told)

    def _create(self, request: Request, body: Any) -> Response:
        check("CreateMachineRequest", body)
        config = body["config"]
        guest = config.get("guest", {})
        regions = [one for one in body.get("region", "iad").split(",") if one]
        if guest.get("gpu_kind") or guest.get("gpus"):
            return error(400, GPU)
        if unknown := [one for one in regions if one not in self.regions]:
            return error(400, f"target region {unknown[0]} not found")
        if self.running() >= self.most:
            return error(422, "Your organization has reached its machine limit. Please contact billing@fly.io")
        region = next((one for one in regions if one not in self.full), None)
        if region is None:
            return error(422, "could not find a candidate host", "insufficient_capacity")
        name = body.get("name") or secrets.token_hex(4)
        if any(one.name == name and one.state != "destroyed" for one in self.machines.values()):
            return error(409, "already_exists: unique machine name violation, machine ID x already exists")
        now = time.time()
        machine = FlyMachine(
            secrets.token_hex(7), name, region, config, now, next_at=now + self.prepare_seconds,
            shown_at=now + self.unlisted_seconds,
        )  # fmt: skip
        self._event(machine, "launch", "created")
        self.machines[machine.id] = machine
        check("Machine", machine.view())
        return JSONResponse(self._extended(machine.view()))

    def _find(self, request: Request) -> FlyMachine | None:
        return self.machines.get(request.path_params["id"])

    def _get(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None or (self.terse and machine.state == "destroyed"):
            return error(404, "machine not found")
        check("Machine", machine.view())
        return JSONResponse(self._extended(machine.view()))

    def _start(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None or machine.state == "destroyed":
            return error(404, "machine not found")
        if machine.state in ("starting", "started"):
            return error(409, "aborted: machine still attempting to start")
        if machine.state in NOT_STARTABLE:
            text = f"failed_precondition: unable to start machine from current state: '{machine.state}'"
            return error(412, text)
        machine.state, machine.next_at, machine.stop_asked = "starting", time.time() + self.boot_seconds, False
        return self._done({"previous_state": "stopped", "migrated": False, "new_host": ""})

    def _stop(self, request: Request, body: Any) -> Response:
        if body is not None:
            check("StopRequest", body)
        machine = self._find(request)
        if machine is None or machine.state == "destroyed":
            return error(404, "machine not found")
        if machine.process is not None:
            machine.state, machine.stop_asked = "stopping", True
            timeout = re.match(r"(\d+)s$", (body or {}).get("timeout", "5s"))
            assert timeout is not None
            machine.kill_at = time.time() + int(timeout[1])
            machine.process.send_signal(getattr(signal, (body or {}).get("signal", "SIGINT")))
        return self._done({"ok": True})

    def _destroy(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None or machine.state == "destroyed":
            return error(404, "machine not found")
        if machine.host_status == "unreachable":
            return error(408, "deadline_exceeded: host is unreachable")
        if request.query_params.get("force") != "true" and machine.state not in DESTROYABLE:
            text = "failed_precondition: unable to destroy machine, not currently stopped, suspended, failed or created"
            return error(412, text)
        if machine.process is not None:
            machine.stop_asked = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.process.pid, signal.SIGKILL)
            self._exited(machine, machine.process.wait(20))
        if machine.state != "destroyed":
            self._destroyed(machine)
        return self._done({"ok": True})

    def _wait(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None:
            return error(404, "machine not found")
        state, seconds = request.query_params.get("state", "started"), int(request.query_params.get("timeout", "60"))
        give_up_at = time.time() + min(60, max(1, seconds))
        while time.time() < give_up_at:
            self._step(machine)
            if machine.state == state:
                return JSONResponse({"ok": True, "state": state, "version": machine.version})
            time.sleep(0.05)
        text = f"deadline_exceeded: machine failed to reach desired state, {state}, currently {machine.state}"
        return error(408, text)


def error(status: int, text: str, code: str | None = None) -> Response:
    """A refusal as Fly words it."""
    body = {"error": text} | ({"status": code} if code else {})
    check("ErrorResponse", body)
    return JSONResponse(body, status)


@contextmanager
def fly_emulator(folder: Path) -> Iterator[FlyEmulator]:
    """Runs the API on a port of its own; every machine is gone at the end, and no message broke the schema."""
    folder.mkdir(parents=True, exist_ok=True)
    emulator = FlyEmulator(folder)
    server = uvicorn.Server(uvicorn.Config(emulator.app(), port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, name="fly")
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.05):
            emulator.live()

    ticking = threading.Thread(target=live, name="fly-machines")
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        emulator.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        ticking.start()
        yield emulator
    finally:
        over.set()
        if ticking.is_alive():
            ticking.join(20)
        server.should_exit = True
        thread.join(20)
        emulator.end_all()
    assert emulator.problems == []
