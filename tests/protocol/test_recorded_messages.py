"""The wire can grow: messages as an earlier release sent them are understood, and what a newer one adds is left out.

`recorded_1.json` holds every call of protocol version 1 as the client and a worker of release 0.1.0 made it. It is
never edited: a change that cannot live with it needs another protocol version.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support.served_farm import ServedFarm, eventually
from support.work_here import recording, until, worker_settings, working

from whisper_farm.client.farm import FarmClient
from whisper_farm.coordinator import server
from whisper_farm.protocol import administration, worker
from whisper_farm.protocol import client as client_messages
from whisper_farm.protocol.client import TranscriptionView
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, Answer, ErrorBody
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.options import RecognitionOptions

RECORDED = json.loads((Path(__file__).parent / "recorded_1.json").read_text(encoding="utf-8"))
ANSWERS: dict[str, type[Answer]] = {
    "POST /api/work/register": worker.RegisterAnswer,
    "POST /api/work/claim": worker.ClaimAnswer,
    "POST /api/work/heartbeat": worker.HeartbeatAnswer,
    "POST /api/work/uploads": worker.UploadAnswer,
    "POST /api/work/append": worker.AppendAnswer,
    "POST /api/work/complete": worker.CompleteAnswer,
    "POST /api/work/fail": worker.OutcomeAnswer,
    "POST /api/work/release": worker.OutcomeAnswer,
    "GET /api/server": administration.ServerView,
    "POST /api/uploads": client_messages.UploadTarget,
    "GET /api/transcriptions": client_messages.TranscriptionList,
    "POST /api/transcriptions": client_messages.TranscriptionView,
    "GET /api/transcriptions/ID": client_messages.TranscriptionView,
    "POST /api/transcriptions/ID/cancel": client_messages.TranscriptionView,
    "POST /api/transcriptions/ID/retry": client_messages.TranscriptionView,
    "GET /api/transcriptions/ID/jobs": client_messages.JobList,
    "GET /api/transcriptions/ID/segments": client_messages.SegmentPage,
    "GET /api/workers": administration.WorkerList,
    "POST /api/workers/ID/drain": administration.WorkerView,
    "POST /api/tokens": administration.TokenView,
    "GET /api/tokens": administration.TokenList,
}
UNKNOWN = "a_field_of_another_release"


@dataclass(frozen=True)
class Call:
    """One recorded call and its answer."""

    method: str
    path: str
    type: str
    body: str
    status: int
    answer: str

    @property
    def name(self) -> str:
        """The call without its ids."""
        path = re.sub(r"(transcriptions|workers|tokens)/[^/]+", r"\1/ID", self.path.partition("?")[0])
        return f"{self.method} {path}"

    @property
    def said(self) -> Any:
        """The answer, where it is JSON."""
        return json.loads(self.answer) if self.answer[:1] == "{" else None


CALLS = [Call(**call) for call in RECORDED["calls"]]


def with_unknown_field(message: Any) -> Iterator[Any]:
    """The message, once for every object in it, with a field in that object that nobody knows."""
    if isinstance(message, dict):
        yield message | {UNKNOWN: "x"}
        for name, value in message.items():
            yield from (message | {name: other} for other in with_unknown_field(value))
    elif isinstance(message, list):
        for at, value in enumerate(message):
            yield from ([*message[:at], other, *message[at + 1 :]] for other in with_unknown_field(value))


def still_says(now: Any, before: Any, where: str = "") -> None:
    """Every field that was there is there."""
    if isinstance(before, dict):
        assert isinstance(now, dict), f"{where}: {before} became {now}"
        assert before.keys() <= now.keys(), f"{where}: {before} became {now}"
        for name, value in before.items():
            still_says(now[name], value, f"{where}.{name}")
    elif isinstance(before, list):
        assert isinstance(now, list), f"{where}: {before} became {now}"
        for at, (one, other) in enumerate(zip(now, before, strict=True)):
            still_says(one, other, f"{where}[{at}]")


class Replay:
    """Makes the recorded calls at a server of today. What it minted anew takes the place of what was recorded."""

    def __init__(self, farm: ServedFarm) -> None:
        self.worker_token = farm.token_for("worker", "w")
        self.admin_token = farm.token
        self.http = farm.client("")
        self.renamed: dict[str, str] = {}

    def now(self, text: str) -> str:
        """The recorded text with the names of today."""
        for before, now in sorted(self.renamed.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(before, now)
        return text

    def ask(self, call: Call, body: str | None = None) -> httpx.Response:
        of_worker = call.path.startswith("/api/work/")
        headers = {"Authorization": f"Bearer {self.worker_token if of_worker else self.admin_token}"}
        if of_worker:
            headers[PROTOCOL_HEADER] = str(RECORDED["protocol"])
        if call.type:
            headers["Content-Type"] = call.type
        content = self.now(_with_digests(call, self.now) if body is None else body).encode()
        return self.http.request(call.method, self.now(call.path), headers=headers, content=content)

    def learn(self, now: Any, before: Any) -> None:
        """Remember every text that is another one today."""
        if isinstance(before, dict):
            for name in before.keys() & now.keys():
                self.learn(now[name], before[name])
        elif isinstance(before, list):
            for one, other in zip(now, before, strict=False):
                self.learn(one, other)
        elif isinstance(before, str) and isinstance(now, str) and before != now:
            self.renamed[before] = now


def _with_digests(call: Call, now: Callable[[str], str]) -> str:
    """The body of a call. What is minted anew may stand in a result, whose digest is another one then."""
    if not call.path.endswith("/complete"):
        return call.body
    body = json.loads(call.body)
    for each in body["completions"]:
        each["digest"] = worker.digest_of(now(each["result"]).encode())
    return json.dumps(body, ensure_ascii=False)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[ServedFarm]:
    with ServedFarm(tmp_path / "farm") as farm:
        yield farm


def test_todays_server_takes_every_recorded_call_and_still_says_all_that_it_said(farm: ServedFarm) -> None:
    assert RECORDED["protocol"] == PROTOCOL_VERSION, "record the calls of the version before, too"
    replay = Replay(farm)
    for call in CALLS:
        if call.name == "GET /api/transcriptions/ID/transcript":
            eventually(lambda call=call: replay.ask(call).status_code == call.status, "the transcript")  # type: ignore[misc]
        answer = replay.ask(call)
        assert answer.status_code == call.status, f"{call.name}: {answer.text}"
        if call.said is not None:
            still_says(answer.json(), call.said, call.name)
            replay.learn(answer.json(), call.said)


def test_a_field_that_the_server_does_not_know_is_refused_anywhere_in_a_request(farm: ServedFarm) -> None:
    replay = Replay(farm)
    spoiled = 0
    for call in CALLS:
        if call.type == "application/json":
            for message in with_unknown_field(json.loads(call.body)):
                answer = replay.ask(call, json.dumps(message))
                assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request"), call.name
                assert UNKNOWN in answer.text
                spoiled += 1
    assert spoiled > 30, "the requests were looked at"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_recorded_answer_is_understood_with_an_unknown_field_anywhere_in_it(call: Call) -> None:
    if call.said is None:
        return
    if call.name == "GET /api/transcriptions/ID/transcript":
        known = from_json(call.said)
        assert all(from_json(more) == known for more in with_unknown_field(call.said))
        return
    kind = ErrorBody if call.status >= 400 else ANSWERS[call.name]
    known_answer = kind.read(call.answer)
    for more in with_unknown_field(call.said):
        read = kind.read(json.dumps(more))
        assert _without_unknown(read.model_dump()) == known_answer.model_dump()


def _without_unknown(dumped: Any) -> Any:
    """Objects that are open by their nature (headers, details) keep a field that nobody knows."""
    if isinstance(dumped, dict):
        return {name: _without_unknown(value) for name, value in dumped.items() if name != UNKNOWN}
    return type(dumped)(map(_without_unknown, dumped)) if isinstance(dumped, list | tuple) else dumped


@pytest.mark.parametrize("event", RECORDED["events"], ids=lambda event: json.loads(event)["kind"])
def test_a_recorded_event_is_understood_with_an_unknown_field_anywhere_in_it(event: str) -> None:
    known = client_messages.EventView.read(event)
    for more in with_unknown_field(json.loads(event)):
        assert _without_unknown(client_messages.EventView.read(json.dumps(more)).model_dump()) == known.model_dump()


def test_every_call_of_the_worker_api_was_recorded() -> None:
    recorded = {call.name.rpartition("/")[2] for call in CALLS if call.name.startswith("POST /api/work/")}
    assert recorded == {"register", "claim", "heartbeat", "uploads", "append", "complete", "fail", "release"}


class SaysMore:
    """A newer server: in every object of every JSON answer there is a field that nobody knows."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def more(message: Message) -> None:
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"")
                if kind != b"application/json":
                    await send(message)
                else:
                    held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body"):
                    for one in _richer(held):
                        await send(one)

        await self.app(scope, receive, more)


