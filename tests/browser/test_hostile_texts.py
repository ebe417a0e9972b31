"""Names, titles, words, speakers: whatever people, files and workers say is shown as text, and runs nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Page, expect
from support.browsers import Visitor
from support.farm_processes import Farm, Process, Recording
from support.hand_worker import HandWorker

HURT = '"><img src=x onerror="window.hurt=1"><svg onload=window.hurt=1>'


@dataclass
class Hostile:
    """A transcription that is hostile wherever somebody may write something."""

    farm: Farm
    id: str
    share: str

    @property
    def place(self) -> str:
        return f"{self.farm.url}/api/transcriptions/{self.id}"


@pytest.fixture(scope="module")
def hostile(farm: Farm, worker: Process, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    made = farm.submit(Recording.long(tmp_path_factory.mktemp("hostile") / "quiet.wav", 30), "x30")
    farm.finished(made)
    headers = {"Authorization": f"Bearer {farm.token}"}
    with httpx.Client(base_url=farm.url, headers=headers) as http:
        place = f"/api/transcriptions/{made}"
        first = http.get(f"{place}/transcript", params={"format": "json"}).json()["segments"][0]
        stretch = {"start": first["start"], "end": first["end"]}
        segment = {**stretch, "text": f"said {HURT}", "speaker": f"speaker {HURT}"}
        change = {"based_on": 0, "patches": [{**stretch, "segments": [segment]}]}
        http.post(f"{place}/edits", json=change).raise_for_status()
        number = http.get(f"{place}/edits").json()["number"]
        http.put(f"{place}/edits/{number}/name", json={"name": f"version {HURT}"}).raise_for_status()
        http.patch(place, json={"name": f"title {HURT}"}).raise_for_status()
        http.post("/api/tokens", json={"name": f"token {HURT}", "scope": "user"}).raise_for_status()
        share = http.post(f"{place}/shares").raise_for_status().json()["secret"]
    stranger = HandWorker(farm.url, farm.token)
    stranger.told("register", **{**stranger.registration(), "name": f"worker {HURT}"})
    stranger.close()
    return Hostile(farm, made, share)


def in_list(page: Page) -> None:
    expect(page.get_by_role("link", name="title")).to_contain_text(HURT)


def in_search(page: Page) -> None:
    page.get_by_role("searchbox").fill("said hurt")
    expect(page.get_by_text("Said in").first).to_be_visible()


def in_reader(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(HURT)
    expect(page.locator("p[dir=auto]").first).to_contain_text(HURT)


def in_editor(page: Page) -> None:
    page.locator("p[dir=auto]").first.dblclick(position={"x": 20, "y": 10})
    expect(page.get_by_role("textbox").first).to_have_value(f"said {HURT}")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More").click()
    expect(page.get_by_role("menuitem").filter(has_text=HURT)).to_be_visible()
    page.get_by_role("menuitem", name="Speakers").click()
    expect(page.get_by_role("dialog").get_by_text(HURT).first).to_be_visible()


def in_farm(page: Page) -> None:
    expect(page.get_by_text("worker ").filter(has_text=HURT).first).to_be_visible()


def in_settings(page: Page) -> None:
    expect(page.get_by_text("token ").filter(has_text=HURT).first).to_be_visible()


PAGES: dict[str, Callable[[Page], None]] = {
    "/": in_list,
    "/?search": in_search,
    "/transcriptions/ID": in_reader,
    "/transcriptions/ID?edit": in_editor,
    "/farm": in_farm,
    "/settings/programs": in_settings,
    "/shared/ID/SHARE": in_reader,
}


@pytest.mark.parametrize("path", PAGES)
def test_it_is_shown_as_it_was_written(visitor: Visitor, hostile: Hostile, path: str) -> None:
    page = visitor.signed_in()
    page.goto(f"{hostile.farm.url}/#{path.partition('?')[0].replace('ID', hostile.id).replace('SHARE', hostile.share)}")
    PAGES[path](page)
    page.wait_for_timeout(100)
    assert page.evaluate("() => window.hurt") is None


def test_the_page_that_one_may_export_runs_nothing(visitor: Visitor, hostile: Hostile) -> None:
    headers = {"Authorization": f"Bearer {hostile.farm.token}"}
    answer = httpx.get(f"{hostile.place}/transcript", params={"format": "html"}, headers=headers)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    page = visitor.stranger()
    page.set_content(answer.text)
    expect(page.get_by_text("said").first).to_be_visible()
    assert page.evaluate("() => window.hurt") is None


def test_the_text_would_hurt_and_the_policy_of_the_page_alone_would_stop_it(visitor: Visitor, hostile: Hostile) -> None:
    bare = visitor.stranger()
    bare.goto("data:text/html,<p>no policy</p>")
    write = "(text) => { document.body.innerHTML = text; }"
    bare.evaluate(write, HURT)
    bare.wait_for_function("() => window.hurt === 1")
    page = visitor.signed_in()
    page.evaluate(write, HURT)
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.hurt") is None
    assert any("POLICY script-src" in line for line in visitor.wrong)
    visitor.wrong.clear()
