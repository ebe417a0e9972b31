"""The HTTP API against requests made from its own OpenAPI document, about things that are really there.

Every request is half generated and half what a well-behaved client would send at this moment (ids, claim tokens that
are live, chunks that were uploaded, digests that are right), so that it reaches past "unknown token". The requests
are the same in every run.
"""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any, get_args

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis import checks as known_checks
from schemathesis.core import NotSet
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks as openapi_checks
from support.hand_worker import Json, MakeWorker
from support.made_once import made_once
from support.served_farm import PATIENCE_SECONDS, ServedFarm, StartFarm, eventually
from support.submitting import AUDIO, submit

from whisper_farm.errors import every_error
from whisper_farm.protocol.administration import WorkerAction
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, ErrorBody
from whisper_farm.protocol.worker import digest_of
from whisper_farm.settings import Policy

CASES = 8
"""Requests made for each operation that takes anything, about half of them made to be wrong."""
AIMS = 2
"""Times that each is sent, with other parts of it replaced by what is there."""
MAX_PROBLEMS = 5
"""Answers shown when there are more that should not be."""
REACHED = {
    "transcription_submitted", "transcription_cancelled", "transcription_retried", "transcription_deleted",
    "chunks_appended", "chunking_done", "job_done", "job_retried", "job_released",
    "worker_joined", "worker_draining", "worker_dismissed", "worker_paused", "worker_resumed",
}  # fmt: skip
"""State changes that the requests bring about: what only meets refusals tests little."""
EXTREMES = (-1, 1 << 31, 1 << 53, 1 << 63, 1 << 64, 10**40, 1e-320, 1e308)
DECLARED: list[CheckFunction] = [
    known_checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
OTHERS = {"openai", "asr", "deepgram"}
"""APIs of other programs, with errors of their own shape: `tests/doors` asks them."""
PARTS = ("path_parameters", "headers", "query", "body", "media_type")
Made = tuple[str, dict[str, Any]]
"""The name of an operation, and these parts of a request to it."""
WEBHOOK = {"url": "http://127.0.0.1:9/told"}
"""An address where nobody listens."""
CODES = every_error().keys()
STATUSES = {kind.code: kind.status for kind in every_error().values()}


class Present:
    """What is there to ask for: a worker, a recording that it cuts and hears, one that is finished, an upload."""

    def __init__(self, farm: ServedFarm, make_worker: MakeWorker) -> None:
        self._farm = farm
        self._make_worker = make_worker
        self._workers = self._labels = 0
        self._limits = farm.admin.get("/api/limits").json()["limits"]
        self._hire()
        self._upload()
        self.webhook = str(farm.admin.post("/api/webhooks", json=WEBHOOK).json()["id"])
        self.message = str(farm.admin.post(f"/api/webhooks/{self.webhook}/test").json()["id"])
        self._finish()
        self.recording = self.cancelled = self.finished
        self._open()

    def renew(self, path: str) -> None:
        """Put new things in the place of those that the requests so far have brought to an end."""
        if path.startswith(("/api/work", "/api/transcriptions/")):
            self._renew_claims()
        if path.endswith("/retry"):
            self._farm.admin.post(f"/api/transcriptions/{self.recording}/cancel")
            self.cancelled = self.recording
        if path in ("/api/uploads/{upload_id}", "/api/transcriptions"):
            self._upload()
        if "{transcription_id}" in path and not self._farm.admin.get(self._place).is_success:
            self._finish()
        if "{worker_id}" in path:
            self.spare = f"spare-{len(self._farm.admin.get('/api/workers').json()['workers'])}"
            self.worker.told("register", **{**self.worker.registration(), "worker_id": self.spare})
        if "{token_id}" in path:
            made = self._farm.admin.post("/api/tokens", json={"name": "spare", "scope": "user"}).json()
            self.token_id = made["id"]

    def restore(self, path: str) -> None:
        """Undo what would keep all other requests from what they are for."""
        if path == "/api/limits":
            assert self._farm.admin.patch(path, json=self._limits).is_success

    def path(self, name: str, random: Random) -> str:
        """Something that is there, for a parameter of that name in a path."""
        if name in ("token_id", "worker_id"):
            return self.token_id if name == "token_id" else random.choice([self.spare, self.worker.worker_id])
        mine = {
            "transcription_id": [self.recording, self.cancelled, self.finished],
            "upload_id": [self.upload],
            "token": [self.cutting["token"], self.hearing["token"]],
            "position": ["1"],
            "webhook_id": [self.webhook],
            "message_id": [self.message],
            "action": get_args(WorkerAction),
        }
        return random.choice(mine.get(name, ["nobody"]))

    def body(self, operation: str, random: Random) -> Any:
        """What a well-behaved client would send now."""
        cutting, hearing, worker = self.cutting["token"], self.hearing["token"], self.worker
        claim = worker.claim_body(4, 1)
        ends = [
            worker.cut_done(self.cutting, 1),
            worker.completion(self.hearing, worker.heard(self.hearing)),
        ]
        failures = [{"token": token, "code": "not_audio", "message": "it is not"} for token in (cutting, hearing)]
        of_worker: dict[str, Json] = {
            "register": worker.registration(),
            "claim": claim,
            "heartbeat": {"tokens": [cutting, hearing]},
            "uploads": {"token": cutting, "positions": [1, 2]},
            "append": {"token": cutting, "chunks": [self.chunk]},
            "complete": {"completions": random.sample(ends, random.randint(1, 2)), "claim": claim},
            "fail": {"failures": random.sample(failures, 1)},
            "release": {"tokens": random.sample([cutting, hearing], 1)},
        }
        if operation in of_worker:
            return {"worker_id": worker.worker_id, **of_worker[operation]}
        others: Json = {
            "start_upload": {"name": "talk.mp3", "size": len(AUDIO)},
            "create_webhook": WEBHOOK,
            "submit": {"name": "talk.mp3", "upload_id": self.upload, "options": {"engine": "tones"}},
            "create_token": {"name": "laptop", "scope": "user", "owner": "ann"},
            "send_upload": AUDIO,
            "upload_chunk": b"sound",
        }
        return others.get(operation)

    @property
    def _place(self) -> str:
        return f"/api/transcriptions/{self.finished}"

    def _renew_claims(self) -> None:
        beat = self.worker.ask("heartbeat", tokens=[self.cutting["token"], self.hearing["token"]])
        told = beat.json()
        if not beat.is_success or told["drain"]:
            self._hire()
            self._open()
        elif told["lost"] or told["cancelled"]:
            self.cancelled = self.recording if told["cancelled"] else self.cancelled
            self._open()

    def _hire(self) -> None:
        self._workers += 1
        self.worker = self._make_worker(self._farm, f"w-{self._workers}")

    def _upload(self) -> None:
        self.upload = self._farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()["upload_id"]
        assert self._farm.admin.put(f"/api/uploads/{self.upload}", content=AUDIO).is_success

    def _open(self) -> None:
        """A recording with one chunk, both its jobs held by the worker, and another chunk ready to be appended."""
        self.recording, self.cutting, self.hearing = self._begun()
        self.chunk = self.worker.upload(self.cutting, 1)

    def _begun(self) -> tuple[str, Json, Json]:
        self._labels += 1
        label = f"only-{self._labels}"
        self.worker.register(label=label)  # a request may have made it one that can do nothing, or paused it
        assert self._farm.admin.post(f"/api/workers/{self.worker.worker_id}/resume").is_success
        made = str(submit(self._farm.admin, label=label)["id"])
        (cutting,) = self.worker.claim(0, 1)
        self.worker.cut(cutting, 1)
        (hearing,) = self.worker.claim(1)
        return made, cutting, hearing

    def _finish(self) -> None:
        self.finished, cutting, hearing = self._begun()
        self.worker.complete([self.worker.cut_done(cutting, 1)])
        self.worker.finish(hearing)
        eventually(lambda: self._farm.admin.get(self._place).json()["state"] == "done", "the transcript")


def mixed(random: Random, made: Any, proper: Any, share: float) -> Any:
    """What is proper, with a share of what was made, or a number past all bounds, put in at any depth."""
    if isinstance(made, dict) and isinstance(proper, dict):
        both = {name: mixed(random, made[name], proper[name], share) for name in made if name in proper}
        return {name: value for name, value in {**made, **proper, **both}.items() if random.random() >= share / 3}
    if isinstance(made, list) and isinstance(proper, list):
        pairs = [pair for pair in zip(made, proper, strict=False) for _ in range(1 + (random.random() < share))]
        return [mixed(random, *pair, share) for pair in pairs] or proper
    if random.random() >= share:
        return proper
    return random.choice(EXTREMES) if isinstance(proper, int | float) and random.random() < 0.5 else made


def with_digests(body: Any) -> None:
    """Announce the digests of the results that are there now, as far as they are any."""
    for completion in body.get("completions", ()) if isinstance(body, dict) else ():
        with suppress(AttributeError, ValueError, TypeError, LookupError):
            completion["digest"] = digest_of(completion["result"].encode())


def without_waits(body: Any) -> None:
    """What is right shall not wait; what is wrong may stay wrong."""
    for claim in (body, body.get("claim")) if isinstance(body, dict) else ():
        if isinstance(claim, dict) and claim.get("wait_seconds"):
            claim["wait_seconds"] = (
                min(0, claim["wait_seconds"]) if isinstance(claim["wait_seconds"], float | int) else 0
            )


def aimed(made: Case, random: Random, present: Present) -> Case:
    """The case, with most of its ids, tokens and bodies replaced by those of what is there."""
    operation = made.operation
    name = str(operation.definition.raw["operationId"])
    places = {
        parameter: present.path(parameter, random) if random.random() < 0.8 else value
        for parameter, value in made.path_parameters.items()
    }
    query = {**made.query, "once": "true"} if name == "follow_events" else made.query
    body, proper = made.body, present.body(name, random)
    if isinstance(body, dict | list):
        body = deepcopy(body)
    if proper is not None and (share := random.choice([0, 0.05, 0.2, 1])) < 1:
        body = mixed(random, body, deepcopy(proper), share)
        with_digests(body)
    without_waits(body)
    headers = {header: value for header, value in made.headers.items() if header.lower() != "authorization"}
    return operation.Case(path_parameters=places, headers=headers, query=query, body=body, media_type=made.media_type)


def made_from(schema: BaseSchema) -> list[Made]:
    """Requests to every operation, right ones and wrong ones, in one order that is always the same."""
    found: list[Made] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if OTHERS.intersection(operation.definition.raw.get("tags", ())):
            continue
        takes_something = operation.body or operation.path_parameters or operation.query
        right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) if takes_something else right

        @settings(
            max_examples=CASES if takes_something else 2,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=right | wrong)
        def collect(case: Case) -> None:
            parts = {name: getattr(case, name) for name in PARTS}
            found.append(
                (case.operation.label, {name: one for name, one in parts.items() if not isinstance(one, NotSet)})
            )

        collect()
    Random(1).shuffle(found)
    return found


