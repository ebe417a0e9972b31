"""No test touches the farm of whoever runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.talks import Recorder

from whisper_farm.cli import progress


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, and no farm in the environment; no line says how far a slow machine is."""
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 3600)
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("WHISPER_FARM_DATA", str(folder))
    for name in ("WHISPER_FARM_SERVER", "WHISPER_FARM_TOKEN", "WHISPER_FARM_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A recorder whose recordings are in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Recorder(tmp_path)
