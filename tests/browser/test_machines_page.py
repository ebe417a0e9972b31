"""The farm page shows what the farm's machines do and cost, and switches a pool; a transcription says what it cost."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect
from support.browsers import Visitor, barriers
from support.farm_processes import Recording
from support.placed_farm import all_gone, placing_farm

POOL = """
[pools.here]
provider = "local"
engine = "tones"
slots = 1
price_per_hour = 900
"""


def test_a_pool_its_machine_and_what_a_transcription_cost_are_shown(browser: Browser, tmp_path: Path) -> None:
    with placing_farm(tmp_path / "farm", POOL) as farm:
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        asked = farm.submit(Recording.long(tmp_path / "talk.wav", 30), model="x4")
        page.goto(f"{farm.url}/#/farm")
        pool = page.get_by_role("region", name="Pool here")
        expect(pool.get_by_text("1 of 1, at most 1")).to_be_visible()  # a process has to start
        machine = page.get_by_role("table", name="Machines").get_by_role("row").nth(1)
        expect(machine.get_by_role("link", name="talk.wav").first).to_be_visible()
        expect(machine.get_by_text(re.compile(r"\d+:\d\d–\d+:\d\d"))).to_be_visible()
        expect(pool.get_by_text("An hour of audio")).to_be_visible()
        assert barriers(page) == []
        farm.finished(asked)
        pool.get_by_role("button", name="Actions for here").click()
        page.get_by_role("menuitem", name=re.compile("^Stop all now")).click()
        all_gone(farm)
        page.goto(f"{farm.url}/#/transcriptions/{asked}")
        expect(page.get_by_text(re.compile(r"cost \d"))).to_be_visible()
        visitor.close()
