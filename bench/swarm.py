"""Hundreds of workers in one process: they speak the real worker protocol and sleep instead of recognising.

One event loop and aiohttp (which, unlike httpx, is not itself the limit). Each worker claims one chunk at a time,
fetches its audio, sleeps for the audio's length over `speed`, and completes it while claiming the next. It cuts
nothing: a real worker has to do that.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from whisper_farm import __version__
from whisper_farm.protocol.jobs import TranscribeResult
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from whisper_farm.protocol.worker import (
    EngineOffer,
    HeartbeatAnswer,
    HeartbeatRequest,
    RegisterAnswer,
    RegisterRequest,
    digest_of,
)
from whisper_farm.transcript.transcript import Segment

Json = dict[str, Any]


@dataclass(slots=True)
class Swarm:
    """`workers` sleeping workers; the coordinators in `servers` are shared among them in turn."""

    servers: list[str]
    token: str
    workers: int
    model: str
    speed: float
    """Audio-seconds a second; 0 means no sleep at all."""
    batch: int = 1
    fetch: bool = True
    claim_seconds: list[tuple[float, float]] = field(default_factory=list)
    """When each call began that completed and claimed, and how long it took."""
    errors: list[str] = field(default_factory=list)
    jobs_done: int = 0
    until_jobs: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `until_jobs` are done."""

    async def run(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        """Work until `stop`; `ready` is set when every worker is registered."""
        headers = {"Authorization": f"Bearer {self.token}", PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=90)
        async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
            one = [
                _Worker(self, session, server) for server, _ in zip(itertools.cycle(self.servers), range(self.workers))
            ]
            for worker in one:
                await worker.register()
            ready.set()
            tasks = [asyncio.create_task(worker.run()) for worker in one]
            await stop.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _example(model: str) -> Json:
    """A result as it is sent, to be filled in."""
    segment = Segment(start=0, end=1, text="")
    result = TranscribeResult(
        segments=(segment,), language="en", engine="tones", engine_version="1", model=model, revision="1",
        device="cpu", compute_type="none", work_seconds=0,
    )  # fmt: skip
    filled: Json = json.loads(result.model_dump_json())
    return filled


class _Worker:
    def __init__(self, swarm: Swarm, session: aiohttp.ClientSession, server: str) -> None:
        self.swarm, self.session, self.server = swarm, session, server
        self.id = f"sleeper-{secrets.token_hex(8)}"
        self.held: set[str] = set()
        self.heartbeat_seconds = 5.0
        self.example = _example(swarm.model)

    async def call(self, path: str, body: str) -> bytes:
        headers = {"Content-Type": "application/json"}
        async with self.session.post(f"{self.server}/api/work/{path}", data=body, headers=headers) as answer:
            content = await answer.read()
            if answer.status != 200:
                self.swarm.errors.append(f"{path}: {answer.status} {content[:200]!r}")
                raise RuntimeError(self.swarm.errors[-1])
            return content

    async def register(self) -> None:
        offer = EngineOffer(
            engine="tones", version="1", models=(self.swarm.model,), loaded=(self.swarm.model,), device="cpu",
            batch=self.swarm.batch,
        )  # fmt: skip
        request = RegisterRequest(
            worker_id=self.id,
            name=self.id,
            version=__version__,
            platform="bench",
            slots=1,
            engines=(offer,),
            cuts=False,
        )
        answer = await self.call("register", request.model_dump_json())
        self.heartbeat_seconds = RegisterAnswer.model_validate_json(answer).heartbeat_seconds

    def wish(self) -> Json:
        return {
            "worker_id": self.id, "request_id": secrets.token_hex(12), "jobs": {"transcribe": self.swarm.batch},
            "wait_seconds": 20,
        }  # fmt: skip

    async def run(self) -> None:
        beating = asyncio.create_task(self.beat())
        try:
            claims: list[Json] = []
            while True:
                if not claims:
                    claims = json.loads(await self.call("claim", json.dumps(self.wish())))["claims"]
                    continue
                claims = await self.work(claims)
        finally:
            beating.cancel()

    async def work(self, claims: list[Json]) -> list[Json]:
        self.held = {claim["token"] for claim in claims}
        seconds = 0.0
        for claim in claims:
            seconds += claim["task"]["end_seconds"] - claim["task"]["start_seconds"]
            if self.swarm.fetch:
                await self.fetch(claim["task"]["transfer"])
        if self.swarm.speed:
            await asyncio.sleep(seconds / self.swarm.speed)
        request = {"worker_id": self.id, "completions": [*map(self.result, claims)], "claim": self.wish()}
        started = time.perf_counter()
        more: list[Json] = json.loads(await self.call("complete", json.dumps(request)))["claims"]
        if more:
            self.swarm.claim_seconds.append((started, time.perf_counter() - started))
        self.swarm.jobs_done += len(claims)
        if self.swarm.jobs_done >= self.swarm.until_jobs > 0:
            self.swarm.enough.set()
        return more

    async def fetch(self, transfer: Json) -> None:
        url = transfer["url"] if "://" in transfer["url"] else self.server + transfer["url"]
        async with self.session.get(url, headers=transfer["headers"]) as answer:
            await answer.read()

    def result(self, claim: Json) -> Json:
        """As `Completion.of` makes it, without the time they take."""
        task = claim["task"]
        start, end = task["start_seconds"], task["end_seconds"]
        segment = self.example["segments"][0] | {"start": start, "end": end, "text": f" chunk {claim['position']}"}
        result = self.example | {"segments": [segment]}
        text = json.dumps(result, separators=(",", ":"))
        return {"token": claim["token"], "kind": "transcribe", "digest": digest_of(text.encode()), "result": text}

    async def beat(self) -> None:
        await asyncio.sleep(self.heartbeat_seconds * random.random())
        while True:
            request = HeartbeatRequest(worker_id=self.id, tokens=tuple(self.held))
            answer = await self.call("heartbeat", request.model_dump_json())
            self.heartbeat_seconds = HeartbeatAnswer.model_validate_json(answer).heartbeat_seconds
            await asyncio.sleep(self.heartbeat_seconds * random.uniform(0.8, 1))
