"""The web app in a real browser: its first view, ten hours of transcript, a correction, and 200 open pages.

Chromium, the server and whatever works beside them share this machine, so the figures are upper bounds.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from itertools import cycle
from pathlib import Path

import aiohttp
import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from support.browsers import CHROMIUM, Visitor, why_no_browser
from support.farm_processes import Farm, Recording
from support.ten_hours import told

from whisper_farm.coordinator.web_app import WebApp

STREAMS = 200
STREAM_SECONDS = 20.0
OWNERS = 5
LONG_LEASES = {"WHISPER_FARM_LEASE_SECONDS": "300", "WHISPER_FARM_HEARTBEAT_SECONDS": "5"}
FLAGS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
FRAMES = """() => new Promise((resolve) => {
  const times = [];
  let last = performance.now();
  const step = (now) => {
    times.push(now - last);
    last = now;
    window.scrollBy(0, innerHeight / 4);
    times.length < 240 ? requestAnimationFrame(step) : resolve(times.slice(1).sort((a, b) => a - b));
  };
  requestAnimationFrame(step);
})"""
"""Milliseconds of each frame while somebody scrolls fast: a quarter of a screen a frame."""
TRANSFERRED = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
  .filter(({ name }) => !name.includes("/api/")).reduce((sum, one) => sum + one.encodedBodySize, 0)"""
SAVED = """() => performance.getEntriesByType("resource")
  .filter(({ name, initiatorType }) => name.endsWith("/edits") && initiatorType === "fetch")
  .map(({ duration }) => duration)"""


def first_view(visitor: Visitor, farm: Farm) -> None:
    """What a browser loads that was never here, and when one can work in it."""
    page = visitor.signed_in()
    state = page.context.storage_state()
    seconds = []
    for _ in range(3):
        context = visitor.browser.new_context(storage_state=state)
        page = context.new_page()
        begun = time.perf_counter()
        page.goto(f"{farm.url}/#/")
        page.get_by_role("button", name="Choose files").click(trial=True)
        seconds.append(time.perf_counter() - begun)
        bytes_sent = page.evaluate(TRANSFERRED)
        context.close()
    print(f"  first view                   {bytes_sent / 1000:8.0f} KB compressed (aim 300)")
    print(f"  until one can work in it     {min(seconds):8.2f} s, best of three (aim 1.5)")


def ten_hours(visitor: Visitor, farm: Farm) -> None:
    """A hundred thousand words: opened, scrolled, corrected."""
    begun = time.perf_counter()
    made = told(farm, "tenhours.wav")
    print(f"  (100,000 words handed in, in {time.perf_counter() - begun:.0f} s)")
    page = visitor.signed_in()
    begun = time.perf_counter()
    page.goto(f"{farm.url}/#/transcriptions/{made}")
    page.get_by_text("word0 word1").wait_for()
    print(f"  ten hours opened in          {time.perf_counter() - begun:8.2f} s (aim 2)")
    times = page.evaluate(FRAMES)
    print(f"  frames while it scrolls      {times[len(times) // 2]:8.0f} ms median, {times[-1]:.0f} longest (aim 50)")
    print(f"  rows in the page             {page.locator('[data-index]').count():8d} (aim 300)")
    page.evaluate("() => scrollTo(0, 0)")
    print(f"  a correction saved in        {statistics.median(_corrections(page)):8.0f} ms, median (aim 100)")


def _corrections(page: Page) -> list[float]:
    row = page.locator("[data-index='0']")
    row.hover()
    row.get_by_role("button", name="Correct the text").click()
    field = row.get_by_role("textbox").first
    for number in range(5):
        with page.expect_response(lambda answer: answer.url.endswith("/edits") and answer.request.method == "POST"):
            field.fill(f"corrected {number} word1")
    page.wait_for_timeout(200)
    found: list[float] = page.evaluate(SAVED)
    return found[-5:]


def streams(farm: Farm, folder: Path) -> None:
    """Many pages follow what a working farm does."""
    made = farm.submit(Recording.long(folder / "long.wav", 2500), "x10")
    tokens = [farm.client.create_token(f"page{n}", "admin", owner=f"page{n}").token for n in range(OWNERS)]
    process = psutil.Process(farm.server.pid)
    with farm.worker("--slots", "8"), farm.worker("--slots", "8"):
        farm.progress(made, chunks_done=5)
        before = sum(process.cpu_times()[:2])
        late = asyncio.run(_follow(farm.url, [str(token) for token in tokens]))
        cores = (sum(process.cpu_times()[:2]) - before) / STREAM_SECONDS
    late.sort()
    print(f"  {STREAMS} pages, {len(late)} events    {cores:8.2f} cores of the server (aim 1)")
    middle, most = (1000 * late[int(len(late) * share)] for share in (0.5, 0.99))
    print(f"  an event is seen after       {middle:8.0f} ms median, {most:.0f} p99 (aim 500)")


async def _follow(url: str, tokens: list[str]) -> list[float]:
    late: list[float] = []
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        all_of_them = [
            _one(session, f"{url}/api/events", token, late) for token, _ in zip(cycle(tokens), range(STREAMS))
        ]
        await asyncio.wait([asyncio.create_task(one) for one in all_of_them], timeout=STREAM_SECONDS)
    return late


async def _one(session: aiohttp.ClientSession, url: str, token: str, late: list[float]) -> None:
    async with session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line.startswith(b"data:"):
                late.append(time.time() - json.loads(line[5:])["at"])


def main() -> None:
    """All figures."""
    print("web: the app in Chromium, on this machine")
    if reason := why_no_browser() or (WebApp.read().page is None and "the web app is not built: ./run web"):
        print(f"  left out: {reason}")
        return
    with tempfile.TemporaryDirectory() as place, Farm(Path(place) / "farm", settings=LONG_LEASES) as farm:
        with sync_playwright() as play:
            browser: Browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            visitor = Visitor(browser, farm)
            first_view(visitor, farm)
            ten_hours(visitor, farm)
            visitor.close()
            browser.close()
        streams(farm, Path(place))


if __name__ == "__main__":
    main()
