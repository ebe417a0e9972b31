"""A farm with real Whisper, for programs of others that are installed for these tests alone: `./run clients`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.farm_processes import Farm
from support.real_whisper import farm_with_whisper


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm_with_whisper(tmp_path_factory.mktemp("clients")) as one:
        yield one
