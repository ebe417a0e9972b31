"""Any server with OpenAI's API as a recogniser: our own hears a real voice, and a server that is busy, away or broken
is asked again, or named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from support.fake_server import FakeServer, Talk
from support.farm_processes import Farm, until
from support.recordings import decoded, silence

from bench.error_rate import word_error_rate
from examples.weights import tiny_en
from whisper_farm.engines import openai, whisper_json
from whisper_farm.engines.against_speech import AgainstSpeech
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineSettings, Recognition
from whisper_farm.engines.registry import engine_traits, library_version
from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.options import RecognitionOptions

SPEECH = Path(__file__).parents[2] / "examples" / "inaugural.flac"
KNOWN = SPEECH.with_suffix(".txt").read_text(encoding="utf-8")
CALL = "POST /v1/audio/transcriptions"
HEARD = json.dumps({"language": "english", "text": "Hello.", "duration": 2}).encode()
LOADED: list[openai.OpenAIEngine] = []
WISH = RecognitionOptions(engine="openai", model="whisper-1", vad_filter=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.address}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        monkeypatch.setattr(openai, "FIRST_PAUSE_SECONDS", 0.01)
        yield server
        for engine in LOADED:
            engine._calls.shutdown()
            engine._client.close()
        LOADED.clear()


def loaded(wish: RecognitionOptions = WISH) -> Engine:
    engine = engine_traits("openai").load(wish, EngineSettings(slots=4), lambda _: None)
    assert isinstance(engine, AgainstSpeech)
    assert isinstance(engine.engine, openai.OpenAIEngine)
    LOADED.append(engine.engine)
    return engine


def heard(*chunks: ChunkAudio, cancelled: Callable[[int], bool] = lambda _: False) -> list[Recognition]:
    found = dict(loaded().recognise(chunks or [ChunkAudio(silence(2))], WISH, cancelled))
    return [found[index] for index in sorted(found)]


def said(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


def refused(status: int, after: str | None = None) -> Callable[[Talk], None]:
    """An answer with this status, and a word about when to come again."""

    def answer(talk: Talk) -> None:
        talk.send_response(status)
        if after is not None:
            talk.send_header("Retry-After", after)
        talk.send_header("Content-Length", "0")
        talk.end_headers()

    return answer


@pytest.mark.slow
def test_our_own_door_on_another_port_hears_a_real_voice_for_a_farm(tmp_path: Path) -> None:
    settings = {"WHISPER_FARM_DEFAULT_MODEL": str(tiny_en()), "WHISPER_FARM_LOCAL_MODELS": "true"}
    patient = {"WHISPER_FARM_LEASE_SECONDS": "60", "WHISPER_FARM_HEARTBEAT_SECONDS": "2"}
    whisper = ("--engine", "faster-whisper", "--device", "cpu", "--slots", "1", "--batch_size", "1")
    with Farm(tmp_path / "there", settings=settings | patient) as there, there.worker(*whisper):
        until(lambda: list(there.client.workers()), "the worker is there")
        run = subprocess.run(
            [
                *(sys.executable, "-m", "whisper_farm", "transcribe", str(SPEECH), "--engine", "openai"),
                *("-o", str(tmp_path), "-f", "json", "--quiet"),
            ],
            env={
                **os.environ,
                "WHISPER_FARM_DATA": str(tmp_path / "here"),
                "OPENAI_BASE_URL": f"{there.url}/v1",
                "OPENAI_API_KEY": there.token,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert (run.returncode, run.stderr) == (0, "")
    transcript = from_json(json.loads((tmp_path / "inaugural.json").read_text(encoding="utf-8")))
    assert word_error_rate(KNOWN, transcript.text) == 0
    maker = transcript.maker
    assert (maker.engine, maker.version, maker.model, transcript.language) == ("openai", "127.0.0.1", "whisper-1", "en")
    words = [word for segment in transcript.segments for word in segment.words]
    assert len(words) == len(transcript.text.split())
    assert all(0 <= word.start <= word.end <= transcript.duration for word in words)


def test_a_chunk_goes_as_flac_with_key_model_language_and_prompt(server: FakeServer) -> None:
    server.tell(CALL, (200, HEARD))
    server.tell("POST /v1/audio/translations", (200, HEARD))
    wish = WISH.model_copy(update={"hotwords": "Ada", "initial_prompt": "Byron"})
    sound = decoded(SPEECH.read_bytes())
    [(_, one)] = list(loaded().recognise([ChunkAudio(sound, None, "de")], wish, lambda _: False))
    assert said(one) == " Hello."
    asked = server.asked[0]
    assert asked.headers["Authorization"] == "Bearer sk-secret"
    fields = {part.split(b'"')[1]: part.partition(b"\r\n\r\n")[2].strip(b"\r\n-") for part in parts(asked.body)}
    sent = fields.pop(b"file")
    assert len(decoded(sent + b"\r\n")) == pytest.approx(len(sound), abs=1)
    assert fields == {
        b"model": b"whisper-1", b"response_format": b"verbose_json", b"timestamp_granularities[]": b"segment",
        b"prompt": b"Ada Byron", b"language": b"de",
    }  # fmt: skip
    wish = wish.model_copy(update={"task": "translate", "word_timestamps": False})
    assert list(loaded(wish).recognise([ChunkAudio(sound, "de")], wish, lambda _: False))
    assert server.asked[1].path == "/v1/audio/translations"
    assert b'name="language"' not in server.asked[1].body


def parts(body: bytes) -> list[bytes]:
    return [part for part in body.split(body.partition(b"\r\n")[0]) if b'name="' in part]


def test_words_beside_the_segments_get_the_marks_and_spaces_of_the_text(server: FakeServer) -> None:
    words = [("Yes", 0.1, 0.4), ("it", 0.5, 0.6), ("is", 0.6, 0.8), ("No", 1.2, 1.5)]
    answer = {
        "language": "english", "text": "Yes, it is. No!",
        "segments": [{"start": 0, "end": 1, "text": " Yes, it is."}, {"start": 1, "end": 9, "text": "No!"}],
        "words": [{"word": word, "start": start, "end": end} for word, start, end in words],
    }  # fmt: skip
    server.tell(CALL, (200, json.dumps(answer).encode()))
    (one,) = heard()
    assert [[word.text for word in segment.words] for segment in one.segments] == [[" Yes,", " it", " is."], [" No!"]]
    assert [(segment.start, segment.end) for segment in one.segments] == [(0, 1), (1, 2)]
    assert one.language == "en"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408, 409])
def test_a_server_that_is_busy_is_asked_again(server: FakeServer, status: int) -> None:
    server.tell(CALL, refused(status), refused(status), (200, HEARD))
    assert [said(one) for one in heard()] == [" Hello."]
    assert len(server.asked) == 3


@pytest.mark.parametrize("as_date", [False, True])
def test_no_slot_asks_before_the_server_wants_to_be_asked(server: FakeServer, as_date: bool) -> None:
    when = (datetime.now(UTC) + timedelta(seconds=3)).replace(microsecond=0)
    server.tell(CALL, refused(429, format_datetime(when, usegmt=True) if as_date else "3"), (200, HEARD))
    engine = loaded()
    ask = engine.recognise([ChunkAudio(silence(1))], WISH, lambda _: False)
    other = threading.Thread(target=lambda: list(engine.recognise([ChunkAudio(silence(1))], WISH, lambda _: False)))
    first = threading.Thread(target=lambda: list(ask))
    first.start()
    until(lambda: LOADED[-1]._not_before, "the engine knows that it is to wait")
    other.start()
    first.join(60)
    other.join(60)
    assert len(server.asked) == 3
    assert datetime.now(UTC) > when - timedelta(seconds=0.1), "two clocks tell the time"


@pytest.mark.parametrize("answer", [refused(429, "86400"), refused(503), refused(429, "9" * 400)])
def test_patience_has_an_end_and_the_chunk_may_go_elsewhere(
    server: FakeServer, answer: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "TOTAL_SECONDS", 0.5)
    server.tell(CALL, answer)
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1 did not answer in 0\.5 s"):
        heard()


def test_a_server_that_is_away_or_hangs_up_is_asked_again_and_then_named(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tell(CALL, Talk.hang_up, (200, HEARD))
    assert [said(one) for one in heard()] == [" Hello."]
    monkeypatch.setattr(openai, "FIRST_PAUSE_SECONDS", openai.TOTAL_SECONDS + 1)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(EngineUnavailable, match="cannot be reached: ConnectError"):
        heard()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, EngineUnavailable, "does not accept OPENAI_API_KEY"),
        (404, ModelUnavailable, "no model 'whisper-1'"),
        (400, EngineError, r"refused a chunk \(status 400\): it is sk"),
        (413, EngineError, "status 413"),
        (302, EngineUnavailable, "status 302"),
    ],
)
def test_a_refusal_is_told_and_the_key_of_the_worker_never(
    server: FakeServer, status: int, error: type[EngineError], words: str
) -> None:
    server.tell(CALL, (status, b"it is sk\x00" + b"x" * 10_000))
    with pytest.raises(error, match=words) as told:
        heard()
    assert "secret" not in str(told.value)
    assert len(str(told.value)) < 500
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{" * 50_000, b"\xff"])
def test_an_answer_that_is_not_whispers_json_is_named(server: FakeServer, body: bytes) -> None:
    server.tell(CALL, (200, body))
    with pytest.raises(EngineError, match=r"127\.0\.0\.1 wrote something that is not Whisper's JSON"):
        heard()


def test_an_answer_without_end_is_cut_off(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "MOST_BYTES", 10)
    assert whisper_json.MOST_BYTES == 16 << 20
    server.tell(CALL, (200, HEARD))
    with pytest.raises(EngineError, match="more than 0 MB"):
        heard()


def test_a_server_that_goes_on_thinking_is_given_up(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "TOTAL_SECONDS", 0.5)
    thinking = threading.Event()
    server.tell(CALL, lambda talk: thinking.wait(60) and talk.hang_up())
    try:
        with pytest.raises(EngineUnavailable, match="still busy"):
            heard()
    finally:
        thinking.set()


def test_a_chunk_that_nobody_wants_any_more_is_let_go_while_the_server_thinks(server: FakeServer) -> None:
    thinking = threading.Event()
    server.tell(CALL, lambda talk: thinking.wait(60) and talk.hang_up())
    try:
        assert heard(cancelled=lambda _: bool(server.asked)) == []
        assert heard(cancelled=lambda _: True) == []
        assert len(server.asked) == 1
    finally:
        thinking.set()


@pytest.mark.parametrize("address", ["", "ftp://example.org", "no address"])
def test_a_worker_without_a_server_says_what_it_needs(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EngineUnavailable, match="needs OPENAI_API_KEY"):
        library_version(engine_traits("openai"))
    if not address:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        assert library_version(engine_traits("openai")) == "api.openai.com"
