"""Deepgram's API for recordings, asked as its client asks: the recording as body, the token in its own words."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support.farm_processes import Farm, Recording

Speak = Callable[..., Recording]
OCTETS = "application/octet-stream"


def said(recording: Recording) -> str:
    return " ".join(word for word, _ in recording.words)


def listen(farm: Farm, content: Any, kind: str = OCTETS, token: str = "", **asked: Any) -> httpx.Response:
    headers = {"Authorization": f"Token {token or farm.token}", "Content-Type": kind}
    url = f"{farm.url}/v1/listen"
    return httpx.post(url, params=asked, content=content, headers=headers, timeout=60, trust_env=False)


def test_a_recording_comes_back_in_deepgrams_shape(tones_farm: Farm, speak: Speak) -> None:
    talk = speak()
    asked = {"model": "nova-3", "language": "en-US", "smart_format": "true", "utterances": "true", "something": "new"}
    answer = listen(tones_farm, talk.path.read_bytes(), **asked).json()
    (channel,) = answer["results"]["channels"]
    (best,) = channel["alternatives"]
    assert best["transcript"] == said(talk)
    assert [(word["word"], pytest.approx(word["start"], abs=0.02)) for word in best["words"]] == list(talk.words)
    assert 0 < best["confidence"] <= 1
    utterances = answer["results"]["utterances"]
    assert " ".join(one["transcript"] for one in utterances) == said(talk)
    assert answer["metadata"]["channels"] == 1
    assert answer["metadata"]["duration"] > 1
    assert tones_farm.client.get(answer["metadata"]["request_id"]).state == "done"


def test_a_body_of_unknown_length_joins_the_same_recording(tones_farm: Farm, speak: Speak) -> None:
    sound = speak().path.read_bytes()
    first = listen(tones_farm, sound).json()["metadata"]["request_id"]
    again = listen(tones_farm, (sound[at : at + 1000] for at in range(0, len(sound), 1000)), "audio/wav")
    assert again.json()["metadata"]["request_id"] == first


def test_two_channels_are_two_results(tones_farm: Farm, speak: Speak, tmp_path: Path) -> None:
    talks = speak(9), speak(9)
    sides = []
    for talk in talks:
        with wave.open(str(talk.path)) as file:
            sides.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    length = min(map(len, sides))
    with wave.open(str(tmp_path / "call.wav"), "wb") as out:
        out.setparams((2, 2, 16_000, 0, "NONE", "not compressed"))
        out.writeframes(np.stack([side[:length] for side in sides], axis=1).tobytes())
    answer = listen(tones_farm, (tmp_path / "call.wav").read_bytes(), multichannel="true", utterances="true").json()
    heard = [channel["alternatives"][0]["transcript"] for channel in answer["results"]["channels"]]
    assert heard == [said(talk) for talk in talks]
    assert {one["channel"] for one in answer["results"]["utterances"]} == {0, 1}


def test_errors_have_deepgrams_shape(tones_farm: Farm, speak: Speak) -> None:
    sound = speak().path.read_bytes()
    link = b'{"url": "http://127.0.0.1:9/talk.wav"}'
    refusals = [
        (listen(tones_farm, sound, token="wrong"), 401, "UNAUTHORIZED"),
        (listen(tones_farm, sound, language="klingonish"), 400, "INVALID_REQUEST"),
        (listen(tones_farm, b""), 400, "SOURCE_EMPTY"),
        (listen(tones_farm, b"no recording" * 99), 400, "NOT_AUDIO"),
        (listen(tones_farm, b"{}", "application/json"), 400, "INVALID_REQUEST"),
        (listen(tones_farm, link, "application/json"), 400, "ADDRESS_REFUSED"),
        (httpx.get(f"{tones_farm.url}/v1/listen", headers={"Authorization": f"Token {tones_farm.token}"}), 405, None),
    ]
    for answer, status, code in refusals:
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"err_code", "err_msg"}
        assert code in (None, answer.json()["err_code"])