def _richer(held: list[Message]) -> list[Message]:
    start, *parts = held
    said = b"".join(part["body"] for part in parts)
    if not said:
        return held
    body = json.dumps(_everywhere(json.loads(said))).encode()
    headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    return [
        {**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]},
        {"type": "http.response.body", "body": body},
    ]


def _everywhere(message: Any) -> Any:
    if isinstance(message, dict):
        more = None if "beam_size" in message else "x"  # an option of recognition that is set would change the words
        return {name: _everywhere(value) for name, value in message.items()} | {UNKNOWN: more}
    return list(map(_everywhere, message)) if isinstance(message, list) else message


def test_todays_worker_and_client_work_with_a_server_that_says_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = server.create_app

    def create_app(*given: Any) -> Any:
        app = real(*given)
        app.add_middleware(SaysMore)
        return app

    monkeypatch.setattr(server, "create_app", create_app)
    data, truth = recording(12)
    talk = tmp_path / "talk.wav"
    talk.write_bytes(data)
    options = RecognitionOptions(engine="tones", model="instant")

    async def work(farm: ServedFarm, client: FarmClient, view: TranscriptionView) -> None:
        async with working(worker_settings(farm.url, token=farm.token, cuts=True)):
            await until(lambda: client.get(view.id).state == "done", "the transcription is done")

    with ServedFarm(tmp_path / "farm") as farm, FarmClient(farm.url, farm.token) as client:
        assert UNKNOWN in farm.admin.get("/api/server").json()
        view = client.submit_file(talk, options=options, chunk_seconds=5)
        asyncio.run(work(farm, client, view))
        heard = client.transcript(view.id)
    assert [word.text.strip() for segment in heard.segments for word in segment.words] == [word for word, _ in truth]
