"""Processes that begin with the farm's modules loaded are those that a user starts, but for the time they take."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.farm_processes import Process, until
from support.warm_start import WarmProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all begin cold here")
COLD = {"PYTHONHASHSEED": "0"}
"""Whatever is told to Python itself, it is told at its start."""


@pytest.mark.parametrize("words", [["--version"], ["nonsense"], ["workers", "--server", "http://127.0.0.1:9"]])
def test_who_begins_warm_says_the_same_and_ends_as_who_begins_cold(words: list[str], tmp_path: Path) -> None:
    warm, cold = (Process(tmp_path / f"{len(told)}.log", words, told) for told in ({}, COLD))
    assert isinstance(warm._process, WarmProcess)
    assert not isinstance(cold._process, WarmProcess)
    assert (warm.ended(), warm.said()) == (cold.ended(), cold.said())
    assert warm.said()


def test_who_begins_warm_is_asked_to_end_and_killed_as_others_are(tmp_path: Path) -> None:
    words = ["serve", "--port", "0", "--data", str(tmp_path / "data")]
    served = Process(tmp_path / "served.log", words, {})
    until(lambda: "http://" in served.said(), "it serves")
    assert served.status is None
    served.terminate()
    assert served.ended() == 0
    killed = Process(tmp_path / "killed.log", words, {})
    killed.kill()
    assert killed.status == -signal.SIGKILL
