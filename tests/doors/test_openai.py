"""OpenAI's own client, unmodified, and curl: every parameter, format and error, against a farm that hears tones.

The client checks each answer strictly against OpenAI's types.
"""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pysrt
import pytest
import webvtt
from openai import OpenAI
from support.farm_processes import Farm, Recording, until
from support.served_farm import files_in

Speak = Callable[..., Recording]
WHISPER = "whisper-1"
OPENAI_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")


def said(recording: Recording) -> str:
    """Its words as one text."""
    return " ".join(word for word, _ in recording.words)


def curl(farm: Farm, *arguments: str, path: str = "/v1/audio/transcriptions", stdin: bytes = b"") -> tuple[int, str]:
    """What curl gets: status and body."""
    always = ["-sS", "--max-time", "60", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {farm.token}"]
    run = subprocess.run(
        ["curl", *always, *arguments, farm.url + path], input=stdin, capture_output=True, check=True, timeout=90
    )
    body, _, status = run.stdout.decode().rpartition("\n")
    return int(status), body


def test_the_plain_call_of_the_client_gets_every_word(openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    with talk.path.open("rb") as file:
        heard = openai_client.audio.transcriptions.create(model=WHISPER, file=file)
    assert heard.text == said(talk)
    assert heard.usage is not None
    assert heard.usage.type == "duration"


def test_segments_come_by_default_and_words_when_asked_for(openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    create = openai_client.audio.transcriptions.create
    plain = create(model=WHISPER, file=talk.path, response_format="verbose_json")
    words = create(model=WHISPER, file=talk.path, response_format="verbose_json", timestamp_granularities=["word"])
    both = create(
        model=WHISPER, file=talk.path, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert plain.text == words.text == both.text == said(talk)
    assert plain.language == "english"
    assert plain.segments
    assert plain.words is None
    assert words.words
    assert words.segments is None
    assert both.words == words.words
    assert both.segments == plain.segments
    assert [(word.word, pytest.approx(word.start, abs=0.02)) for word in words.words] == list(talk.words)
    assert plain.duration == both.duration > 1


def test_two_speakers_in_two_channels_are_told_apart(openai_client: OpenAI, speak: Speak, tmp_path: Path) -> None:
    """The farm's own `channel=each` says that they are apart. A name is wanted of whoever has no channel, too."""
    talks = speak(9), speak(7)
    sides = []
    for talk in talks:
        with wave.open(str(talk.path)) as file:
            sides.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    length = max(len(side) for side in sides)
    call = tmp_path / "call.wav"
    with wave.open(str(call), "wb") as out:
        out.setparams((2, 2, 16_000, 0, "NONE", "not compressed"))
        out.writeframes(np.stack([np.pad(side, (0, length - len(side))) for side in sides], axis=1).tobytes())
    create = partial(openai_client.audio.transcriptions.create, model=WHISPER, response_format="diarized_json")
    heard: Any = create(file=call, extra_body={"channel": "each"})
    assert {segment.speaker for segment in heard.segments} == {"Left", "Right"}
    for speaker, talk in zip(("Left", "Right"), talks, strict=True):
        spoken = "".join(segment.text for segment in heard.segments if segment.speaker == speaker)
        assert spoken.split() == said(talk).split()
    events: list[Any] = list(create(file=call, stream=True, extra_body={"channel": "each"}))
    told = [event for event in events if event.type == "transcript.text.segment"]
    assert [(one.speaker, one.text) for one in told] == [(one.speaker, one.text) for one in heard.segments]
    assert events[-1].type == "transcript.text.done"
    alone: Any = create(file=talks[0].path, extra_body={"channel": "each"})
    assert {segment.speaker for segment in alone.segments} == {"unknown"}


def test_srt_vtt_and_text_are_the_body_itself(openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    create = openai_client.audio.transcriptions.create
    assert create(model=WHISPER, file=talk.path, response_format="text") == said(talk) + "\n"
    srt = pysrt.from_string(create(model=WHISPER, file=talk.path, response_format="srt"))
    assert " ".join(cue.text.replace("\n", " ") for cue in srt) == said(talk)
    vtt = webvtt.from_string(create(model=WHISPER, file=talk.path, response_format="vtt"))
    assert " ".join(cue.text.replace("\n", " ") for cue in vtt.captions) == said(talk)


@pytest.mark.parametrize("format", [each for each in OPENAI_FORMATS if each != "verbose_json"])
def test_times_of_words_need_verbose_json(openai_client: OpenAI, speak: Speak, format: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.audio.transcriptions.create(
            model=WHISPER, file=speak().path, response_format=format, timestamp_granularities=["word"]
        )
    assert refused.value.param == "timestamp_granularities"
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"response_format": "mp3"}, "response_format"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"language": "klingonish"}, "language"),
        ({"timestamp_granularities": ["letter"]}, "timestamp_granularities"),
    ],
)
def test_a_wrong_parameter_is_named(openai_client: OpenAI, speak: Speak, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.audio.transcriptions.create(model=WHISPER, file=speak().path, **given)
    assert refused.value.param == param


def test_errors_are_those_that_the_client_knows(tones_farm: Farm, openai_client: OpenAI, speak: Speak) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        openai_client.audio.transcriptions.create(model="whisper-9", file=speak().path)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError) as stranger:
        openai_client.with_options(api_key="sk-wrong").models.list()
    assert stranger.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as empty:
        openai_client.audio.transcriptions.create(model=WHISPER, file=b"")
    assert empty.value.code == "source_empty"
    with pytest.raises(openai.BadRequestError) as noise:
        openai_client.audio.transcriptions.create(model=WHISPER, file=b"this is no recording" * 100)
    assert noise.value.code == "not_audio"
    with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(openai.BadRequestError) as foreign:
        openai_client.audio.translations.create(model=WHISPER, file=speak().path)
    assert foreign.value.code == "option_unsupported"
    with pytest.raises(openai.NotFoundError):
        openai_client.post("/audio/speech", cast_to=object, body={})


def test_every_other_parameter_does_no_harm(tones_farm: Farm, openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    heard = openai_client.audio.transcriptions.create(
        model=WHISPER,
        file=talk.path,
        language="en",
        prompt="Names: Ann, Bob. " * 500,
        temperature=0.4,
        chunking_strategy={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200, "prefix_padding_ms": 9},
        include=["logprobs"],
        known_speaker_names=["ann"],
        known_speaker_references=["data:audio/wav;base64," + "A" * 400_000],
        keywords=["farm", "whisper"],
        languages=["en"],
        extra_body={"keywords[]": ["Ann"], "something_new": {"deep": ["er"]}},
    )
    assert heard.text == said(talk)
    assert next(iter(tones_farm.client.list())).options.hotwords == "Ann, farm, whisper"
    assert heard.logprobs is not None
    assert [each.token.strip() for each in heard.logprobs if each.token] == [word for word, _ in talk.words]
    assert all(each.logprob is not None and each.logprob <= 0 for each in heard.logprobs)


def test_the_models_are_listed_and_found(tones_farm: Farm, openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    openai_client.audio.transcriptions.create(model=WHISPER, file=talk.path)
    names = [model.id for model in openai_client.models.list()]
    assert names[0] == WHISPER
    assert openai_client.models.retrieve(WHISPER).id == WHISPER
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("whisper-9")
    bare = httpx.get(f"{tones_farm.url}/models", headers={"Authorization": f"Bearer {tones_farm.token}"})
    assert [model["id"] for model in bare.json()["data"]] == names
    assert openai_client.audio.transcriptions.create(model=names[-1], file=talk.path).text == said(talk)


def test_deltas_come_in_order_and_make_the_whole_text(idle_farm: Farm, speak: Speak) -> None:
    """Three slow slots finish chunks in any order; the first words are told long before the last are heard."""
    talk = speak(400)
    events: list[Any] = []
    with (
        OpenAI(base_url=f"{idle_farm.url}/v1", api_key=idle_farm.token, max_retries=0, timeout=60) as client,
        idle_farm.worker("--slots", "3", "--batch_size", "1"),
    ):
        until(lambda: list(idle_farm.client.workers()), "the worker is there")
        stream = client.audio.transcriptions.create(model="tones:x20", file=talk.path, language="en", stream=True)
        events = list(stream)
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == said(talk)
    assert "".join(event.delta for event in events[:-1]) == said(talk)
    assert len(events) > 2


def test_a_stream_that_fails_says_so(openai_client: OpenAI) -> None:
    stream = openai_client.audio.transcriptions.create(model=WHISPER, file=b"no recording, either" * 99, stream=True)
    with pytest.raises(openai.APIError, match="no audio"):
        list(stream)


def test_a_stream_may_be_asked_for_with_any_format(openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    stream: Any = openai_client.audio.transcriptions.create(
        model=WHISPER, file=talk.path, stream=True, response_format="verbose_json"
    )
    assert list(stream)[-1].text == said(talk)


def test_the_same_upload_again_joins_the_one_at_work(idle_farm: Farm, speak: Speak) -> None:
    """A client that gives up after two seconds and tries twice more starts one transcription, not three."""
    talk = speak(30)
    before = len(list(idle_farm.client.list()))
    with (
        OpenAI(base_url=f"{idle_farm.url}/v1", api_key=idle_farm.token, max_retries=2, timeout=2) as hasty,
        pytest.raises(openai.APITimeoutError),
    ):
        hasty.audio.transcriptions.create(model=WHISPER, file=talk.path)
    assert len(list(idle_farm.client.list())) == before + 1
    blobs = files_in(idle_farm.data / "blobs" / "sources")
    assert len([path for path in blobs if path.read_bytes() == talk.path.read_bytes()]) == 1
    with (
        OpenAI(base_url=f"{idle_farm.url}/v1", api_key=idle_farm.token, max_retries=0, timeout=60) as patient,
        ThreadPoolExecutor(3) as threads,
    ):
        answers = [
            threads.submit(patient.audio.transcriptions.create, model=WHISPER, file=talk.path, response_format=format)
            for format in ("json", "verbose_json", "json")
        ]
        with idle_farm.worker():
            assert {answer.result(60).text for answer in answers} == {said(talk)}
    assert len(list(idle_farm.client.list())) == before + 1


def test_another_owner_joins_nothing(tones_farm: Farm, openai_client: OpenAI, speak: Speak) -> None:
    talk = speak()
    ids = set()
    for owner in ("ann", "bob"):
        made = httpx.post(
            f"{tones_farm.url}/api/tokens",
            headers={"Authorization": f"Bearer {tones_farm.token}"},
            json={"name": "key", "scope": "user", "owner": owner},
        ).json()
        heard = openai_client.with_options(api_key=made["token"]).audio.transcriptions.with_raw_response.create(
            model=WHISPER, file=talk.path
        )
        ids.add(heard.headers["Whisper-Farm-Transcription"])
    assert len(ids) == 2


def test_curl_may_send_the_file_first_or_last_and_without_a_name(tones_farm: Farm, speak: Speak) -> None:
    talk = speak()
    sound = talk.path.read_bytes()
    expected = (200, said(talk) + "\n")
    text = ("-F", "response_format=text")
    for path in ("/v1/audio/transcriptions", "/audio/transcriptions"):
        first = curl(tones_farm, "-F", f"file=@{talk.path}", "-F", f"model={WHISPER}", *text, path=path)
        last = curl(tones_farm, "-F", f"model={WHISPER}", *text, "-F", f"file=@{talk.path}", path=path)
        assert first == last == expected
    assert curl(tones_farm, *text, "-F", "file=<-", stdin=sound) == expected
    chunked = ("-H", "Transfer-Encoding: chunked")
    assert curl(tones_farm, *chunked, *text, "-F", "file=@-;filename=", stdin=sound) == expected


def test_a_form_that_is_none_is_refused_and_leaves_no_blob(tones_farm: Farm, speak: Speak) -> None:
    def blobs() -> int:
        return len(files_in(tones_farm.data / "blobs" / "sources"))

    before = blobs()
    sound = speak().path.read_bytes()
    url = f"{tones_farm.url}/v1/audio/transcriptions"
    form = {"Authorization": f"Bearer {tones_farm.token}", "Content-Type": "multipart/form-data; boundary=abc"}
    head = b'--abc\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    bodies: list[tuple[bytes, dict[str, str]]] = [
        (b"", form),
        (b"{}", {**form, "Content-Type": "application/json"}),
        (head + sound, form),
        (head + sound + b"\r\n--abc", form),
        (b"nonsense" * 100, form),
        (b'--abc\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--abc--\r\n', form),
        (
            head
            + sound
            + b"\r\n"
            + b'--abc\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 300
            + b"--abc--",
            form,
        ),
        (head + sound + b'\r\n--abc\r\nContent-Disposition: form-data; name="model"\r\n\r\nno\r\n--abc--', form),
    ]
    for body, headers in bodies:
        answer = httpx.post(url, content=body, headers=headers, timeout=30)
        assert answer.status_code in (400, 404), answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert blobs() == before
