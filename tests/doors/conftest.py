"""A farm with a worker that hears tones, for clients that were written for other servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from support.farm_processes import Farm, Recording, until

DEFAULT_MODEL = {"WHISPER_FARM_DEFAULT_MODEL": "tones:instant"}
Speak = Callable[..., Recording]


@pytest.fixture(scope="session")
def idle_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A server without workers. Tests that need one bring it."""
    with Farm(tmp_path_factory.mktemp("doors"), settings=DEFAULT_MODEL) as farm:
        yield farm


@pytest.fixture(scope="session")
def tones_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A server with a worker of two slots."""
    with Farm(tmp_path_factory.mktemp("heard_doors"), settings=DEFAULT_MODEL) as farm, farm.worker():
        until(lambda: list(farm.client.workers()), "the worker is there")
        yield farm


@pytest.fixture(scope="session")
def speak(tmp_path_factory: pytest.TempPathFactory) -> Speak:
    """Makes recordings of so many words, which no other recording has."""
    folder = tmp_path_factory.mktemp("spoken")
    taken = [2000]

    def make(words: int = 12, name: str = "talk.wav") -> Recording:
        taken[0] += words
        place: Path = folder / str(taken[0])
        place.mkdir()
        return Recording.long(place / name, words, first=taken[0] - words)

    return make


@pytest.fixture
def openai_client(tones_farm: Farm) -> Iterator[OpenAI]:
    """OpenAI's own client, told the farm's address and nothing else. It tries nothing again."""
    with OpenAI(
        base_url=f"{tones_farm.url}/v1",
        api_key=tones_farm.token,
        max_retries=0,
        timeout=60,
        _strict_response_validation=True,
    ) as client:
        yield client
