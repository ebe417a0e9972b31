"""whisper-asr-webservice's API, asked as Bazarr asks it: with `requests`, in its words, the token in the address."""

from __future__ import annotations

import json
import subprocess
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysrt
import pytest
import requests
import webvtt
from support.farm_processes import Farm, Recording

from whisper_farm import __version__
from whisper_farm.coordinator.routes.asr import AsrQuery

Speak = Callable[..., Recording]


def address(farm: Farm, token: str | None = None) -> str:
    """What somebody writes into Bazarr's settings."""
    return farm.url.replace("http://", f"http://bazarr:{token or farm.token}@")


def raw(recording: Recording) -> bytes:
    """The sound as Bazarr's FFmpeg makes it: 16 bits, 16 kHz, mono, no header."""
    with wave.open(str(recording.path)) as file:
        return file.readframes(file.getnframes())


def transcribed_by_bazarr(endpoint: str, sound: bytes, **more: str) -> requests.Response:
    """Bazarr's call, with its time-outs shortened."""
    query = {"task": "transcribe", "language": "en", "output": "srt", "encode": "false", **more}
    return requests.post(f"{endpoint}/asr", params=query, files={"audio_file": sound}, timeout=(5, 60))


def detected_by_bazarr(endpoint: str, sound: bytes) -> requests.Response:
    """Bazarr's other call."""
    return requests.post(
        f"{endpoint}/detect-language", params={"encode": "false"}, files={"audio_file": sound}, timeout=(5, 60)
    )


def said(recording: Recording) -> str:
    """Its words as one text."""
    return " ".join(word for word, _ in recording.words)


def words_of(cues: Any) -> str:
    return " ".join(" ".join(cue.text.split()) for cue in cues)


def test_bazarr_gets_a_subtitle_of_raw_sound(tones_farm: Farm, speak: Speak) -> None:
    talk = speak()
    answer = transcribed_by_bazarr(address(tones_farm), raw(talk), video_file="/films/A film (2026).mkv")
    assert answer.status_code == 200
    subtitle = pysrt.from_string(answer.content.decode())
    assert words_of(subtitle) == said(talk)
    assert subtitle[0].start.ordinal == pytest.approx(talk.words[0][1] * 1000, abs=20)


def test_an_address_may_end_in_a_slash(tones_farm: Farm, speak: Speak) -> None:
    """Bazarr puts `/asr` behind whatever it was given."""
    talk, endpoint = speak(20), f"{address(tones_farm)}/"
    assert words_of(pysrt.from_string(transcribed_by_bazarr(endpoint, raw(talk)).text)) == said(talk)
    assert detected_by_bazarr(endpoint, raw(talk)).json()["language_code"] == "en"
    assert transcribed_by_bazarr(f"{tones_farm.url}/", raw(talk)).status_code == 401


def test_bazarr_learns_the_language(tones_farm: Farm, speak: Speak) -> None:
    answer = detected_by_bazarr(address(tones_farm), raw(speak(20)))
    assert answer.json() == {"detected_language": "english", "language_code": "en", "confidence": 0.9}


def test_where_nobody_speaks_the_language_is_undetermined(tones_farm: Farm) -> None:
    answer = detected_by_bazarr(address(tones_farm), bytes(32_000 * 3))
    assert answer.json() == {"detected_language": "undetermined", "language_code": "und", "confidence": 0.0}


def test_the_language_is_found_while_others_wait_and_leaves_nothing_behind(
    idle_farm: Farm, speak: Speak, tmp_path: Path
) -> None:
    """A long recording is before it in the queue; the question is answered long before that is done."""
    idle_farm.submit(speak(2000), model="x20")
    before = {view.id for view in idle_farm.client.list()}
    with idle_farm.worker("--slots", "1", "--batch_size", "1"):
        (busy,) = [view for view in idle_farm.client.list() if view.state in ("queued", "running")]
        idle_farm.progress(busy.id, chunks_done=1)
        started = time.monotonic()
        assert detected_by_bazarr(address(idle_farm), raw(speak(40))).json()["language_code"] == "en"
        took = time.monotonic() - started
        progress = idle_farm.client.get(busy.id).progress
        assert progress.done_seconds < (progress.duration_seconds or 0) / 2, took
        assert {each.id for each in idle_farm.client.list()} == before
        idle_farm.client.cancel(busy.id)


