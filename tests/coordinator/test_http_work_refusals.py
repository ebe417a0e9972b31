"""What a database would choke on never gets there: every field and parameter, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import httpx
import pytest
from support.hand_worker import HandWorker, Json, MakeWorker
from support.served_farm import ServedFarm, StartFarm, refused
from support.submitting import submit

from whisper_farm.protocol.jobs import RESULTS, ChunkResult
from whisper_farm.protocol.worker import digest_of
from whisper_farm.settings import Policy

Place = tuple[str | int, ...]

HUGE = (
    "-1",
    str(1 << 63),
    str(1 << 64),
    str(-(1 << 63) - 1),
    "9" * 400,
    "9" * 5000,
    "1e308",
    "1e400",
    "NaN",
    "-Infinity",
)
"""As JSON text: Python's own numbers have no such bounds."""
WRONG = ('"a\\u0000b"', '{"of": "things"}', "[[]]")
"""No text, number or flag of any call."""
FORGED = "f" * 32
SPEAKING = ("uploads", "append", "complete", "fail", "release")
"""The calls that speak for a job."""


@pytest.fixture
def farm(database_url: str, start_farm: StartFarm) -> ServedFarm:
    """Leases outlast the hundreds of calls of a test, on a busy machine, too: nobody beats here."""
    return start_farm(database=database_url, policy=Policy(lease_seconds=600, heartbeat_seconds=150))