def check(case: Case, answer: schemathesis.Response) -> None:
    """The answer is declared, no server error, and, if it is an error, a documented one in the one shape."""
    is_stream = answer.headers["content-type"][0].startswith("text/event-stream")
    case.validate_response(answer, checks=DECLARED[:-1] if is_stream else DECLARED)
    if answer.status_code >= 400:
        error = ErrorBody.model_validate_json(answer.content).error
        assert error.code in CODES, case.as_curl_command()
        assert error.message, case.as_curl_command()
        told = case.operation.definition.raw["responses"][str(answer.status_code)]["description"]
        assert f"`{error.code}`" in told, case.as_curl_command()
        assert STATUSES.get(error.code, answer.status_code) == answer.status_code, case.as_curl_command()


@pytest.mark.timeout(1200)  # some thirty seconds of a processor, of which a busy machine has few
@pytest.mark.filterwarnings("ignore:Do not use the .random. module")  # the farm beside us does, not the strategies
def test_whatever_is_asked_the_answer_is_a_declared_one(
    start_farm: StartFarm, database_url: str, make_worker: MakeWorker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    policy, own = Policy(lease_seconds=600, heartbeat_seconds=60), ("127.0.0.0/8",)
    farm = start_farm(database=database_url, policy=policy, private_networks=own)
    present = Present(farm, make_worker)
    spoken = {"Authorization": f"Bearer {farm.token}", PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
    problems: list[BaseException] = []
    with requests.Session() as session:
        session.trust_env = False
        schema = schemathesis.openapi.from_dict(farm.admin.get("/openapi.json").json())
        cases = made_once(tmp_path_factory, "requests", lambda _: made_from(schema))
        for number, (label, parts) in enumerate(cases * AIMS):
            made = schema.find_operation_by_label(label).Case(**parts)
            present.renew(made.operation.path)
            case = aimed(made, Random(number), present)
            try:
                check(case, case.call(farm.url, session, spoken, timeout=PATIENCE_SECONDS))
            except (Exception, BaseExceptionGroup) as problem:
                problems.append(problem)
            present.restore(made.operation.path)
    if problems:
        raise BaseExceptionGroup(f"{len(problems)} answers that should not be", problems[:MAX_PROBLEMS])
    told = farm.admin.get("/api/events", params={"after": 0, "once": True}).text.splitlines()
    happened = {json.loads(line[5:])["kind"] for line in told if line.startswith("data:")}
    assert happened >= REACHED
