"""Finding and fetching models: in folders, in the cache, and on a model hub on loopback that fails in every way."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.model_hub import BIG, COMMIT, ModelHub, model_hub

from whisper_farm.engines import cache, voices
from whisper_farm.engines import hub as fetching
from whisper_farm.engines.choose import choose_model
from whisper_farm.engines.engine import EngineSettings, FetchProgress
from whisper_farm.errors import EngineUnavailable, ModelUnavailable, SpeakersUnavailable

FILES = {
    "config.json": b'{"alignment_heads": []}',
    "tokenizer.json": b"{}" * 1000,
    "vocabulary.json": b"[]",
    "README.md": b"not a part of the model",
    BIG: bytes(range(256)) * 6000,
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.01)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with model_hub(folder) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    return EngineSettings(model_dir=str(tmp_path / "cache"))


def find(
    settings: EngineSettings, model: str = "small", revision: str | None = None
) -> tuple[cache.FoundModel, list[FetchProgress]]:
    told: list[FetchProgress] = []
    return fetching.find_model(model, settings, told.append, revision), told


def part_of_big(settings: EngineSettings) -> Path:
    """Where what there is of the big file waits for the rest."""
    folder = cache.repository_folder(cache.REPOSITORIES["small"], settings.model_dir)
    return folder / "partial" / hashlib.sha256(FILES[BIG]).hexdigest()


def test_a_model_is_fetched_with_progress_and_found_without_the_network_thereafter(
    hub: ModelHub, settings: EngineSettings
) -> None:
    found, told = find(settings)
    assert found.revision == COMMIT
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == {
        name: content for name, content in FILES.items() if name != "README.md"
    }
    done = [each.done_bytes for each in told]
    assert done == sorted(done)
    assert (told[-1].model, done[-1]) == ("small", told[-1].total_bytes)
    hub.requests.clear()
    again, told = find(settings)
    assert (again, told, hub.requests) == (found, [], [])
    assert cache.models_on_disk(settings.model_dir) == [found]


def test_a_pinned_revision_is_asked_for_and_found(hub: ModelHub, settings: EngineSettings) -> None:
    found, _ = find(settings, "some/model", COMMIT)
    assert found.revision == COMMIT
    assert hub.requests[0].startswith(f"/api/models/some/model/revision/{COMMIT}")
    assert cache.local_model("some/model", COMMIT, settings.model_dir) == found
    assert cache.local_model("some/model", "f" * 40, settings.model_dir) is None


def test_a_fetch_that_is_cut_off_goes_on_where_it_was(hub: ModelHub, settings: EngineSettings) -> None:
    hub.cut_after = 600_000
    found, told = find(settings)
    assert (found.path / BIG).read_bytes() == FILES[BIG]
    assert [request.partition(" ")[2] for request in hub.requests if BIG in request] == [
        "",
        "bytes=600000-",
        "bytes=1200000-",
    ]
    assert told[-1].done_bytes == told[-1].total_bytes


def test_a_fetch_that_failed_is_continued_by_the_next_command(
    hub: ModelHub, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_on = fetching._read_on

    def impatient(client: httpx.Client, *told: Any) -> None:
        if BIG in told[0]:
            assert client.timeout.read == fetching.STALL_SECONDS
            client.timeout = httpx.Timeout(0.3)
        read_on(client, *told)

    hub.stall_after = 500_000
    with monkeypatch.context() as hurried:
        hurried.setattr(fetching, "_read_on", impatient)
        with pytest.raises(ModelUnavailable, match=r"stalled.*run the same command again"):
            find(settings)
    assert cache.local_model("small", None, settings.model_dir) is None
    hub.stall_after = None
    hub.requests.clear()
    kept = part_of_big(settings).stat().st_size  # a busy machine may have less of it in time
    found, _ = find(settings)
    assert (found.path / BIG).read_bytes() == FILES[BIG]
    assert [request.partition(" ")[2] for request in hub.requests if BIG in request] == [f"bytes={kept}-" * bool(kept)]


def test_a_hub_that_knows_no_ranges_is_read_from_the_start(hub: ModelHub, settings: EngineSettings) -> None:
    part = part_of_big(settings)
    part.parent.mkdir(parents=True)
    hub.ranges = False
    part.write_bytes(b"x" * 1000)
    found, told = find(settings)
    assert (found.path / BIG).read_bytes() == FILES[BIG]
    assert told[-1].done_bytes == told[-1].total_bytes


def test_a_hub_that_never_gets_on_is_given_up(hub: ModelHub, settings: EngineSettings) -> None:
    hub.cut_after = 0
    with pytest.raises(ModelUnavailable, match=r"cannot be reached for model\.bin"):
        find(settings)
    assert len([request for request in hub.requests if BIG in request]) == fetching.TRIES


def test_a_file_with_the_wrong_hash_is_thrown_away(hub: ModelHub, settings: EngineSettings) -> None:
    hub.tamper = True
    with pytest.raises(ModelUnavailable, match=r"model.bin .* not what the hub declared"):
        find(settings)
    assert cache.local_model("small", None, settings.model_dir) is None
    hub.tamper = False
    found, _ = find(settings)
    assert (found.path / BIG).read_bytes() == FILES[BIG]


def test_a_hub_that_falls_silent_at_once_is_given_up(settings: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STALL_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            find(settings)


@pytest.mark.parametrize(("status", "words"), [(404, "has no"), (401, "HF_TOKEN"), (503, "refused")])
def test_a_refusal_says_what_to_do(hub: ModelHub, settings: EngineSettings, status: int, words: str) -> None:
    hub.status = status
    with pytest.raises(ModelUnavailable, match=words):
        find(settings)


def test_the_token_is_sent(hub: ModelHub, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    find(settings)
    assert hub.tokens == {"Bearer secret"}


def test_a_repository_without_a_converted_model_is_refused(hub: ModelHub, settings: EngineSettings) -> None:
    (hub.folder / BIG).unlink()
    with pytest.raises(ModelUnavailable, match="CTranslate2"):
        find(settings, "openai/whisper-small")


def test_two_that_want_the_same_model_fetch_it_once(hub: ModelHub, settings: EngineSettings) -> None:
    answers: list[cache.FoundModel] = []
    threads = [threading.Thread(target=lambda: answers.append(find(settings)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 3
    assert len(set(answers)) == 1
    assert len([request for request in hub.requests if BIG in request]) == 1


def test_local_files_only_asks_no_network(hub: ModelHub, settings: EngineSettings, tmp_path: Path) -> None:
    offline = EngineSettings(model_dir=settings.model_dir, local_files_only=True)
    with pytest.raises(ModelUnavailable, match="switched off"):
        find(offline)
    assert hub.requests == []


def test_a_plain_folder_is_a_model_known_by_its_content(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / f"copy {number} – ü"
        folder.mkdir()
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
    first, second = (cache.local_model(str(tmp_path / f"copy {number} – ü")) for number in range(2))
    assert first is not None
    assert second is not None
    assert first.revision == second.revision
    (second.path / BIG).write_bytes(FILES[BIG][:-1] + b"!")
    with pytest.raises(ModelUnavailable, match="was begun with"):
        cache.local_model(str(second.path), first.revision)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match=r"lacks tokenizer.json, model.bin"):
        cache.local_model(str(tmp_path))


@pytest.mark.parametrize("name", ["smal", "../x", "a/../b", "a/b/c", r"C:\models\small", "", "owner--/x"])
def test_what_can_be_no_model_is_refused_with_the_nearest_name_or_as_a_folder_that_is_not_there(name: str) -> None:
    likely = {"smal": "Did you mean 'small'", "": "Give one of"}.get(name, "no folder is there")
    with pytest.raises(ModelUnavailable, match=f"There is no model .*{likely}"):
        cache.repository(name)


def test_the_names_are_those_of_faster_whisper() -> None:
    from faster_whisper import utils

    assert utils._MODELS == cache.REPOSITORIES


def test_the_cache_is_the_hubs_own(tmp_path: Path) -> None:
    program = """
