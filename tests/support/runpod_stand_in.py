"""A stand-in for RunPod's REST API (v2): pods are made, listed and terminated; names need not be unique.

A pod is a process of this machine that gets the pod's environment. `refuse` is how the next creates are answered.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

KEY = "rpa_key"
FIELDS = {"name", "image", "gpu", "cloud", "env", "dataCenterIds", "disk", "args"}


class RunPod(BaseHTTPRequestHandler):
    """One account; `pods` holds each pod and its process."""

    pods: ClassVar[dict[str, tuple[dict[str, Any], subprocess.Popen[bytes]]]]
    refuse: ClassVar[tuple[int, str] | None]

    def do_GET(self) -> None:
        if self.allowed() and self.path == "/v2/pods":
            self.answer(200, [self.shown(pod) for pod in self.pods])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        if self.refuse is not None or set(body) - FIELDS or not body.get("image"):
            self.problem(*(self.refuse or (422, "unknown field")))
            return
        process = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], **body["env"]})
        pod = f"pod{len(self.pods) + 1}"
        self.pods[pod] = (body, process)
        self.answer(201, self.shown(pod))

    def do_DELETE(self) -> None:
        pod = self.path.rpartition("/")[2]
        if not self.allowed():
            return
        if pod not in self.pods:
            self.problem(404, "pod not found")
            return
        _, process = self.pods.pop(pod)
        process.kill()
        process.wait(20)
        self.answer(204, None)

    def shown(self, pod: str) -> dict[str, Any]:
        body, process = self.pods[pod]
        status = "RUNNING" if process.poll() is None else "EXITED"
        return {"id": pod, "name": body["name"], "image": body["image"], "status": status, "costPerHr": 0.5}

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self.problem(401, "invalid API key")
        return False

    def problem(self, status: int, detail: str) -> None:
        self.answer(status, {"type": "about:blank", "title": "Refused", "status": status, "detail": detail})

    def answer(self, status: int, body: Any) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def runpod() -> Iterator[tuple[str, type[RunPod]]]:
    """Its address, and the account behind it."""
    account: type[RunPod] = type("Account", (RunPod,), {"pods": {}, "refuse": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), account)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v2", account
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for _, process in account.pods.values():
            process.kill()
            process.wait(20)
