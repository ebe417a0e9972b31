"""Settings belong to a person and not to a browser; podcasts and webhooks are added, looked at and removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
from playwright.sync_api import APIResponse, Route, expect
from support.browsers import PHONE, Visitor, barriers, press, reach, write
from support.farm_processes import Farm, Process


def test_options_and_glossary_are_the_same_in_every_browser(visitor: Visitor, farm: Farm, worker: Process) -> None:
    one, other = visitor.signed_in(), visitor.signed_in()
    one.goto(f"{farm.url}/#/settings")
    with one.expect_response(re.compile("/app/preferences")):
        one.get_by_role("combobox", name="Model").fill("large-v3")
    one.get_by_role("textbox", name="Glossary").fill("Okonkwo, Groningen")
    one.get_by_role("button", name="Save").click()
    expect(one.get_by_text("It counts from the next recording on.")).to_be_visible()
    other.reload()
    other.get_by_role("button", name="Options").click()
    expect(other.get_by_role("combobox", name="Model")).to_have_value("large-v3")
    other.goto(f"{farm.url}/#/settings")
    expect(other.get_by_role("textbox", name="Glossary")).to_have_value("Okonkwo, Groningen")
    with other.expect_response(re.compile("/app/preferences")):
        other.get_by_role("combobox", name="Model").fill("")
    other.get_by_role("textbox", name="Glossary").fill("")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_text("It counts from the next recording on.")).to_be_visible()


def test_every_part_of_the_settings_is_reached_by_its_link_also_on_a_phone(visitor: Visitor, farm: Farm) -> None:
    page = visitor.signed_in(viewport=PHONE)
    page.get_by_role("button", name="Settings: admin").click()
    page.get_by_role("menuitem", name="Settings").click()
    shown = {
        "Recordings": "The next recordings",
        "Your account": "Password",
        "Programs": "Webhooks",
        "People": "People",
        "Limits": "Limits",
        "About": "Built on",
    }
    for part, heading in shown.items():
        page.get_by_role("link", name=part, exact=True).click()
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.get_by_text("faster-whisper", exact=True)).to_be_visible()
    licences = page.get_by_role("link", name="Licences of what is in this page").get_attribute("href")
    assert licences is not None
    assert "react-dom" in httpx.get(licences, headers={"Authorization": f"Bearer {farm.token}"}).text


def test_what_is_typed_stays_when_an_answer_of_before_comes_late(visitor: Visitor, farm: Farm, worker: Process) -> None:
    page = visitor.signed_in()
    page.goto(f"{farm.url}/#/settings")
    model = page.get_by_role("combobox", name="Model")
    expect(model).to_have_value("")
    late: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if route.request.method == "GET":
            late.append((route, route.fetch()))
        else:
            route.continue_()

    page.route("**/app/preferences", hold)
    page.get_by_role("button", name="Save").click()  # of the glossary; the page asks for all of it again
    while not late:
        page.wait_for_timeout(50)
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        model.fill("large-v3")
    for route, answer in late:
        route.fulfill(response=answer)
    page.wait_for_timeout(500)
    expect(model).to_have_value("large-v3")
    page.unroute("**/app/preferences")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        model.fill("")


def test_an_administrator_changes_limits_and_other_browsers_see_it(visitor: Visitor, farm: Farm) -> None:
    one, other = visitor.signed_in(), visitor.signed_in()
    for page in (one, other):
        page.goto(f"{farm.url}/#/settings/limits")
    days, bytes_ = (other.get_by_label(label) for label in (re.compile("^Days that"), re.compile("^Recordings of")))
    expect(days).to_have_value("")
    one.get_by_label(re.compile("^Days that")).fill("36500")
    one.get_by_label(re.compile("^Recordings of")).fill("5000.5")
    one.get_by_role("button", name="Save").click()
    expect(one.get_by_text("These limits count from now on.")).to_be_visible()
    expect(days).to_have_value("36500")
    expect(bytes_).to_have_value("5000.5")
    expect(other.get_by_text("The server’s own: 1,024")).to_be_visible()
    assert barriers(other) == []
    found = httpx.get(f"{farm.url}/api/limits", headers={"Authorization": f"Bearer {farm.token}"}).json()
    assert (found["limits"]["retention_days"], found["limits"]["max_stored_bytes"]) == (36500, int(5000.5 * 2**30))
    days.fill("")
    bytes_.fill("")
    other.get_by_role("button", name="Save").click()
    expect(one.get_by_label(re.compile("^Recordings of"))).to_have_value("1024")
    found = httpx.get(f"{farm.url}/api/limits", headers={"Authorization": f"Bearer {farm.token}"}).json()
    assert found["limits"] == found["server"]


FEED = b"""<?xml version="1.0"?>
<rss version="2.0"><channel><title>Morning &lt;b&gt;show&lt;/b&gt;</title>
<item><title>First episode</title><enclosure url="gone.mp3" type="audio/mpeg"/></item></channel></rss>"""


class Feed(BaseHTTPRequestHandler):
    """A podcast whose episode is gone."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/feed.xml" else 404)
        self.end_headers()
        self.wfile.write(FEED)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def feed() -> Iterator[str]:
    """The address of a podcast while it is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Feed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/feed.xml"
        server.shutdown()


def test_a_podcast_is_followed_and_its_feed_with_transcripts_is_offered(visitor: Visitor, farm: Farm) -> None:
    with feed() as url:
        page = visitor.signed_in()
        page.get_by_role("link", name="Podcasts").click()
        page.get_by_label("Address of the feed").fill(url)
        page.get_by_role("button", name="Follow").click()
        row = page.get_by_role("listitem").filter(has_text="Morning")
        expect(row.get_by_text("1 episode, 0 transcribed, 1 failed")).to_be_visible()
        assert barriers(page) == []
        row.get_by_role("link", name="Morning").click()
        expect(page.get_by_text("Only episodes of “Morning")).to_be_visible()
        assert barriers(page) == []
        listed = page.get_by_role("list", name="Transcriptions").get_by_role("listitem")
        expect(listed).to_have_count(1)
        expect(listed).to_contain_text("First episode")
        page.get_by_role("radiogroup", name="Transcriptions").get_by_text("Done").click()
        expect(listed).to_have_count(0)
        page.get_by_role("link", name="All transcriptions").click()
        expect(page.get_by_text("Only episodes of")).to_be_hidden()
        page.get_by_role("link", name="Podcasts").click()
        row.get_by_role("button", name="Copy address with transcripts").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
    page.get_by_label("Address of the feed").fill(url)
    page.get_by_role("button", name="Follow").click()
    expect(page.get_by_role("region", name="Follow a podcast").get_by_role("alert")).to_contain_text("already")
    row.get_by_role("button", name="Remove").click()
    row.get_by_role("button", name="Remove").click()
    expect(row).to_be_hidden()


def test_why_a_podcast_cannot_be_read_is_said_in_the_language_of_the_page(visitor: Visitor, farm: Farm) -> None:
    page = visitor.signed_in()
    page.evaluate("localStorage.setItem('language', 'de')")
    page.goto(f"{farm.url}/#/feeds")
    page.reload()
    with feed() as url:
        page.get_by_label("Adresse des Feeds").fill(f"{url}?gone")
        page.get_by_role("button", name="Abonnieren").click()
        row = page.get_by_role("listitem").filter(has_text="?gone")
        expect(row.get_by_text("Das ließ sich nicht holen: 127.0.0.1 answered 404.")).to_be_visible()
    row.get_by_role("button", name="Entfernen").click()
    row.get_by_role("button", name="Entfernen").click()
    expect(row).to_be_hidden()


def test_a_webhook_is_made_and_what_became_of_its_messages_is_shown(visitor: Visitor, farm: Farm) -> None:
    page = visitor.signed_in()
    page.goto(f"{farm.url}/#/settings/programs")
    page.get_by_label("Address", exact=True).fill("http://127.0.0.1:9/told")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("This secret verifies its messages.")).to_be_visible()
    row = page.get_by_role("listitem").filter(has_text="http://127.0.0.1:9/told")
    row.get_by_role("button", name="Messages").click()
    expect(page.get_by_text("Nothing was sent yet.")).to_be_visible()
    row.get_by_role("button", name="Test").click()
    message = page.get_by_role("listitem").filter(has_text="webhook_test")
    expect(message.get_by_text("given up")).to_be_visible()
    with page.expect_response(re.compile("/redeliver$")) as answer:
        message.get_by_role("button", name="Send again").click()
    assert answer.value.ok
    row.get_by_role("button", name="Remove").click()
    row.get_by_role("button", name="Remove").click()
    expect(row).to_be_hidden()


def test_a_podcast_is_followed_and_removed_by_keys_alone(visitor: Visitor) -> None:
    page = visitor.signed_in()
    press(page, page.get_by_role("link", name="Podcasts"), "Enter")
    with feed() as url:
        write(page, "Address of the feed", url)
        write(page, "Newest episodes", "2")
        press(page, page.get_by_role("switch", name="Leave episodes alone"), "Space")
        press(page, page.get_by_role("button", name="Options"), "Enter")
        write(page, "Names and words to expect", "Okonkwo")
        press(page, page.get_by_role("button", name="Follow"), "Enter")
        row = page.get_by_role("listitem").filter(has_text="Morning")
        expect(row.get_by_text("1 episode, 0 transcribed, 1 failed")).to_be_visible()
    write(page, "Names and words to expect", "")
    page.keyboard.press("Control+a")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.keyboard.press("Delete")
    press(page, row.get_by_role("button", name="Remove"), "Enter", "Enter")
    expect(row).to_be_hidden()


def test_every_part_of_the_settings_works_by_keys_alone(visitor: Visitor, farm: Farm) -> None:
    page = visitor.signed_in()
    press(page, page.get_by_role("button", name="Settings: admin"), "Enter")
    expect(page.get_by_role("menuitem", name="Settings")).to_be_focused()
    page.keyboard.press("Enter")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        press(page, page.get_by_role("radio", name="Normal"), "ArrowLeft")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        press(page, page.get_by_role("radio", name="Low"), "ArrowRight")
    press(page, page.get_by_role("link", name="Your account"), "Enter")
    press(page, page.get_by_role("radio", name="As the system"), "ArrowRight")
    expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "light")
    press(page, page.get_by_role("link", name="Programs"), "Enter")
    write(page, "What is it for?", "by keys")
    page.keyboard.press("Enter")
    token = page.get_by_role("listitem").filter(has_text="by keys")
    press(page, token.get_by_role("button", name="Revoke"), "Enter", "Enter")
    expect(token).to_be_hidden()
    press(page, page.get_by_role("link", name="People"), "Enter")
    write(page, "Name", "kay")
    page.keyboard.press("Enter")
    person = page.get_by_role("listitem").filter(has_text="kay")
    press(page, person.get_by_role("button", name="Remove"), "Enter", "Enter")
    expect(person).to_be_hidden()
    press(page, page.get_by_role("link", name="Limits"), "Enter")
    write(page, "Workers of each token", "999")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The server’s own: 1,000")).to_be_visible()
    write(page, "Workers of each token", "1000")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The server’s own: 1,000")).to_be_hidden()
    press(page, page.get_by_role("link", name="About"), "Enter")
    reach(page, page.get_by_role("link", name="Licences of what is in this page"))
