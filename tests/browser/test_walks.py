"""What annoyed people who had never seen the app: on a small phone, by keys alone, with a farm that went away."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from support.browsers import Visitor, barriers, too_wide
from support.farm_processes import Farm, Process, Recording

SMALL = {"width": 360, "height": 740}
PLACES = ("", "feeds", "farm", "settings/recordings", "settings/programs", "settings/people", "settings/limits")
ARABIC = "تسجيل اجتماع مجلس إدارة المؤسسة الوطنية للبحث العلمي والتطوير التكنولوجي"


def within(page: Page, name: str) -> bool:
    """Whether a button is inside the window from side to side."""
    box = page.get_by_role("button", name=name).bounding_box()
    return box is not None and box["x"] >= 0 and box["x"] + box["width"] <= SMALL["width"]


def test_all_is_within_reach_on_the_smallest_phone_in_german(
    visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path
) -> None:
    made = farm.submit(Recording.long(tmp_path / f"{ARABIC}.wav", 3), "x30")
    farm.finished(made)
    page = visitor.signed_in(viewport=SMALL, has_touch=True)
    page.evaluate("localStorage.setItem('language', 'de')")
    for place in (*PLACES, f"transcriptions/{made}"):
        page.goto(f"{farm.url}/#/{place}")
        page.reload()
        page.get_by_role("heading", level=1).wait_for()
        assert within(page, "Einstellungen: admin"), place
        assert too_wide(page) == 0, place
        assert barriers(page) == [], place
    page.goto(f"{farm.url}/#/")
    name = page.get_by_role("link", name=ARABIC)
    assert name.evaluate("(one) => getComputedStyle(one).direction") == "rtl", "its end is cut off, not its beginning"


def test_on_the_smallest_phone_the_text_begins_in_the_upper_half_and_what_is_corrected_is_not_covered(
    visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path
) -> None:
    made = farm.submit(Recording.long(tmp_path / "small.wav", 30), "x30")
    farm.finished(made)
    page = visitor.signed_in(viewport=SMALL, has_touch=True)
    page.goto(f"{farm.url}/#/transcriptions/{made}")
    text = page.locator("p[dir=auto]").first
    text.wait_for()
    assert (text.bounding_box() or {})["y"] < SMALL["height"] / 2
    boxes = [page.get_by_role("button", name=name).bounding_box() for name in ("Export", "Share", "Find in the")]
    assert len({box["y"] for box in boxes if box is not None}) == 1, "they are in one row"
    page.get_by_role("button", name="Correct the text at").first.click()
    field = page.get_by_role("textbox").first
    expect(field).to_be_focused()
    box, done = field.bounding_box(), page.get_by_role("button", name="Done", exact=True).bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= (done or box)["y"]


def test_menus_keep_nobody_out_and_who_leaves_a_paragraph_is_still_there(
    visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path
) -> None:
    made = farm.submit(Recording.long(tmp_path / "menus.wav", 3), "x30")
    farm.finished(made)
    page = visitor.signed_in()
    page.goto(f"{farm.url}/#/transcriptions/{made}")
    page.locator("p[dir=auto]").first.wait_for()
    for name in ("Export", "More"):
        page.get_by_role("button", name=name, exact=True).press("Enter")
        page.get_by_role("menu").wait_for()
        page.wait_for_timeout(300)
        assert [one for one in barriers(page) if not one.startswith("region")] == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("menu")).to_have_count(0)
    page.keyboard.press("e")
    page.get_by_role("textbox").first.wait_for()
    page.keyboard.press("Escape")
    expect(page.locator("[data-index='0']")).to_be_focused()


def test_a_farm_that_went_away_is_said_on_the_page_that_is_opened_then(browser: Browser, tmp_path: Path) -> None:
    with Farm(tmp_path / "other") as farm:
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        farm.server.kill()
        page.get_by_role("link", name="Podcasts").click()
        expect(page.get_by_text("The farm does not answer.")).to_be_visible()
        expect(page.get_by_role("link", name="Podcasts")).to_be_visible()
        farm.start()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("heading", name="Podcasts", exact=True)).to_be_visible()
        visitor.wrong = [one for one in visitor.wrong if not one.startswith("console")]  # it says what was not loaded
        visitor.close()
