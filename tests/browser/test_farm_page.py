"""The farm page does things: a machine joins by a code, rests, goes on and leaves."""

from __future__ import annotations

import re
import time
from pathlib import Path

from playwright.sync_api import Page, expect
from support.browsers import Visitor, barriers
from support.farm_processes import WORKER_SETTINGS, Farm, Process


def joined(page: Page, farm: Farm, folder: Path, name: str) -> Process:
    """A worker that joins by the line that the farm page shows."""
    page.goto(f"{farm.url}/#/farm")
    page.get_by_role("button", name="Add a machine").click()
    line = page.get_by_test_id("join-command").inner_text()
    assert farm.url in line
    expect(page.get_by_role("img", name="QR code of this line")).to_be_visible()
    assert barriers(page) == []
    words = [*line.split()[1:], "--engine", "tones", "--name", name]
    worker = Process(folder / "joined.log", words, {**WORKER_SETTINGS, "WHISPER_FARM_DATA": str(folder / "data")})
    page.get_by_role("button", name="Close").click()
    row = page.get_by_role("listitem").filter(has_text=name)
    expect(row.get_by_text("Ready", exact=True)).to_be_visible(timeout=60_000)  # a process has to start
    return worker


def test_a_worker_whose_token_is_revoked_is_refused(visitor: Visitor, farm: Farm, tmp_path: Path) -> None:
    page = visitor.signed_in()
    worker = joined(page, farm, tmp_path, "revoked-one")
    page.goto(f"{farm.url}/#/settings/programs")
    token = page.get_by_role("listitem").filter(has_text="revoked-one")
    token.get_by_role("button", name="Revoke").click()
    expect(token).to_be_hidden()
    assert worker.ended() == 1
    assert "was revoked" in worker.said()


def test_a_machine_joins_by_a_code_is_paused_resumed_and_drained(visitor: Visitor, farm: Farm, tmp_path: Path) -> None:
    page = visitor.signed_in()
    worker = joined(page, farm, tmp_path, "joiner")
    row = page.get_by_role("listitem").filter(has_text="joiner")

    def tell(what: str) -> None:
        row.get_by_role("button", name="Actions for joiner").click()
        page.get_by_role("menuitem", name=re.compile(f"^{what}")).click()

    tell("Pause after this chunk")
    expect(row.get_by_text("Paused", exact=True)).to_be_visible()
    tell("Resume")
    expect(row.get_by_text("Ready", exact=True)).to_be_visible()
    tell("Working hours")
    sheet = page.get_by_role("dialog")
    expect(sheet.get_by_role("radio", name="As it was started: at any time")).to_be_checked()
    sheet.get_by_text("Only in these hours").click()
    hour = (time.localtime().tm_hour + 12) % 24
    sheet.get_by_label("From").fill(f"{hour:02}:00")
    sheet.get_by_label("Until").fill(f"{(hour + 1) % 24:02}:00")
    expect(page.get_by_role("menu")).to_have_count(0)
    assert barriers(page) == []
    sheet.get_by_role("button", name="Save").click()
    expect(row.get_by_text("Resting", exact=True)).to_be_visible(timeout=30_000)
    expect(row.get_by_text(f"{hour:02}:00–")).to_be_visible()
    tell("Working hours")
    sheet.get_by_text("At any time", exact=True).click()
    sheet.get_by_role("button", name="Save").click()
    expect(row.get_by_text("Ready", exact=True)).to_be_visible(timeout=60_000)  # its children have to start
    expect(row.get_by_text("Gone", exact=True)).to_be_hidden()
    tell("Drain")
    expect(row.get_by_text("Gone", exact=True)).to_be_visible()
    assert worker.ended() == 0, worker.said()[-1000:]
    secret = next((tmp_path / "data" / "joined").iterdir())
    assert secret.stat().st_mode & 0o077 == 0
