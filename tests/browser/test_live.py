"""What somebody does in one browser, or a worker at the farm, comes to all others by the event stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import APIRequestContext, Locator, Page
from support.browsers import Visitor
from support.farm_processes import Farm, Process, Recording
from support.hand_worker import HandWorker

from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION

HALF_A_SECOND_MS = 500
LOOKS = 100
LOOK_MS = 60

Live = Callable[[Farm, httpx.Client, Page, Path], tuple[str, Callable[[], object], Locator]]
"""Which page, what is done elsewhere, and what is to be seen then."""


def renamed(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    made = farm.submit(Recording.long(folder / "live.wav", 3), "x30")
    farm.finished(made)
    change = {"name": "named elsewhere"}
    seen = page.get_by_role("link", name="named elsewhere")
    return "", lambda: http.patch(f"/api/transcriptions/{made}", json=change), seen


def paused(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    one = HandWorker(farm.url, farm.token, "w-live")
    one.register()
    one.close()
    row = page.get_by_role("listitem").filter(has_text="w-live")
    return "farm", lambda: http.post("/api/workers/w-live/pause"), row.get_by_text("Paused", exact=True)


def asks_to_join(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    code = http.post("/api/join-codes").json()["code"]
    body = {"code": code, "name": "stranger", "token_hash": "0" * 64}
    speaks = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
    seen = page.get_by_text("stranger wants to join")
    return "farm", lambda: http.post("/api/work/join", json=body, headers=speaks), seen


def token(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    wanted = {"name": "made elsewhere", "scope": "user"}
    return "settings/programs", lambda: http.post("/api/tokens", json=wanted), page.get_by_text("made elsewhere")


def webhook(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    wanted = {"url": "https://127.0.0.1:9/live"}
    return "settings/programs", lambda: http.post("/api/webhooks", json=wanted), page.get_by_text("127.0.0.1:9/live")


def person(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    return "settings/people", lambda: http.post("/app/people", json={"name": "livia"}), page.get_by_text("livia")


def podcast(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    wanted = {"url": "http://127.0.0.1:9/live.xml"}
    return "feeds", lambda: http.post("/api/feeds", json=wanted), page.get_by_text("live.xml").first


def glossary(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    """By the same person, in another browser."""
    other = page.context.request
    seen = page.locator("textarea", has_text="Okonkwo")
    return "settings/recordings", lambda: prefer(farm, other, {"glossary": "Okonkwo"}), seen


def options(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    other = page.context.request
    seen = page.locator("textarea", has_text="Groningen")
    return "settings/recordings", lambda: prefer(farm, other, {"defaults": {"prompt": "Groningen"}}), seen


def prefer(farm: Farm, other: APIRequestContext, wanted: object) -> None:
    answer = other.patch(f"{farm.url}/app/preferences", data=wanted, headers={"Whisper-Farm-App": "1"})
    assert answer.ok, answer.text()


def link(farm: Farm, http: httpx.Client, page: Page, folder: Path) -> tuple[str, Callable[[], object], Locator]:
    made = farm.submit(Recording.long(folder / "linked.wav", 3), "x30")
    farm.finished(made)
    seen = page.get_by_role("dialog").get_by_role("listitem")
    return f"transcriptions/{made}", lambda: http.post(f"/api/transcriptions/{made}/shares"), seen


@pytest.mark.parametrize(
    "live", [renamed, paused, asks_to_join, token, webhook, person, podcast, glossary, options, link]
)
def test_a_page_shows_within_half_a_second_of_its_own_clock_what_is_done_elsewhere(
    visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path, live: Live
) -> None:
    """The clock of the page moves by half a second in all, and its timers with it: a page that looked would be late."""
    page = visitor.signed_in()
    with httpx.Client(base_url=farm.url, headers={"Authorization": f"Bearer {farm.token}"}) as http:
        place, act, seen = live(farm, http, page, tmp_path)
        page.clock.install()
        page.goto(f"{farm.url}/#/{place}")
        page.reload()
        page.get_by_role("heading", level=1).wait_for()
        if live is link:
            page.get_by_role("button", name="Share", exact=True).click()
            page.get_by_role("dialog").wait_for()
        page.wait_for_timeout(1000)
        assert seen.count() == 0
        page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
        act()
        for _ in range(LOOKS):
            if seen.count():
                return
            page.wait_for_timeout(LOOK_MS)
            page.clock.run_for(HALF_A_SECOND_MS // LOOKS)
    raise AssertionError("half a second of the page's clock went by")
