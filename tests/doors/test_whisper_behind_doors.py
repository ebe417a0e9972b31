"""Real Whisper behind other programs' APIs: what their clients get is what was said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pysrt
import pytest
import requests
from faster_whisper.audio import decode_audio
from openai import OpenAI
from support.farm_processes import Farm, until

from bench.error_rate import word_error_rate
from examples.weights import tiny_en

pytestmark = pytest.mark.timeout(600)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SPEECH = EXAMPLES / "inaugural.flac"
WHISPER = ("--engine", "faster-whisper", "--device", "cpu", "--slots", "1", "--batch_size", "1")


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose `whisper-1` is tiny.en."""
    settings = {
        "WHISPER_FARM_DEFAULT_MODEL": str(tiny_en()),
        "WHISPER_FARM_LOCAL_MODELS": "true",
        "WHISPER_FARM_LEASE_SECONDS": "60",
        "WHISPER_FARM_HEARTBEAT_SECONDS": "2",
    }
    with Farm(tmp_path_factory.mktemp("whisper_doors"), settings=settings) as farm, farm.worker(*WHISPER):
        until(lambda: list(farm.client.workers()), "the worker is there")
        yield farm


def wrong(text: str) -> float:
    """The word error rate against the known words."""
    return word_error_rate(SPEECH.with_suffix(".txt").read_text(encoding="utf-8"), text)


def test_openais_client_gets_a_real_speaker_to_the_word(listening: Farm) -> None:
    with OpenAI(base_url=f"{listening.url}/v1", api_key=listening.token, _strict_response_validation=True) as client:
        heard = client.audio.transcriptions.create(
            model="whisper-1", file=SPEECH, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
        deltas = list(client.audio.transcriptions.create(model="whisper-1", file=SPEECH, stream=True))
        with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(openai.BadRequestError):
            client.audio.translations.create(model="whisper-1", file=SPEECH)  # an English model translates nothing
    assert wrong(heard.text) == 0
    assert heard.language == "english"
    assert heard.words
    assert heard.segments
    assert all(0 <= word.start <= word.end <= heard.duration for word in heard.words)
    assert 10 < heard.duration < 12
    assert wrong(getattr(deltas[-1], "text", "")) == 0


def test_bazarr_gets_a_real_speaker_to_the_word(listening: Farm) -> None:
    sound = (decode_audio(str(SPEECH)) * 32767).astype("<i2").tobytes()
    endpoint = listening.url.replace("http://", f"http://bazarr:{listening.token}@")
    file = {"audio_file": sound}
    found = requests.post(f"{endpoint}/detect-language", params={"encode": "false"}, files=file, timeout=300)
    query = {"task": "transcribe", "language": "en", "output": "srt", "encode": "false"}
    answer = requests.post(f"{endpoint}/asr", params=query, files=file, timeout=300)
    assert found.json()["language_code"] == "en"
    assert wrong(" ".join(cue.text for cue in pysrt.from_string(answer.text))) == 0