@pytest.mark.parametrize(("door", "call", "part"), [
    ("/asr", "params", "audio_file"), ("/v1/audio/transcriptions", "data", "file"),
])  # fmt: skip
def test_subtitles_are_laid_out_as_asked_for_behind_both_doors(
    tones_farm: Farm, speak: Speak, door: str, call: str, part: str
) -> None:
    def answer(width: str) -> requests.Response:
        asked = {"output": "srt", "response_format": "srt", "max_line_width": width, "max_line_count": "1"}
        files = {part: ("talk.wav", talk.path.read_bytes(), "audio/wav")}
        headers = {"Authorization": f"Bearer {tones_farm.token}"}
        return requests.post(f"{tones_farm.url}{door}", headers=headers, timeout=60, files=files, **{call: asked})

    talk = speak()
    assert max(len(cue.text) for cue in pysrt.from_string(answer("20").text)) <= 20
    assert answer("0").status_code in (400, 422)


@pytest.mark.parametrize("output", ["txt", "vtt", "srt", "tsv", "json"])
def test_every_output_comes_as_the_original_sends_it(tones_farm: Farm, speak: Speak, output: str) -> None:
    talk = speak()
    answer = requests.post(
        f"{tones_farm.url}/asr",
        params={"output": output, "encode": "true", "word_timestamps": "true", "vad_filter": "false"},
        files={"audio_file": ("my talk.wav", talk.path.read_bytes(), "audio/wav")},
        headers={"Authorization": f"Bearer {tones_farm.token}"},
        timeout=60,
    )
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="my%20talk.wav.{output}"'
    assert answer.headers["Asr-Engine"] == "tones"
    text = answer.content.decode()
    found = {
        "txt": lambda: text,
        "vtt": lambda: words_of(webvtt.from_string(text)),
        "srt": lambda: words_of(pysrt.from_string(text)),
        "tsv": lambda: " ".join(line.split("\t")[2] for line in text.splitlines()[1:]),
        "json": lambda: json.loads(text)["text"],
    }[output]()
    assert " ".join(found.split()) == said(talk)


def test_no_error_can_be_saved_as_a_subtitle(tones_farm: Farm, speak: Speak) -> None:
    """Bazarr takes the body for the subtitle whatever the status is: there is none."""
    sound = raw(speak())
    here = address(tones_farm)
    refusals = [
        (transcribed_by_bazarr(address(tones_farm, "wrong"), sound), 401, "unauthorized"),
        (transcribed_by_bazarr(here, sound, language="klingonish"), 422, "invalid_request"),
        (transcribed_by_bazarr(here, sound, output="pdf"), 422, "invalid_request"),
        (transcribed_by_bazarr(here, sound, task="sing"), 422, "invalid_request"),
        (transcribed_by_bazarr(here, sound, task="translate"), 422, "option_unsupported"),
        (transcribed_by_bazarr(here, b""), 422, "source_empty"),
        (transcribed_by_bazarr(here, b"\0not a film\n" * 99, encode="true"), 422, "not_audio"),
        (requests.post(f"{here}/asr", data=b"x", timeout=30), 422, "invalid_request"),
        (requests.get(f"{here}/asr", timeout=30), 405, "method_not_allowed"),
    ]
    for answer, status, code in refusals:
        assert (answer.status_code, answer.content) == (status, b""), code
        assert answer.headers["Whisper-Farm-Error"].startswith(f"{code}: ")


def test_the_connection_can_be_tested_without_a_token(tones_farm: Farm) -> None:
    assert requests.get(f"{tones_farm.url}/status", timeout=30).json() == {"version": __version__}


def test_curl_may_send_raw_sound_of_unknown_length(tones_farm: Farm, speak: Speak) -> None:
    talk = speak()
    run = subprocess.run(
        ["curl", "-sS", "--max-time", "60", "-H", "Transfer-Encoding: chunked", "-F", "audio_file=@-;filename=",
         f"{address(tones_farm)}/asr?encode=false&output=txt"],
        input=raw(talk), capture_output=True, check=True, timeout=90,
    )  # fmt: skip
    assert " ".join(run.stdout.decode().split()) == said(talk)


def test_the_number_of_speakers_does_nothing_where_nobody_tells_them_apart() -> None:
    asked = {"min_speakers": "2", "max_speakers": "3"}
    assert not {"diarize", *asked} & AsrQuery.model_validate(asked).options().keys()
    told = AsrQuery.model_validate({**asked, "diarize": "true", "language": ""}).options()
    assert (told["diarize"], told["min_speakers"], told["max_speakers"]) == (True, 2, 3)
