"""A client that waits long for its transcript: JSON begins with spaces, so that nobody in between gives up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from support.hand_worker import HandWorker, Json, MakeWorker
from support.served_farm import ServedFarm, StartFarm

from whisper_farm.coordinator import one_call
from whisper_farm.settings import Policy

SPACES = 3


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_call, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(one_call, "LOOK_SECONDS", 0.02)


def waiting(farm: ServedFarm, worker: HandWorker, end: Callable[[Json], None], format: str) -> Iterator[bytes]:
    """The pieces of an answer that has begun before the work is done; then the recording's first job ends so."""
    form = {"model": "tones:instant", "response_format": format}
    with farm.admin.stream("POST", "/v1/audio/transcriptions", data=form, files={"file": b"sound" * 99}) as answer:
        assert answer.status_code == 200
        assert answer.headers["Whisper-Farm-Transcription"]
        for number, piece in enumerate(answer.iter_bytes()):
            yield piece
            if number == SPACES:
                (cutting,) = worker.claim(0, 1)
                end(cutting)


@pytest.mark.parametrize("format", ["json", "verbose_json"])
def test_json_that_is_long_in_coming_begins_with_spaces(farm: ServedFarm, worker: HandWorker, format: str) -> None:
    def heard(cutting: Json) -> None:
        worker.cut(cutting, 1)
        (hearing,) = worker.claim(1)
        worker.complete([worker.cut_done(cutting, 1)])
        worker.finish(hearing)

    pieces = list(waiting(farm, worker, heard, format))
    assert {piece.strip() for piece in pieces[:SPACES]} == {b""}
    assert json.loads(b"".join(pieces))["text"]


def test_what_goes_wrong_breaks_the_answer_off_and_is_told_to_who_asks_again(
    start_farm: StartFarm, make_worker: MakeWorker
) -> None:
    """As OpenAI's client does by itself."""
    farm = start_farm(policy=Policy(max_attempts=1))
    worker = make_worker(farm, "w-1")

    def failed(cutting: Json) -> None:
        failure = {"token": cutting["token"], "code": "not_audio", "message": "It holds no sound."}
        worker.told("fail", failures=[failure])

    with pytest.raises(httpx.RemoteProtocolError):
        list(waiting(farm, worker, failed, "json"))
    form = {"model": "tones:instant", "response_format": "json"}
    again = farm.admin.post("/v1/audio/transcriptions", data=form, files={"file": b"sound" * 99})
    assert (again.status_code, again.json()["error"]["code"]) == (400, "not_audio")
