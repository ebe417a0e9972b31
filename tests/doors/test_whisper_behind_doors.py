"""Real Whisper behind other programs' APIs: what their clients get is what was said."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import openai
import pysrt
import pytest
import requests
from faster_whisper.audio import decode_audio
from openai import OpenAI
from support.farm_processes import Farm
from support.real_whisper import SPEECH, farm_with_whisper, wrong
from support.recordings import two_voices

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


def test_each_program_gets_two_voices_told_apart_in_its_own_form(listening: Farm, tmp_path: Path) -> None:
    """Recognised once: they ask for the same."""
    clip = two_voices(tmp_path / "clip.flac")
    with OpenAI(base_url=f"{listening.url}/v1", api_key=listening.token, _strict_response_validation=True) as client:
        create = client.audio.transcriptions.create
        heard: Any = create(
            model="gpt-4o-transcribe-diarize", file=clip, response_format="diarized_json", language="en"
        )
        vtt = create(model="gpt-4o-transcribe-diarize", file=clip, response_format="vtt", language="en")
        assert "gpt-4o-transcribe-diarize" in [model.id for model in client.models.list()]
    assert turns(one.speaker for one in heard.segments) == ["A", "B", "A", "B"]
    assert "<v Speaker 2>" in vtt
    headers = {"Authorization": f"Bearer {listening.token}"}
    asked = {"language": "en", "diarize": "true", "utterances": "true"}
    sound = clip.read_bytes()
    listened = httpx.post(f"{listening.url}/v1/listen", params=asked, content=sound, headers=headers, timeout=90).json()
    (best,) = listened["results"]["channels"][0]["alternatives"]
    assert turns(word["speaker"] for word in best["words"]) == [0, 1, 0, 1]
    assert turns(one["speaker"] for one in listened["results"]["utterances"]) == [0, 1, 0, 1]
    query = {"language": "en", "diarize": "true", "output": "srt"}
    subtitles = requests.post(
        f"{listening.url}/asr", params=query, files={"audio_file": ("clip.flac", sound)}, headers=headers, timeout=90
    )
    names = [cue.text.partition(":")[0] for cue in pysrt.from_string(subtitles.text) if ":" in cue.text]
    assert names == ["Speaker 1", "Speaker 2"] * 2
    assert len([one for one in listening.client.list() if one.options.diarize]) == 1


def turns(speakers: Any) -> list[Any]:
    return [speaker for speaker, _ in groupby(speakers)]