def leaves(body: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every single value in a body, with the way to it."""
    if isinstance(body, dict | list):
        for step, value in body.items() if isinstance(body, dict) else enumerate(body):
            yield from leaves(value, (*place, step))
    else:
        yield place, body


def changed(body: Json, place: Place, text: str) -> str:
    """The body as JSON, with one value replaced by a text that may be no JSON that Python writes."""
    copy = deepcopy(body)
    inner: Any = copy
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = "HERE"
    return json.dumps(copy).replace('"HERE"', text)


def posted(worker: HandWorker, call: str, body: str) -> httpx.Response:
    """Any text as the body of a call."""
    headers = {"Content-Type": "application/json"}
    return worker.http.post(f"/api/work/{call}", content=body.encode(), headers=headers)


def bodies(worker: HandWorker, cutting: Json, hearing: Json, chunk: Json) -> dict[str, Json]:
    """A right body for every call of the worker API, with as many of its fields as there are."""
    result = worker.heard(hearing)
    (segment,) = result.segments
    certain = replace(segment, avg_logprob=-0.5, no_speech_prob=0.5, compression_ratio=1.0, temperature=0.0)
    heard = worker.completion(hearing, result.model_copy(update={"segments": (certain,)}))
    end = ChunkResult(duration_seconds=20, declared_seconds=20, chunks=2, damaged_seconds=((1, 2),))
    cut = worker.completion(cutting, end)
    claim = worker.claim_body(1, 1)
    failure = {"code": "not_audio", "message": "it is not", "permanent": False, "charged": True}
    of_worker: dict[str, Json] = {
        "register": worker.registration(),
        "claim": claim,
        "heartbeat": {"tokens": [cutting["token"], hearing["token"]]},
        "uploads": {"token": cutting["token"], "positions": [1]},
        "append": {"token": cutting["token"], "chunks": [chunk], "duration_seconds": 20.0},
        "complete": {"completions": [heard, cut], "claim": claim},
        "fail": {"failures": [{"token": hearing["token"], **failure}]},
        "release": {"tokens": [hearing["token"]], "leaving": False},
    }
    return {call: {"worker_id": worker.worker_id, **body} for call, body in of_worker.items()}


def happened(farm: ServedFarm) -> object:
    """Everything that a call may change but the time when its worker was seen."""
    events = farm.admin.get("/api/events", params={"after": 0, "once": True}).text
    made = farm.admin.get("/api/transcriptions").json()["transcriptions"]
    return events, made, [farm.admin.get(f"/api/transcriptions/{one['id']}/jobs").json() for one in made]


def begun(farm: ServedFarm, worker: HandWorker) -> tuple[Json, Json]:
    """A recording whose first chunk is there: the claims of cutting it and of hearing that chunk."""
    submit(farm.admin)
    cutting = worker.begin(1)
    (hearing,) = worker.claim(1)
    return cutting, hearing


def test_no_value_of_a_call_is_too_wrong_to_be_refused(farm: ServedFarm, worker: HandWorker) -> None:
    cutting, hearing = begun(farm, worker)
    chunk = worker.upload(cutting, 1)
    before = happened(farm)
    for call, body in bodies(worker, cutting, hearing, chunk).items():
        for place, value in leaves(body):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            for text in (*WRONG, *(HUGE if is_number else ("9" * 400,))):
                answer = posted(worker, call, changed(body, place, text))
                asked = (call, place, text[:30], answer.text[:200])
                assert refused(answer) == (422, "invalid_request"), asked
    assert happened(farm) == before
    worker.told("append", token=cutting["token"], chunks=[chunk])
    assert worker.finish(hearing)[0]["error_code"] is None
    assert worker.complete([worker.cut_done(cutting, 2)])[0]["error_code"] is None


def test_no_value_in_a_result_is_too_wrong_to_be_refused(farm: ServedFarm, worker: HandWorker) -> None:
    """A result comes as a text of its own, with the digest of just that text."""
    cutting, hearing = begun(farm, worker)
    before = happened(farm)
    tried = 0
    for right in bodies(worker, cutting, hearing, {})["complete"]["completions"]:
        result = json.loads(right["result"])
        for place, value in leaves(result):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            for text in (*WRONG, *(HUGE if is_number else ("9" * 400,))):
                wrong = changed(result, place, text)
                with suppress(ValueError):
                    RESULTS[right["kind"]].model_validate_json(wrong)
                    if "\\u0000" not in wrong:
                        continue  # as good as what was there
                tried += 1
                (outcome,) = worker.complete([right | {"result": wrong, "digest": digest_of(wrong.encode())}])
                assert outcome["error_code"] == "invalid_request", (place, text[:30], outcome)
                assert len(outcome["message"]) < 700
    assert tried > 100
    assert happened(farm) == before


NUMBERS = (
    "/api/transcriptions?limit={}",
    "/api/transcriptions?after={}:x&limit=0",
    "/api/transcriptions/{{}}/jobs?limit={}",
    "/api/transcriptions/{{}}/jobs?after={}",
    "/api/transcriptions/{{}}/segments?after={}",
    "/api/events?once=true&after={}",
    "/api/events?once=true&limit={}",
)


def test_no_number_in_an_address_is_too_large_to_be_refused(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)["id"]
    (claim,) = worker.claim(0, chunk=1)
    for number in ("-2", *HUGE[1:], "1e", "%00", "١٢"):
        for address in NUMBERS:
            answer = farm.admin.get(address.format(number).format(made))
            assert refused(answer) == (422, "invalid_request"), (address, number[:30])
        answer = worker.http.put(f"/api/work/uploads/{claim['token']}/{number}", content=b"x")
        assert refused(answer) == (422, "invalid_request"), number[:30]
    for resumed in ("9" * 16, "9" * 30, "-1", "1e308", "NaN"):
        answer = farm.admin.get("/api/events", params={"once": True}, headers={"Last-Event-ID": resumed})
        assert answer.status_code == 200, resumed


def test_a_token_opens_nothing_but_its_own_job_and_only_once(
    farm: ServedFarm, worker: HandWorker, make_worker: MakeWorker
) -> None:
    cutting, hearing = begun(farm, worker)
    right = bodies(worker, cutting, hearing, worker.upload(cutting, 1))
    one, other = cutting["token"], hearing["token"]

    def codes(instead: dict[str, str], calls: tuple[str, ...] = SPEAKING) -> set[str | None]:
        """What these calls answer with some of their texts replaced by others."""
        found: set[str | None] = set()
        for call in calls:
            body = json.dumps(right[call], default=str)
            answer = posted(worker, call, re.sub("|".join(instead) or "$^", lambda match: instead[match[0]], body))
            if answer.status_code != 200:
                found.add(refused(answer)[1])
            else:
                found |= {outcome["error_code"] for outcome in answer.json()["outcomes"]}
        return found

    stranger = make_worker(farm, "stranger").worker_id
    before = happened(farm)
    assert codes({one: FORGED, other: FORGED}) == {"lease_lost"}
    assert codes({worker.worker_id: stranger}) == codes({worker.worker_id: "nobody"}) == {"lease_lost"}
    assert codes({one: other, other: one}, ("uploads", "append", "complete")) == {"invalid_request"}
    digests = [*(done["digest"] for done in right["complete"]["completions"]), right["append"]["chunks"][0]["sha256"]]
    assert codes(dict.fromkeys(digests, "0" * 64), ("append", "complete")) == {"digest_mismatch"}
    assert happened(farm) == before

    worker.told("append", **right["append"])
    assert codes({}, ("complete",)) == codes({}, ("complete",)) == {None}
    told = happened(farm)
    assert codes({}, ("uploads", "append", "fail", "release")) == {"lease_lost"}
    again = worker.finish(hearing, text=" something else")
    assert again[0]["error_code"] == "result_conflict"
    assert worker.told("heartbeat", tokens=[one, other, FORGED])["lost"] == [one, other, FORGED]
    for address in (f"source/{one}", f"audio/{other}", f"audio/{FORGED}"):
        assert refused(worker.http.get(f"/api/work/{address}")) == (409, "lease_lost"), address
    assert happened(farm) == told
