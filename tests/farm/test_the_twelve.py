"""The twelve tests that every queue of this kind should pass are there, under their names, where the page says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TWELVE = (
    *("zombie", "late_but_alone", "lost_claim_reply", "lost_completion_reply", "kill_at_every_step"),
    *("coordinator_and_database_murder", "starved_beat", "reaper_races", "rolling_restart", "poison_chunk"),
    *("model", "load"),
)


def test_the_twelve_are_found_by_their_names_in_the_files_that_the_page_names() -> None:
    page = (ROOT / "docs" / "TESTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `test_(\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert tuple(rows) == TWELVE
    for name, files in rows.items():
        first = re.findall(r"\((\.\./tests/[^)]+)\)", files)[0]
        source = (ROOT / "docs" / first).read_text(encoding="utf-8")
        assert re.search(rf"^def test_{name}\(", source, re.MULTILINE), f"test_{name} is not in {first}"
