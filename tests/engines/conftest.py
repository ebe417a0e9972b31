"""A Whisper-shaped model of random weights, small enough to be written by the tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with Whisper's true vocabulary and next to no weights."""
    from bench.shaped_model import write_model

    folder = tmp_path_factory.mktemp("models") / "nano"
    write_model("nano", folder)
    return folder