import importlib, json, os, sys
from huggingface_hub import constants
from whisper_farm.engines.cache import cache_folder
for given in json.loads(sys.argv[1]):
    os.environ.update(given)
    print(cache_folder() == cache_folder(importlib.reload(constants).HF_HUB_CACHE))
    for name in given:
        del os.environ[name]
"""
    cases = [
        {},
        *({name: str(tmp_path)} for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE", "XDG"))}
    command = [sys.executable, "-c", program, json.dumps(cases)]
    said = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split() == ["True"] * len(cases)


def test_the_default_model_is_fetched_before_work_begins(hub: ModelHub, settings: EngineSettings) -> None:
    chosen = choose_model("faster-whisper", None, "transcribe", settings, lambda _: None)
    assert cache.local_model(chosen, None, settings.model_dir) is not None


def test_a_hub_out_of_reach_ends_in_one_line_that_says_what_to_do(hub: ModelHub, settings: EngineSettings) -> None:
    hub.status = 503
    with pytest.raises(ModelUnavailable, match="refused") as refusal:
        choose_model("faster-whisper", "small", "transcribe", settings, lambda _: None)
    assert "\n" not in refusal.value.message


def test_another_model_that_is_here_is_offered_and_never_taken_in_silence(
    hub: ModelHub, settings: EngineSettings
) -> None:
    find(settings, "tiny")
    hub.status = 503
    offline = EngineSettings(model_dir=settings.model_dir, local_files_only=True)
    for how in (settings, offline):
        with pytest.raises(ModelUnavailable, match="On this machine are: tiny; take one with --model"):
            choose_model("faster-whisper", "small", "transcribe", how, lambda _: None)
    assert choose_model("faster-whisper", "tiny", "transcribe", settings, lambda _: None) == "tiny"


def test_a_misspelt_model_is_an_error_before_the_network_is_asked(hub: ModelHub, settings: EngineSettings) -> None:
    with pytest.raises(ModelUnavailable, match="Did you mean 'small'"):
        choose_model("faster-whisper", "smal", "transcribe", settings, lambda _: None)
    assert hub.requests == []


def test_an_unknown_engine_is_named(settings: EngineSettings) -> None:
    with pytest.raises(EngineUnavailable, match="'faster-whisper'"):
        choose_model("fast-whisper", None, "transcribe", settings, lambda _: None)


def test_a_name_that_happens_to_be_a_folder_here_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "secrets").mkdir(parents=True)
    assert cache.local_model("owner/secrets", None, str(tmp_path / "cache")) is None


def test_of_a_repository_of_speaker_models_one_file_is_fetched_once(hub: ModelHub, settings: EngineSettings) -> None:
    (hub.folder / voices.FILE).write_bytes(b"a speaker model" * 9)
    found = voices.find_speaker_model(None, settings, lambda _: None)
    assert (found.path.read_bytes(), found.revision) == (b"a speaker model" * 9, COMMIT)
    assert [each.name for each in found.path.parent.iterdir()] == [voices.FILE]
    assert hub.requests[0].startswith(f"/api/models/{voices.DEFAULT.repo}")
    hub.requests.clear()
    assert (voices.find_speaker_model(None, settings, lambda _: None), hub.requests) == (found, [])
    assert cache.models_on_disk(settings.model_dir) == []


def test_a_repository_without_the_speaker_model_is_named(hub: ModelHub, settings: EngineSettings) -> None:
    with pytest.raises(SpeakersUnavailable, match=f"{voices.DEFAULT.repo} holds no {voices.FILE}"):
        voices.find_speaker_model(None, settings, lambda _: None)
