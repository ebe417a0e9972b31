"""LiteLLM, LangChain, and a client generated from our OpenAPI document, each as it comes from the package index."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import pytest
from faster_whisper.audio import decode_audio
from support.farm_processes import Farm, until
from support.real_whisper import SPEECH, wrong

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its own prices, not those of the day


def test_litellm_gets_text_words_and_subtitles(farm: Farm) -> None:
    """It asks for verbose_json by itself, whatever it was asked for."""
    from litellm import transcription

    def ask(**more: Any) -> Any:
        with SPEECH.open("rb") as file:
            asked = {"model": "openai/whisper-1", "api_base": f"{farm.url}/v1", "api_key": farm.token, "max_retries": 0}
            return transcription(file=file, **asked, **more)

    plain = ask()
    assert wrong(plain.text) == 0
    words = ask(response_format="verbose_json", timestamp_granularities=["word"])
    assert wrong(" ".join(word["word"] for word in words.words)) == 0
    assert wrong(ask(language="en", prompt="Inaugural address.", temperature=0).text) < 0.1, "a hint may change it"
    assert "-->" in ask(response_format="srt").text


def test_litellm_as_if_it_spoke_to_vllm(farm: Farm) -> None:
    from litellm import transcription

    with SPEECH.open("rb") as file:
        heard = transcription(model="hosted_vllm/whisper-1", file=file, api_base=f"{farm.url}/v1", api_key=farm.token)
    assert wrong(heard.text) == 0


def test_langchains_parser_reads_a_recording(farm: Farm, tmp_path: Path) -> None:
    """It makes an MP3 of it first, and leaves out silently what it cannot send."""
    from langchain_community.document_loaders.parsers.audio import OpenAIWhisperParser
    from langchain_core.documents.base import Blob
    from pydub import AudioSegment

    AudioSegment.converter = imageio_ffmpeg.get_ffmpeg_exe()
    parser = OpenAIWhisperParser(api_key=farm.token, base_url=f"{farm.url}/v1")
    with wave.open(str(tmp_path / "talk.wav"), "wb") as out:  # of anything else it asks `ffprobe`
        out.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        out.writeframes((decode_audio(str(SPEECH)) * 32767).astype("<i2").tobytes())
    (document,) = parser.lazy_parse(Blob.from_path(tmp_path / "talk.wav"))
    assert wrong(document.page_content) < 0.1


@pytest.fixture(scope="module")
def generated(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a package that `openapi-python-client` has made of the document that the farm serves."""
    folder = tmp_path_factory.mktemp("generated")
    document = httpx.get(f"{farm.url}/openapi.json", headers={"Authorization": f"Bearer {farm.token}"}).json()
    (folder / "openapi.json").write_text(json.dumps(document))
    subprocess.run(
        [Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", folder / "openapi.json",
         "--output-path", folder / "generated_farm", "--meta", "none"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    sys.path.insert(0, str(folder))
    yield "generated_farm"
    sys.path.remove(str(folder))


def test_a_generated_client_submits_follows_and_takes_a_transcript(farm: Farm, generated: str) -> None:
    """Every answer is parsed into the classes that the generator made of our document."""
    api, models = f"{generated}.api", importlib.import_module(f"{generated}.models")
    client = importlib.import_module(generated).AuthenticatedClient(base_url=farm.url, token=farm.token)
    file = importlib.import_module(f"{generated}.types").File

    def call(name: str, *given: Any, **named: Any) -> Any:
        answer = importlib.import_module(f"{api}.{name}").sync_detailed(*given, client=client, **named)
        assert answer.status_code < 300, answer.content
        return answer.parsed

    def transcription() -> Any:
        view = call("transcriptions.get_transcription", made.id)
        return view if view.finished_at else None

    upload = call("uploads.start_upload", body=models.UploadStart(name="talk.flac", size=SPEECH.stat().st_size))
    with SPEECH.open("rb") as content:
        call("uploads.send_upload", upload.upload_id, body=file(payload=content))
    options = models.RecognitionOptions(model=farm.client.get(first(farm)).options.model)
    asked = models.Submission(name="talk.flac", upload_id=upload.upload_id, options=options, key="generated")
    made = call("transcriptions.submit", body=asked)
    assert call("transcriptions.submit", body=asked).id == made.id
    done = until(transcription, "it is finished")
    assert (done.state, done.progress.duration_seconds) == ("done", pytest.approx(11, abs=1))
    assert made.id in [each.id for each in call("transcriptions.list_transcriptions").transcriptions]
    segments = call("transcriptions.list_segments", made.id)
    assert segments.finished
    assert wrong(" ".join(segment.text for segment in segments.segments)) == 0
    for format in models.GetTranscriptFormat:
        assert call("transcriptions.get_transcript", made.id, format_=format)
    assert wrong(json.loads(call("transcriptions.get_transcript", made.id))["text"]) == 0
    assert [job.kind for job in call("transcriptions.list_jobs", made.id).jobs]
    hook = call("webhooks.create_webhook", body=models.NewWebhook(url="https://93.184.216.34/told", progress=True))
    assert [each.id for each in call("webhooks.list_webhooks").webhooks] == [hook.id]
    assert call("webhooks.remove_webhook", hook.id) is None
    missing = importlib.import_module(f"{api}.transcriptions.get_transcription").sync("nobody", client=client)
    assert missing.error.code == "not_found"


def first(farm: Farm) -> str:
    """A transcription that another client has asked for."""
    with SPEECH.open("rb") as file:
        answer = httpx.post(
            f"{farm.url}/v1/audio/transcriptions",
            files={"file": file},
            headers={"Authorization": f"Bearer {farm.token}"},
            timeout=60,
        )
    return answer.headers["Whisper-Farm-Transcription"]


def test_deepgrams_client_gets_words_and_utterances(farm: Farm) -> None:
    from deepgram import DeepgramClient
    from deepgram.environment import DeepgramClientEnvironment

    here = DeepgramClientEnvironment(base=farm.url, production=farm.url, agent=farm.url, agent_rest=farm.url)
    client = DeepgramClient(api_key=farm.token, environment=here)
    answer = client.listen.v1.media.transcribe_file(
        request=SPEECH.read_bytes(), model="nova-3", language="en", smart_format=True, utterances=True, diarize=True
    )
    (channel,) = answer.results.channels
    (best,) = channel.alternatives
    assert wrong(best.transcript) == 0
    assert wrong(" ".join(word.punctuated_word for word in best.words)) == 0
    assert wrong(" ".join(one.transcript for one in answer.results.utterances)) == 0
    assert {word.speaker for word in best.words} == {0}
    assert 10 < answer.metadata.duration < 12
