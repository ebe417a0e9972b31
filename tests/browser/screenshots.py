"""Pictures of every page, light, dark and on a phone, of a farm at work with real Whisper: `./run screenshots`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from support.browsers import CHROMIUM, PHONE, WIDE, Visitor
from support.farm_processes import Farm, until

from examples.weights import tiny_en

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "screenshots"
EXAMPLES = [ROOT / "examples" / "inaugural.flac", ROOT / "examples" / "podcast.mp3"]
LOOKS = {"light": ("light", WIDE), "dark": ("dark", WIDE), "phone": ("light", PHONE), "phone-dark": ("dark", PHONE)}
SETTINGS_PARTS = ("recordings", "account", "programs", "people", "limits", "about")
SETTINGS = {
    "WHISPER_FARM_LEASE_SECONDS": "20",
    "WHISPER_FARM_HEARTBEAT_SECONDS": "5",
    "WHISPER_FARM_LOCAL_MODELS": "true",
}


def main() -> None:
    """Take them all; they are in the folder `screenshots`."""
    OUT.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Farm(Path(folder), settings=SETTINGS) as farm,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        visitor = Visitor(browser, farm)
        strangers = {name: visitor.stranger(color_scheme=look, viewport=size) for name, (look, size) in LOOKS.items()}
        pages = {name: visitor.signed_in(color_scheme=look, viewport=size) for name, (look, size) in LOOKS.items()}
        for page in strangers.values():
            page.goto(f"{farm.url}/#/sign-in")
        everywhere(strangers, "sign-in")
        everywhere(pages, "first-visit")
        first = pages["light"]
        first.get_by_role("button", name="Options").click()
        picture(first, "options-light")
        first.get_by_role("button", name="Options").click()
        flags = (
            "--engine",
            "faster-whisper",
            "--model",
            tiny_en(),
            "--slots",
            "1",
            "--batch_size",
            "1",
            "--threads",
            "1",
        )
        with farm.worker("--name", "studio", *flags), farm.worker("--name", "attic", *flags):
            until(lambda: len(farm.client.workers()) == 2, "both workers are there")
            first.reload()
            first.get_by_text("Nothing transcribed yet").wait_for()
            first.locator("input[type=file]").set_input_files(EXAMPLES)
            first.get_by_role("link", name="podcast.mp3").wait_for()
            first.wait_for_timeout(9000)
            everywhere(pages, "list")
            for page in pages.values():
                page.get_by_role("link", name="podcast.mp3").click()
            everywhere(pages, "reading-live")
            for page in pages.values():
                page.goto(f"{farm.url}/#/farm")
            everywhere(pages, "farm")
            for page in pages.values():
                page.goto(f"{farm.url}/#/")
                row = page.get_by_role("listitem").filter(has_text="podcast.mp3")
                row.get_by_text("Done", exact=True).wait_for(timeout=240_000)
                row.get_by_role("link").click()
                page.locator("p[dir=auto]").nth(1).click(position={"x": 120, "y": 12})
            everywhere(pages, "reading")
            first.locator("[data-index='0']").hover()
            first.get_by_role("button", name="Correct the text").first.click()
            first.wait_for_timeout(500)
            picture(first, "correcting-light")
            first.keyboard.press("Escape")
            first.get_by_role("button", name="Chunks").click()
            first.wait_for_timeout(500)
            picture(first, "chunks-light")
            for part in ("feeds", *(f"settings/{part}" for part in SETTINGS_PARTS)):
                for page in pages.values():
                    page.goto(f"{farm.url}/#/{part}")
                    page.reload()
                everywhere(pages, part.replace("/", "-"))
        browser.close()


def everywhere(pages: dict[str, Page], name: str) -> None:
    """One picture in each look."""
    pages["light"].wait_for_timeout(1200)
    for look, page in pages.items():
        picture(page, f"{name}-{look}")


def picture(page: Page, name: str) -> None:
    """Write one."""
    page.wait_for_timeout(300)
    page.screenshot(path=OUT / f"{name}.png", full_page=name.startswith(("farm", "feeds", "settings")))
    print(f"screenshots/{name}.png", file=sys.stderr)


if __name__ == "__main__":
    main()
