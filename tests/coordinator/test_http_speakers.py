"""Voices come in with results, and a farm tells speakers apart by them; voices leave the farm nowhere."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from support.hand_worker import HandWorker, Json
from support.served_farm import ServedFarm, StartFarm, eventually
from support.submitting import submit

from whisper_farm.cli.main import outcome
from whisper_farm.protocol.worker import digest_of
from whisper_farm.transcript.transcript import Segment, Word

SECRET = "SECRETMODEL"


@pytest.fixture
def farm(start_farm: StartFarm) -> ServedFarm:
    return start_farm(database=None)


def voices(claim: Json, who: int, shared: int = 3, **changed: Any) -> Json:
    """Ten windows of somebody in a chunk: so much of each number is everybody's."""
    start = claim["task"]["start_seconds"]
    vector = np.where(np.arange(32) // 8 == who, 100, shared).astype(np.int8)
    spans = [[start + n / 2, start + n / 2 + 1.5] for n in range(10)]
    return {"model": SECRET, "spans": spans, "vectors": b64encode(np.tile(vector, 10)).decode(), **changed}


def said(claim: Json) -> tuple[Segment, ...]:
    start = claim["task"]["start_seconds"]
    words = tuple(Word(start + n, start + n + 0.5, f" w{n}") for n in range(5))
    return (Segment(start, start + 5, "".join(word.text for word in words), words),)


def claims(farm: ServedFarm, worker: HandWorker, chunks: int, **options: Any) -> tuple[str, list[Json]]:
    made = submit(farm.admin, options=options)
    worker.cut_whole(chunks)
    return made["id"], worker.claim(transcribe=chunks)


def await_end(farm: ServedFarm, number: str) -> None:
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{number}").json()["state"] == "done", "it is done")


def test_speakers_agree_over_all_chunks_and_are_numbered_by_who_begins(farm: ServedFarm, worker: HandWorker) -> None:
    number, hearing = claims(farm, worker, 4, diarize=True)
    for claim, who in zip(hearing, (2, 0, 2, 1), strict=True):
        assert worker.finish(claim, segments=said(claim), voices=voices(claim, who))[0]["error_code"] is None
    await_end(farm, number)
    page = farm.admin.get(f"/api/transcriptions/{number}/segments").json()
    named = [f"Speaker {one}" for one in (1, 2, 1, 3)]
    assert [one["speaker"] for one in page["segments"]] == named
    document = farm.admin.get(f"/api/transcriptions/{number}/transcript?format=json")
    assert [one["speaker"] for one in document.json()["segments"]] == named
    events = farm.admin.get("/api/events", params={"after": 0, "once": True}).text
    assert not [text for text in (document.text, str(page), events) if SECRET in text or "vectors" in text]


@pytest.mark.parametrize(("narrow", "speakers"), [((True, True), 2), ((True, False), 1), ((False, False), 1)])
def test_where_all_is_by_telephone_voices_must_be_more_alike_to_be_one_speaker(
    farm: ServedFarm, worker: HandWorker, narrow: tuple[bool, bool], speakers: int
) -> None:
    number, hearing = claims(farm, worker, 2, diarize=True)
    for who, (claim, band) in enumerate(zip(hearing, narrow, strict=True)):
        worker.finish(claim, segments=said(claim), voices=voices(claim, who, shared=20, narrow=band))
    await_end(farm, number)
    page = farm.admin.get(f"/api/transcriptions/{number}/segments").json()
    assert len({one["speaker"] for one in page["segments"]}) == speakers


def recording_with_words_alone(farm: ServedFarm, worker: HandWorker) -> str:
    number, (heard, claim) = claims(farm, worker, 2, diarize=True)
    worker.finish(heard, segments=said(heard), voices=voices(heard, 0))
    words_alone(farm, worker, claim)
    await_end(farm, number)
    return number


def words_alone(farm: ServedFarm, worker: HandWorker, claim: Json) -> None:
    failure = {"token": claim["token"], "code": "speakers_unavailable", "message": "No file.", "charged": False}
    worker.told("fail", failures=[failure])
    (again,) = eventually(lambda: worker.claim(1), "it waits for nobody")
    assert not again["task"]["options"]["diarize"]
    worker.finish(again, segments=said(again))


def test_words_without_speakers_are_said_to_be_that(farm: ServedFarm, worker: HandWorker) -> None:
    number = recording_with_words_alone(farm, worker)
    assert farm.admin.get(f"/api/transcriptions/{number}").json()["warning_code"] == "without_speakers"
    document = farm.admin.get(f"/api/transcriptions/{number}/transcript?format=json").json()
    assert document["coverage"]["without_speakers"] == "No file."
    assert [one.get("speaker") for one in document["segments"]] == ["Speaker 1", None]


def test_a_retry_of_words_without_speakers_asks_for_both_beside_them(
    farm: ServedFarm, worker: HandWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    def retried(one: str) -> str:
        assert outcome(["retry", one, "--server", farm.url, "--token", farm.token]) == 0
        told = re.fullmatch(rf"{one}  queued as (\w+)\n", capsys.readouterr().out)
        assert told is not None
        return told[1]

    number = recording_with_words_alone(farm, worker)
    anew = retried(number)
    assert retried(number) == anew
    worker.cut_whole(1)
    (claim,) = worker.claim(1)
    assert claim["task"]["options"]["diarize"]
    words_alone(farm, worker, claim)
    await_end(farm, anew)
    third = retried(number)
    assert third not in (number, anew)
    view = farm.admin.get(f"/api/transcriptions/{third}").json()
    assert (view["options"]["diarize"], view["options"]["revision"], view["warning_code"]) == (True, None, None)
    assert farm.admin.get(f"/api/transcriptions/{number}").json()["state"] == "done"


WRONG = {
    "no base64": {"vectors": "%%%"},
    "no vector of each": {"vectors": b64encode(bytes(15)).decode()},
    "too long": {"vectors": b64encode(bytes(10 * 513)).decode()},
    "empty": {"vectors": ""},
    "elsewhere": {"spans": [[900.0, 901.0]] * 10},
    "no numbers": {"spans": [[0.0, "NaN"]] * 10},
    "too many": {"spans": [[1.0, 2.0]] * 60, "vectors": b64encode(bytes(60 * 8)).decode()},
    "another field": {"name": "Anna"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_voices_are_refused_and_right_ones_still_taken(farm: ServedFarm, worker: HandWorker, wrong: str) -> None:
    _, (claim,) = claims(farm, worker, 1, diarize=True)
    right = worker.heard(claim, segments=said(claim), voices=voices(claim, 0))
    told = json.loads(right.model_dump_json()) | {"voices": voices(claim, 0, **WRONG[wrong])}
    body = json.dumps(told)
    sent = {"token": claim["token"], "kind": "transcribe", "digest": digest_of(body.encode()), "result": body}
    (outcome,) = worker.complete([sent])
    assert outcome["error_code"] == "invalid_request", outcome
    assert worker.complete([worker.completion(claim, right)])[0]["error_code"] is None


def test_voices_that_nobody_asked_for_are_refused(farm: ServedFarm, worker: HandWorker) -> None:
    _, (claim,) = claims(farm, worker, 1)
    (outcome,) = worker.finish(claim, voices=voices(claim, 0))
    assert (outcome["error_code"], "nobody asked" in outcome["message"]) == ("invalid_request", True)


def test_vectors_of_zeros_and_times_that_run_backwards_end_nobody(farm: ServedFarm, worker: HandWorker) -> None:
    number, (claim, other) = claims(farm, worker, 2, diarize=True)
    nothing = voices(claim, 0, vectors=b64encode(bytes(320)).decode(), spans=[[5.0, 1.0]] * 10)
    assert worker.finish(claim, segments=said(claim), voices=nothing)[0]["error_code"] is None
    assert worker.finish(other, segments=said(other))[0]["error_code"] is None
    await_end(farm, number)


@pytest.mark.parametrize(
    "options",
    [
        {"min_speakers": 2},
        {"diarize": True, "min_speakers": 3, "max_speakers": 2},
        {"diarize": True, "channel": "each"},
        {"diarize": True, "max_speakers": 21},
    ],
)
def test_options_that_contradict_each_other_are_refused(farm: ServedFarm, options: Json) -> None:
    body = {"name": "a", "path": "/nowhere", "options": {"engine": "tones", "model": "instant", **options}}
    assert farm.admin.post("/api/transcriptions", json=body).status_code == 422


def test_no_file_of_a_worker_is_named_where_models_are_no_folders(farm: ServedFarm) -> None:
    with pytest.raises(AssertionError, match="takes no file as a speaker model"):
        submit(farm.admin, options={"diarize": True, "speaker_model": "/etc/passwd"})


def test_a_passage_that_is_adopted_keeps_the_speakers_that_are_there(farm: ServedFarm, worker: HandWorker) -> None:
    made = []
    for speaking in ((0, 1), (1, 1)):
        number, hearing = claims(farm, worker, 2, diarize=True)
        for claim, who in zip(hearing, speaking, strict=True):
            worker.finish(claim, segments=said(claim), voices=voices(claim, who))
        await_end(farm, number)
        made.append(number)
    adopt = {"transcription_id": made[1], "start": 10, "end": 20}
    answer = farm.admin.post(f"/api/transcriptions/{made[0]}/edits", json={"based_on": 0, "adopt": adopt})
    assert answer.is_success, answer.text
    named = {"based_on": 1, "rename": {"speaker": "Speaker 2", "name": "Anna"}}
    assert farm.admin.post(f"/api/transcriptions/{made[0]}/edits", json=named).is_success
    page = farm.admin.get(f"/api/transcriptions/{made[0]}/segments").json()["segments"]
    assert [one["speaker"] for one in page] == ["Speaker 1", "Anna"]
