"""Ten hours in one page: a hundred thousand words, a bounded number of rows, wherever one looks."""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from support.browsers import Visitor
from support.farm_processes import Farm
from support.ten_hours import told

LONG_LEASES = {"WHISPER_FARM_LEASE_SECONDS": "300", "WHISPER_FARM_HEARTBEAT_SECONDS": "5"}
MOST_ROWS = 300
OPENED_SECONDS = 6.0
"""It takes well under two on a machine that does nothing else."""


def rows(page: Page) -> int:
    count: int = page.locator("[data-index]").count()
    return count


def frames(page: Page) -> list[float]:
    """Milliseconds of each frame while the page is scrolled by a screen a frame, ninety times."""
    found: list[float] = page.evaluate(
        """() => new Promise((resolve) => {
          const times = [];
          let last = performance.now();
          const step = (now) => {
            times.push(now - last);
            last = now;
            window.scrollBy(0, innerHeight);
            times.length < 90 ? requestAnimationFrame(step) : resolve(times.sort((a, b) => a - b));
          };
          requestAnimationFrame(step);
        })"""
    )
    return found


def test_ten_hours_open_at_once_and_stay_light(browser: Browser, tmp_path: Path) -> None:
    with Farm(tmp_path / "farm", settings=LONG_LEASES) as farm:
        visitor = Visitor(browser, farm)
        _opened_scrolled_and_searched(visitor.signed_in(), f"{farm.url}/#/transcriptions/{told(farm, 'tenhours.wav')}")
        visitor.close()


def _opened_scrolled_and_searched(page: Page, place: str) -> None:
    begun = time.monotonic()
    page.goto(place)
    page.get_by_text("word0 word1").wait_for()
    opened = time.monotonic() - begun
    times = frames(page)
    median, most, longest = times[45], times[85], times[-1]
    print(f"opened in {opened:.2f} s; frames: median {median:.0f} ms, 95 % {most:.0f} ms, longest {longest:.0f} ms")
    assert opened < OPENED_SECONDS
    assert 3 < rows(page) < MOST_ROWS
    page.keyboard.press("/")
    page.keyboard.type("word99590 ")
    expect(page.get_by_text("1 of 1")).to_be_visible()
    expect(page.locator("p[dir=auto]").filter(has_text="word99590").first).to_be_in_viewport()
    page.keyboard.press("Escape")
    assert rows(page) < MOST_ROWS
    page.get_by_role("button", name="Next doubtful place").click()
    expect(page.locator("p[dir=auto]").filter(has_text="word7 ").first).to_be_in_viewport()
    assert rows(page) < MOST_ROWS
