"""`doctor --data` says whether what a farm keeps is there and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.served_farm import ServedFarm
from support.submitting import submit

from whisper_farm.cli.main import outcome

Captured = pytest.CaptureFixture[str]


def test_what_is_missing_or_damaged_is_named(farm: ServedFarm, capsys: Captured) -> None:
    submit(farm.admin, "one.mp3", audio=b"one")
    submit(farm.admin, "two.mp3", audio=b"two")
    examine = ["doctor", "--data", str(farm.data)]
    assert outcome(examine) == 0
    assert "names 2 blobs" in capsys.readouterr().out
    first, second = [file for file in (farm.data / "blobs" / "sources").rglob("*") if file.is_file()]
    first.write_bytes(b"eno")
    second.unlink()
    assert outcome(examine) == 1
    said = capsys.readouterr().out
    assert f"{first.name} of transcription " in said
    assert "is damaged" in said
    assert "is missing" in said


def test_a_folder_without_a_database_stays_without_one(tmp_path: Path, capsys: Captured) -> None:
    assert outcome(["doctor", "--data", str(tmp_path)]) == 1
    assert "there is none" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
