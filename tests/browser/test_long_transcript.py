"""Ten hours in one page: a hundred thousand words, a bounded number of rows, wherever one looks."""

from __future__ import annotations

import json
import time
from pathlib import Path

from playwright.sync_api import Page, Route, expect
from support.browsers import Visitor, drop
from support.farm_processes import Farm, Process, Recording

HOURS = 10
WORDS = 100_000
MOST_ROWS = 300
OPENED_SECONDS = 6.0
"""It takes well under two on a machine that does nothing else."""


def document() -> str:
    """What the API gives for such a recording."""
    each = HOURS * 3600 / WORDS
    segments = []
    for first in range(0, WORDS, 10):
        words = [
            {
                "word": f" word{n}",
                "start": n * each,
                "end": (n + 0.9) * each,
                "probability": 0.3 if n % 500 == 7 else 0.9,
            }
            for n in range(first, first + 10)
        ]
        text = "".join(word["word"] for word in words) + "."
        segments.append({"start": first * each, "end": (first + 10) * each, "text": text, "words": words})
    return json.dumps({"segments": segments, "coverage": {"missing": []}})


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


def test_ten_hours_open_at_once_and_stay_light(visitor: Visitor, farm: Farm, worker: Process, podcast: Path) -> None:
    long = document()

    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="application/json", body=long)

    page = visitor.signed_in()
    drop(page, Recording.long(podcast, 12).path, "tenhours.wav")
    row = page.get_by_role("listitem").filter(has_text="tenhours.wav")
    expect(row.get_by_text("Done", exact=True)).to_be_visible(timeout=30_000)
    page.route("**/transcript?format=json&struck=true", answer)
    begun = time.monotonic()
    page.get_by_role("link", name="tenhours.wav").click()
    page.get_by_text("word0 word1").wait_for()
    opened = time.monotonic() - begun
    times = frames(page)
    median, most, longest = times[45], times[85], times[-1]
    print(f"opened in {opened:.2f} s; frames: median {median:.0f} ms, 95 % {most:.0f} ms, longest {longest:.0f} ms")
    assert opened < OPENED_SECONDS
    assert 3 < rows(page) < MOST_ROWS
    page.keyboard.press("/")
    page.keyboard.type("word99990 ")
    expect(page.get_by_text("1 of 1")).to_be_visible()
    expect(page.locator("p[dir=auto]").filter(has_text="word99990").first).to_be_in_viewport()
    page.keyboard.press("Escape")
    assert rows(page) < MOST_ROWS
    page.get_by_role("button", name="Next doubtful place").click()
    expect(page.locator("p[dir=auto]").filter(has_text="word7 ").first).to_be_in_viewport()
    assert rows(page) < MOST_ROWS
