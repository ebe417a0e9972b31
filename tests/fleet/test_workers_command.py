"""`whisper-farm workers` shows pools and machines of a running farm in words, and changes how many there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.farm_processes import Farm, until
from support.placed_farm import all_gone, machines, placing_farm, worker_processes

from whisper_farm.cli.main import outcome

POOL = """
[pools.here]
provider = "local"
engine = "tones"
maximum = 2
idle_seconds = 1
grace_seconds = 2
price_per_hour = 1
"""


def ask(farm: Farm, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    code = outcome(["workers", *words, "--server", farm.url, "--token", farm.token])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def test_workers_are_placed_by_hand_shown_and_sent_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with placing_farm(tmp_path / "farm", POOL) as farm:
        assert "0 by hand" not in ask(farm, capsys)
        ask(farm, capsys, "--on", "local", "-n", "1")
        until(lambda: any(row.state == "working" for row in machines(farm)), "a worker works")
        shown = ask(farm, capsys)
        assert "here (local, 1 by hand): 1 work of 1; 1 wanted: 1 were asked for by hand, at most 2." in shown
        assert "spent today" in shown
        assert "working" in shown
        listed = json.loads(ask(farm, capsys, "--json"))
        assert listed["machines"][0]["worker_id"]
        assert "registered: Its worker" in ask(farm, capsys, "--log")
        machine = listed["machines"][0]["id"]
        assert machine in ask(farm, capsys, "--machine", machine)
        assert "registered: Its worker" in ask(farm, capsys, "--machine", machine, "--log")
        ask(farm, capsys, "--sync")
        ask(farm, capsys, "--machine", machine, "--destroy")
        until(lambda: [row.launch_id for row in machines(farm)] != [machine], "another one is asked for")
        ask(farm, capsys, "--on", "here", "--auto", "--drain")
        all_gone(farm)
        assert worker_processes(tmp_path / "farm") == []
        assert "here (local, drained)" in ask(farm, capsys, "--on", "here")


def test_a_farm_without_pools_and_a_pool_that_is_not_there_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Farm(tmp_path / "farm") as farm:
        assert ask(farm, capsys).startswith("This farm starts no machines: its server was given no --pools FILE.\n")
        told = ["--server", farm.url, "--token", farm.token]
        assert outcome(["workers", "--on", "gpu", "-n", "1", *told]) == 2
        assert "There is no pool gpu. The pools are: none" in capsys.readouterr().err
    assert outcome(["workers", "-n", "1"]) == 2
    assert outcome(["workers", "--destroy"]) == 2
    assert outcome(["workers", "--machine", "m", "--pause"]) == 2
    assert outcome(["workers", "--on", "x", "--pause", "--stop"]) == 2
