"""A worker driven by hand: it speaks the HTTP protocol call by call, and recognises what the test tells it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from whisper_farm.protocol.jobs import ChunkResult, Result, TranscribeResult
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.protocol.worker import Completion
from whisper_farm.transcript.transcript import Segment, Word

SOUND = b"sound of chunk "
PATIENCE_SECONDS = 60.0
Json = dict[str, Any]


class HandWorker:
    """One worker. Every method is one call; `ask` gives the raw answer, the others want success."""

    def __init__(self, url: str, token: str, worker_id: str = "w-1", models: Sequence[str] | None = None) -> None:
        self.worker_id = worker_id
        self.models = models
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", PROTOCOL_HEADER: str(PROTOCOL_VERSION)},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
            verify=False,
        )

    def close(self) -> None:
        self.http.close()

    def ask(self, call: str, **body: Any) -> httpx.Response:
        """Any call of the worker API."""
        return self.http.post(f"/api/work/{call}", json={"worker_id": self.worker_id, **body})

    def told(self, call: str, **body: Any) -> Json:
        answer = self.ask(call, **body)
        assert answer.status_code == 200, answer.text
        json: Json = answer.json()
        return json

    def register(self, label: str = "") -> Json:
        return self.told("register", **self.registration(), label=label)

    def registration(self) -> Json:
        offer = {"engine": "tones", "version": "1", "models": self.models, "device": "cpu", "batch": 4}
        return {"name": self.worker_id, "version": "0", "platform": "test", "slots": 2, "engines": [offer]}

    def claim(self, transcribe: int = 1, chunk: int = 0, wait: float = 0, request_id: str | None = None) -> list[Json]:
        claims: list[Json] = self.told("claim", **self.claim_body(transcribe, chunk, wait, request_id))["claims"]
        return claims

    def claim_body(
        self, transcribe: int = 1, chunk: int = 0, wait: float = 0, request_id: str | None = None
    ) -> dict[str, Any]:
        return {
            "worker_id": self.worker_id,
            "request_id": request_id or secrets.token_hex(8),
            "jobs": {"chunk": chunk, "transcribe": transcribe},
            "wait_seconds": wait,
        }

    def upload(self, claim: Json, position: int, sound: bytes | None = None) -> Json:
        """Upload the sound of one chunk; returns it as `append` wants it, 10 seconds long."""
        data = SOUND + str(position).encode() if sound is None else sound
        answer = self.told("uploads", token=claim["token"], positions=[position])["uploads"][0]
        put = self.transfer(answer["transfer"], data)
        assert put.is_success, put.text
        return {
            "position": position,
            "start_seconds": position * 10.0,
            "end_seconds": position * 10.0 + 10,
            "speech_seconds": 8.0,
            "key": answer["key"],
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    def transfer(self, transfer: Json, content: bytes | None = None, **headers: str) -> httpx.Response:
        """Do what a transfer says, as a worker does: relative ones with our token, others without."""
        all_headers = {**transfer["headers"], **headers}
        if transfer["url"].startswith("http"):
            return httpx.request(
                transfer["method"], transfer["url"], content=content, headers=all_headers, timeout=PATIENCE_SECONDS
            )
        return self.http.request(transfer["method"], transfer["url"], content=content, headers=all_headers)

    def cut(self, claim: Json, chunks: int, first: int = 0) -> None:
        """Upload and append `chunks` chunks of ten seconds."""
        new = [self.upload(claim, position) for position in range(first, first + chunks)]
        if new:
            self.told("append", token=claim["token"], chunks=new, duration_seconds=None)

    def begin(self, chunks: int) -> Json:
        """Claim a recording and cut so many chunks of it; returns the claim, which goes on."""
        (claim,) = self.claim(0, chunk=1)
        self.cut(claim, chunks)
        return claim

    def cut_whole(self, chunks: int) -> None:
        """Cut a recording to its end."""
        self.complete([self.cut_done(self.begin(chunks), chunks)])

    def cut_done(self, claim: Json, chunks: int) -> Json:
        """End a chunk job."""
        return self.completion(claim, ChunkResult(duration_seconds=chunks * 10.0, chunks=chunks))

    def heard(self, claim: Json, text: str | None = None, **facts: Any) -> TranscribeResult:
        """A result for a claim: one segment that says `text`, by default its position."""
        task = claim["task"]
        start = task["start_seconds"] + 1
        said = f" word{claim['position']}" if text is None else text
        segment = Segment(start, start + 2, said, (Word(start, start + 1, said, 0.9),))
        values = {
            "segments": (segment,),
            "language": "en",
            "engine": "tones",
            "engine_version": "1",
            "model": task["options"]["model"],
            "revision": "1",
            "device": "cpu",
            "compute_type": "int8",
            "work_seconds": 0.5,
        }
        return TranscribeResult.model_validate(values | facts)

    def completion(self, claim: Json, result: Result) -> Json:
        return Completion.of(claim["token"], result).model_dump(mode="json")

    def finish(self, *claims: Json, text: str | None = None, **facts: Any) -> list[Json]:
        """Complete claims of chunks."""
        completions = [self.completion(claim, self.heard(claim, text, **facts)) for claim in claims]
        return self.complete(completions)

    def complete(self, completions: Sequence[Json], claim: Json | None = None) -> list[Json]:
        outcomes: list[Json] = self.told("complete", completions=list(completions), claim=claim)["outcomes"]
        return outcomes

    def work_off(self, chunks: int = 3) -> None:
        """Do everything there is: cut each recording into `chunks` chunks and recognise them."""
        while claims := self.claim(transcribe=4, chunk=1):
            for one in claims:
                if one["task"]["kind"] == "chunk":
                    self.cut(one, chunks)
                    self.complete([self.cut_done(one, chunks)])
                else:
                    assert self.finish(one)[0]["error_code"] is None


MakeWorker = Callable[..., HandWorker]
"""The fixture `make_worker`: of a farm, by its name and token."""
