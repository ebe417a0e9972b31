"""Browsers for the tests of the web app: signed in, watched, and able to drop files and look for barriers."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request

from support.farm_processes import Farm, Process, until

CHROMIUM = shutil.which("chromium") or ""
AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 860}
PATIENCE_MILLISECONDS = 60_000
"""How long anything is waited for: pages are slow where processes start beside them."""
EXPECTED = ("401", "403", "404", "409", "422", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET")
EXPECTED += (
    "ERR_INTERNET_DISCONNECTED",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_NETWORK_CHANGED",
    "ERR_SOCKET_NOT_CONNECTED",
)
"""A browser writes each refused request into its console."""
DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""
WATCH = """document.addEventListener("securitypolicyviolation",
  (event) => console.error("POLICY " + event.violatedDirective + " " + event.blockedURI + " " + event.sample));"""
SEEN = """(one) => one.matches("input:not([type=radio], [type=checkbox]), textarea")
  || [one, one.nextElementSibling].some((each) => each && getComputedStyle(each).outlineStyle !== "none")"""
"""A field shows the focus by its border, a hidden one by what is drawn for it."""


def why_no_browser() -> str | None:
    """Why there can be no browser tests here, if there can be none."""
    if not CHROMIUM:
        return "there is no chromium here: apt install chromium"
    if not AXE.is_file():
        return "the packages of web/ are not installed: ./run web"
    return None


class Visitor:
    """Opens pages, remembers what went wrong in them."""

    def __init__(self, browser: Browser, farm: Farm) -> None:
        self.browser = browser
        self.farm = farm
        self.wrong: list[str] = []
        self._contexts: list[BrowserContext] = []

    def link(self, name: str = "admin") -> str:
        """A fresh sign-in link."""
        words = ["sign-in-link", name, "--data", str(self.farm.data), "--public_url", self.farm.url]
        made = Process(self.farm.folder / f"link-{uuid4().hex}.log", words, {})
        assert made.ended() == 0, made.said()
        return next(line for line in made.said().splitlines() if "/#/sign-in/" in line)

    def invited(self, name: str) -> Page:
        """Somebody with an account of their own, at their list."""
        until(lambda: len(self.farm.client.workers()), "a worker is there")  # what it offers is asked for first
        headers = {"Authorization": f"Bearer {self.farm.token}"}
        made = httpx.post(f"{self.farm.url}/app/people", json={"name": name}, headers=headers).json()
        page = self.stranger()
        page.goto(f"{self.farm.url}/#/sign-in/{made['link']}")
        page.get_by_role("heading", name="Transcriptions", exact=True).wait_for()
        return page

    def stranger(self, **given: Any) -> Page:
        """A page in a browser of its own, where nobody is signed in."""
        context = self.browser.new_context(viewport=given.pop("viewport", WIDE), locale="en-GB", **given)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        context.add_init_script(WATCH)
        self._contexts.append(context)
        return self.another(context)

    def another(self, context: BrowserContext) -> Page:
        """Another tab of a browser."""
        page = context.new_page()
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", self._request)
        return page

    def signed_in(self, name: str = "admin", **given: Any) -> Page:
        """A page where somebody is signed in, at the list of transcriptions."""
        page = self.stranger(**given)
        page.goto(self.link(name))
        page.get_by_role("heading", name="Transcriptions", exact=True).wait_for()
        return page

    def close(self) -> None:
        """Close everything, and say what was wrong."""
        for context in self._contexts:
            context.close()
        if self.wrong:
            raise AssertionError("\n".join(self.wrong))

    def _console(self, kind: str, text: str) -> None:
        if kind == "error" and not any(known in text for known in EXPECTED):
            self.wrong.append(f"console: {text}")

    def _request(self, request: Request) -> None:
        ours = (self.farm.url, f"http://farm.test:{self.farm.port}", "blob:", "data:", "http://127.0.0.1:")
        if not request.url.startswith(ours):
            self.wrong.append(f"third party: {request.url}")


def drop(page: Page, path: Path, name: str | None = None) -> None:
    """Drop a file on the page."""
    page.evaluate(DROP, [name or path.name, "audio/wav", base64.b64encode(path.read_bytes()).decode()])


def barriers(page: Page) -> list[str]:
    """What axe-core finds that keeps people out.

    It must not copy style sheets: it would put those of the wave form into the page, which the page's policy forbids.
    """
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'], preload: false })")
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    wide: int = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wide


def reach(page: Page, what: Locator) -> None:
    """Press Tab until it has the focus, which must be seen."""
    what.wait_for(state="attached")
    for _ in range(80):
        if what.evaluate("(one) => one === document.activeElement"):
            assert what.evaluate(SEEN), "the focus is seen"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {what}")


def press(page: Page, what: Locator, *keys: str) -> None:
    """Go there by Tab, and press these keys."""
    reach(page, what)
    for key in keys:
        page.keyboard.press(key)


def write(page: Page, label: str, text: str) -> None:
    """Go to that field, and write in it instead of what was there."""
    press(page, page.get_by_label(label, exact=True), "Control+a")
    page.keyboard.type(text)
