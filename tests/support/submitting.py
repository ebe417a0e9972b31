"""How the tests submit a recording over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

AUDIO = b"RIFF" + bytes(range(256)) * 40


def submit(client: httpx.Client, name: str = "talk.mp3", audio: bytes = AUDIO, **given: Any) -> dict[str, Any]:
    """Upload a recording and submit it, recognised by the tones engine."""
    announced = client.post("/api/uploads", json={"name": name, "size": len(audio)})
    assert announced.status_code == 201, announced.text
    target = announced.json()
    transfer = target["transfer"]
    send = httpx.request if transfer["url"].startswith("http") else client.request
    sent = send(transfer["method"], transfer["url"], content=audio, headers=transfer["headers"])
    assert sent.is_success, sent.text
    options = {"engine": "tones", "model": "instant", **given.pop("options", {})}
    body = {"name": name, "upload_id": target["upload_id"], "options": options, **given}
    answer = client.post("/api/transcriptions", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
