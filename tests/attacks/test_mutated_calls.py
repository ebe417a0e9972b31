"""Heads and bodies with mistakes, by fixed seeds: each is answered or hung up on, and the server is well."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm
from support.strangers import pulse, send, tries
from support.submitting import submit

from whisper_farm.protocol.worker import digest_of

CALLS = 60
"""Of each kind."""
WORST_SECONDS = 1.5
STRANGE = (None, True, -1, 1 << 63, 1e308, "", "\0", "\u202e", "a" * 5000, [], {}, [[]] * 50, {"a": {}}, "../../x")


def twisted(value: Any, dice: random.Random) -> Any:
    """The value with something else somewhere within it."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        name = dice.choice(list(value))
        changed = {**value, name: twisted(value[name], dice)}
        if dice.random() < 0.1:
            changed["more"] = changed.pop(name)
        return changed
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        return [*value[:place], twisted(value[place], dice), *value[place:]]
    return dice.choice(STRANGE)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The bytes with some of them changed, left out or doubled."""
    found = bytearray(data)
    for _ in range(dice.choice((1, 3, 12))):
        place = dice.randrange(len(found))
        match dice.randrange(4):
            case 0:
                found[place] = dice.randrange(256)
            case 1:
                found[place:place] = dice.choice((b"\r\n", b"\0", b": ", b"\xff" * 8, b"chunked", b"0"))
            case 2:
                del found[place : place + dice.randrange(1, 16)]
            case _:
                found[place:place] = found[max(0, place - 40) : place]
        found = found or bytearray(b"x")
    return bytes(found)


def bodies(farm: ServedFarm, worker: HandWorker) -> Iterator[tuple[str, Any]]:
    """What a well-behaved caller would send now."""
    (cutting,) = worker.claim(transcribe=0, chunk=1)
    chunk = worker.upload(cutting, 0)
    yield "/api/work/append", {"worker_id": worker.worker_id, "token": cutting["token"], "chunks": [chunk]}
    worker.told("append", token=cutting["token"], chunks=[chunk])
    (hearing,) = worker.claim()
    heard = worker.completion(hearing, worker.heard(hearing))
    yield "/api/work/complete", {"worker_id": worker.worker_id, "completions": [heard], "claim": worker.claim_body()}
    failure = {"token": cutting["token"], "code": "x", "message": "x", "charged": False}
    yield "/api/work/fail", {"worker_id": worker.worker_id, "failures": [failure]}
    yield "/api/work/register", {"worker_id": worker.worker_id, **worker.registration()}
    yield "/api/work/claim", worker.claim_body()
    yield "/api/transcriptions", {"name": "a", "upload_id": "0", "options": {"language": "en", "temperature": [0.0]}}
    yield "/api/uploads", {"name": "a", "size": 1, "sha256": "a" * 64}
    yield "/api/tokens", {"name": "a", "scope": "user", "owner": "ann", "days": 1}


def test_no_mutated_body_makes_the_server_fail(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker, dice = make_worker(farm), random.Random(13)
    submit(farm.admin)
    calls = list(bodies(farm, worker))
    with pulse(farm) as taken:
        for _ in tries(CALLS):
            path, body = dice.choice(calls)
            text = json.dumps(twisted(body, dice)).encode()
            if dice.random() < 0.3:
                text = mutated(text, dice)
            answer = worker.http.post(path, content=text, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (path, text)
    assert taken.worst_seconds < WORST_SECONDS


@pytest.mark.parametrize("results", [{"segments": []}, {"unheard": [[0, 1]]}])
def test_no_mutated_result_makes_the_server_fail(farm: ServedFarm, make_worker: MakeWorker, results: Any) -> None:
    """A result is a text within the body: it is checked by its own rules."""
    worker, dice = make_worker(farm), random.Random(14)
    submit(farm.admin)
    worker.begin(1)
    (claim,) = worker.claim()
    whole = worker.heard(claim).model_dump(mode="json") | results
    for _ in tries(CALLS):
        text = json.dumps(twisted(whole, dice))

        one = {"token": claim["token"], "kind": "transcribe", "digest": digest_of(text.encode()), "result": text}
        assert worker.ask("complete", completions=[one]).status_code < 500, text


def test_no_mutated_head_makes_the_server_fail(farm: ServedFarm) -> None:
    dice = random.Random(15)
    bearer = f"Authorization: Bearer {farm.token}\r\n"
    whole = [
        f"GET /api/transcriptions?limit=5 HTTP/1.1\r\nHost: farm\r\n{bearer}Connection: close\r\n\r\n",
        f"POST /api/uploads HTTP/1.1\r\nHost: farm\r\n{bearer}Content-Type: application/json\r\n"
        'Content-Length: 23\r\nConnection: close\r\n\r\n{"name": "a", "size": 1}',
        f"POST /api/tokens HTTP/1.1\r\nHost: farm\r\n{bearer}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        "2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
    ]
    with pulse(farm) as taken:
        for _ in tries(CALLS):
            sent = mutated(dice.choice(whole).encode(), dice)
            answer = send(farm, sent, read_bytes=64, closes=True)
            assert b" 500 " not in answer[:20], sent
    assert taken.worst_seconds < WORST_SECONDS
