"""The way that most people take, with the sample podcast and real Whisper: from the empty list to a corrected text."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from support.browsers import Visitor
from support.real_whisper import farm_with_whisper

from examples.weights import tiny_en

WORD = """(word) => {
  for (const element of document.querySelectorAll("p[dir=auto]")) {
    const at = element.firstChild.data.indexOf(word);
    if (at < 0) continue;
    const range = new Range();
    range.setStart(element.firstChild, at);
    range.setEnd(element.firstChild, at + word.length);
    const box = range.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  }
}"""


@pytest.mark.timeout(900)
def test_the_sample_podcast_is_tried_watched_heard_corrected_found_and_exported(
    browser: Browser, tmp_path: Path
) -> None:
    with farm_with_whisper(tmp_path / "farm") as farm:
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        page.get_by_role("button", name="Options").click()
        with page.expect_response(re.compile("/app/preferences")):
            page.get_by_role("switch", name="Tell speakers apart").click()
            expect(page.get_by_label("How many speakers")).to_be_visible()
            page.get_by_role("combobox", name="Model").fill(str(tiny_en()))
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Try the sample podcast").click()
        page.get_by_role("link", name="podcast.mp3").click()
        expect(page.get_by_text("speakers come at the end")).to_be_visible()
        expect(page.locator("p[dir=auto]").first).to_contain_text("welcome", timeout=300_000)
        expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=600_000)
        _speakers_came_and_get_names(page)
        place = f"{farm.url}/api/transcriptions/{page.url.rpartition('/')[2]}/transcript"
        headers = {"Authorization": f"Bearer {farm.token}"}
        page.get_by_role("button", name="Play", exact=True).wait_for()
        _heard_where_clicked(page, httpx.get(place, headers=headers).json())
        page.locator("[data-index='0']").hover()
        page.get_by_role("button", name=re.compile("^Correct the text at 0:00")).click()
        field = page.get_by_role("textbox").first
        with page.expect_response(re.compile("/edits$")):
            field.fill("Hullo and welcome to the programme.")
        expect(page.get_by_text("All is saved")).to_be_visible()
        page.reload()
        expect(page.locator("p[dir=auto]").first).to_contain_text("Hullo and welcome to the programme.")
        assert httpx.get(place, params={"format": "txt"}, headers=headers).text.startswith("Anna: Hullo and welcome")
        page.goto(f"{farm.url}/#/")
        page.get_by_role("searchbox").fill("hullo programme")
        page.get_by_role("link", name=re.compile("Hullo")).click()
        expect(page.locator("p[dir=auto]").first).to_be_in_viewport()
        visitor.close()


def _speakers_came_and_get_names(page: Page) -> None:
    """Without a reload; the page has said that they come at the end. Two become one by one name."""
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("menuitem", name="Speakers").click()
    dialog = page.get_by_role("dialog", name="Speakers")
    dialog.get_by_role("button", name="Rename Speaker 1 everywhere").click()
    page.get_by_role("textbox", name="Name of the speaker").fill("Anna")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Anna speaks; change that").first).to_be_visible()
    dialog.get_by_role("button", name="Show only Anna").click()
    expect(page.get_by_text("Only what Anna says is shown.")).to_be_visible()
    expect(page.get_by_role("button", name="Speaker 2 speaks")).to_have_count(0)
    page.get_by_role("button", name="Show everybody").click()
    expect(page.get_by_role("button", name="Speaker 2 speaks").first).to_be_attached()


def _heard_where_clicked(page: Page, document: dict[str, object]) -> None:
    """A click on a word brings the sound to where Whisper heard it."""
    segments = document["segments"]
    assert isinstance(segments, list)
    (start,) = [word["start"] for one in segments for word in one["words"] if word["word"].strip() == "autumn"][:1]
    page.mouse.click(*page.evaluate(WORD, "autumn"))
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0")
    assert abs(page.evaluate("() => document.querySelector('audio').currentTime") - start) <= 0.1
