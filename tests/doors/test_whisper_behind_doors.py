"""Real Whisper behind other programs' APIs: what their clients get is what was said."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pysrt
import pytest
import requests
from faster_whisper.audio import decode_audio
from openai import OpenAI
from support.farm_processes import Farm
from support.real_whisper import SPEECH, farm_with_whisper, wrong

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm_with_whisper(tmp_path_factory.mktemp("whisper_doors")) as farm:
        yield farm


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
