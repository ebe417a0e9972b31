"""A large upload survives a lost connection, a server that is started anew, and a closed page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, expect
from support.browsers import Visitor
from support.farm_processes import Farm, Recording

PART = 8 << 20
BYTES_A_SECOND = 6 << 20


class Line:
    """The line of a page to the farm: slow, so that it can be cut in the middle. It notes which parts were sent."""

    def __init__(self, page: Page) -> None:
        self.offsets: list[int] = []
        self._page = page
        self._session: CDPSession = page.context.new_cdp_session(page)
        page.on("request", lambda request: self._note(request.url))
        self.cut(False)

    def cut(self, offline: bool) -> None:
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": BYTES_A_SECOND}
        self._session.send("Network.emulateNetworkConditions", {"offline": offline, **speed})

    def wait_for(self, offset: int) -> None:
        """Wait until the part that begins there is being sent."""
        while offset not in self.offsets:
            self._page.wait_for_timeout(50)

    def _note(self, url: str) -> None:
        if "offset=" in url:
            self.offsets.append(int(url.partition("offset=")[2]))


def choose(page: Page, file: Path) -> None:
    page.locator("input[type=file]").set_input_files(file)


def test_an_upload_goes_on_after_a_lost_connection_and_a_restart(browser: Browser, tmp_path: Path) -> None:
    file = Recording.long(tmp_path / "large.wav", 2400).path
    size = file.stat().st_size
    assert size > 3 * PART
    with Farm(tmp_path / "other") as farm, farm.worker("--model", "x300"):
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        line = Line(page)
        choose(page, file)
        line.wait_for(PART)
        line.cut(True)
        expect(page.get_by_text("The farm does not answer")).to_be_visible()
        line.cut(False)
        line.wait_for(2 * PART)
        farm.server.kill()
        expect(page.get_by_text("The farm does not answer")).to_be_visible()
        farm.start()
        expect(page.get_by_role("listitem").filter(has_text="large.wav")).to_be_visible()
        assert set(line.offsets) - {size} == set(range(0, size, PART))
        assert len(line.offsets) < 2 * size / PART + 8
        stored = [path.stat().st_size for path in (farm.data / "blobs" / "sources").rglob("*") if path.is_file()]
        assert stored == [size]
        visitor.close()


def test_a_file_that_is_chosen_again_goes_on_where_it_was(browser: Browser, tmp_path: Path) -> None:
    file = Recording.long(tmp_path / "again.wav", 1200).path
    with Farm(tmp_path / "other") as farm, farm.worker("--model", "x300"):
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        line = Line(page)
        choose(page, file)
        line.wait_for(PART)
        line.cut(True)
        expect(page.get_by_text("The farm does not answer")).to_be_visible()
        context = page.context
        page.close()
        page = visitor.another(context)
        page.goto(f"{farm.url}/#/")
        page.get_by_role("heading", name="Transcriptions", exact=True).wait_for()
        line = Line(page)
        choose(page, file)
        expect(page.get_by_role("listitem").filter(has_text="again.wav")).to_be_visible()
        assert line.offsets[0] == 0  # an empty part asks how far it is
        assert line.offsets[1:] in ([PART], [file.stat().st_size])
        visitor.close()
