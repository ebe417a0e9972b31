"""The farm page does things: a machine joins by a code, rests, goes on and leaves."""

from __future__ import annotations

import re
import time
from pathlib import Path

from playwright.sync_api import Page, expect
from support.browsers import Visitor, barriers, press, reach, write
from support.farm_processes import WORKER_SETTINGS, Farm, Process, Recording


def joined(page: Page, farm: Farm, folder: Path, name: str, at_once: bool = False, owner: str = "") -> Process:
    """A worker that joins by the line that the farm page shows, and is let in there."""
    page.goto(f"{farm.url}/#/farm")
    page.get_by_role("button", name="Add a machine").click()
    line = page.get_by_test_id("join-command").inner_text()
    sheet = page.get_by_role("dialog")
    if owner:
        sheet.get_by_label("Owner of the machine").fill(owner)
        sheet.get_by_role("button", name="Make another code").click()
        expect(page.get_by_test_id("join-command")).not_to_have_text(line)
        line = page.get_by_test_id("join-command").inner_text()
    if at_once:
        sheet.get_by_role("switch", name="Let it in at once").click()
        expect(page.get_by_test_id("join-command")).not_to_have_text(line)
        line = page.get_by_test_id("join-command").inner_text()
    assert farm.url in line
    expect(page.get_by_role("img", name="QR code of this line")).to_be_visible()
    assert barriers(page) == []
    words = [*line.split()[1:], "--engine", "tones", "--name", name]
    worker = Process(folder / "joined.log", words, {**WORKER_SETTINGS, "WHISPER_FARM_DATA": str(folder / "data")})
    if not at_once:
        asking = sheet.get_by_role("status").filter(has_text=f"{name} wants to join")
        expect(asking).to_be_visible()  # a process has to start
        assert page.get_by_role("listitem").filter(has_text=name).count() == 0
        assert barriers(page) == []
        asking.get_by_role("button", name="Let it in", exact=True).click()
        expect(page.get_by_text(f"{name} wants to join")).to_have_count(0)
        expect(page.get_by_test_id("join-command")).to_have_count(0)  # its code was used
    page.get_by_role("button", name="Close").click()
    row = page.get_by_role("listitem").filter(has_text=name)
    expect(row.get_by_text("Ready", exact=True)).to_be_visible()  # a process has to start
    return worker


def test_a_worker_whose_token_is_revoked_is_refused(visitor: Visitor, farm: Farm, tmp_path: Path) -> None:
    page = visitor.signed_in()
    worker = joined(page, farm, tmp_path, "revoked-one", at_once=True, owner="friend")
    assert {one.owner for one in farm.client.tokens() if one.name == "revoked-one"} == {"friend"}
    page.goto(f"{farm.url}/#/settings/programs")
    token = page.get_by_role("listitem").filter(has_text="revoked-one")
    token.get_by_role("button", name="Revoke").click()
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
    expect(row.get_by_text("Resting", exact=True)).to_be_visible()
    expect(row.get_by_text(f"{hour:02}:00–")).to_be_visible()
    tell("Working hours")
    sheet.get_by_text("At any time", exact=True).click()
    sheet.get_by_role("button", name="Save").click()
    expect(row.get_by_text("Ready", exact=True)).to_be_visible()  # its children have to start
    expect(row.get_by_text("Gone", exact=True)).to_be_hidden()
    tell("Drain")
    expect(row.get_by_text("Gone", exact=True)).to_be_visible()
    assert worker.ended() == 0, worker.said()[-1000:]
    secret = next((tmp_path / "data" / "joined").iterdir())
    assert secret.stat().st_mode & 0o077 == 0


def chosen(page: Page, name: str) -> None:
    """Go down the open menu to this entry, and take it."""
    entry = page.get_by_role("menuitem", name=name)
    entry.wait_for()
    for _ in range(10):
        page.keyboard.press("ArrowDown")
        if entry.evaluate("(one) => one === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"no arrow leads to {name}")


def test_the_farm_page_works_by_keys_alone(visitor: Visitor, farm: Farm, tmp_path: Path) -> None:
    page = visitor.signed_in()
    press(page, page.get_by_role("link", name="Farm", exact=True), "Enter")
    press(page, page.get_by_role("button", name="Add a machine"), "Enter")
    line = page.get_by_test_id("join-command")
    press(page, page.get_by_role("radio", name="Linux, macOS"), "ArrowRight")
    expect(line).to_contain_text("whisper-farm.exe worker")
    before = line.inner_text()
    press(page, page.get_by_role("switch", name="Let it in at once"), "Space")
    expect(line).not_to_have_text(before)
    press(page, page.get_by_role("button", name="Copy the line"), "Enter")
    expect(page.get_by_text("Copied.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Add a machine")).to_be_focused()
    with farm.worker("--name", "by-keys"):
        row = page.get_by_role("listitem").filter(has_text="by-keys")
        menu = row.get_by_role("button", name="Actions for by-keys")
        press(page, menu, "Enter")
        chosen(page, "Pause after this chunk")
        expect(row.get_by_text("Paused", exact=True)).to_be_visible()
        press(page, menu, "Enter")
        chosen(page, "Working hours")
        press(page, page.get_by_role("radio", name="As it was started"), "ArrowDown", "ArrowDown")
        write(page, "From", "0100AM")
        write(page, "Until", "0200AM")
        press(page, page.get_by_role("button", name="Save"), "Enter")
        expect(row.get_by_text("01:00–02:00")).to_be_visible()
        asked = farm.submit(Recording.long(tmp_path / "keys-talk.wav", 6))
        heading = page.get_by_role("link", name="keys-talk.wav")
        reach(page, heading)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        sheet = page.get_by_role("dialog", name="Chunks of keys-talk.wav")
        expect(sheet).to_be_visible()
        press(page, sheet.get_by_role("radio", name="All"), "ArrowLeft")
        page.keyboard.press("Escape")
        expect(sheet).to_be_hidden()
        farm.client.cancel(asked)
