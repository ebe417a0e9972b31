"""What a farm keeps is its user's alone; a data folder that others can look into is warned about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from whisper_farm.coordinator.server import open_stores
from whisper_farm.settings import ServerSettings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")


@pytest.mark.parametrize(("mode", "warned"), [(0o755, True), (0o710, True), (0o700, False)])
def test_a_data_folder_that_is_open_to_others_is_warned_about(
    mode: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(mode)
    with open_stores(ServerSettings(data=tmp_path)):
        pass
    assert ("can look into the data folder" in caplog.text) == warned
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "farm.db").stat().st_mode & 0o777 == 0o600
