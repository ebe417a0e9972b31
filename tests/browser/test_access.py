"""Who gets in, from where, and what happens when the server goes away."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect
from support.browsers import Visitor, drop
from support.farm_processes import Farm, Process, Recording, until
from support.path_prefix import path_prefix


def test_a_link_signs_in_once_and_says_so_the_second_time_unless_one_is_in_already(visitor: Visitor) -> None:
    link = visitor.link()
    page = visitor.stranger()
    page.goto(link)
    expect(page.get_by_role("heading", name="Transcriptions")).to_be_visible()
    assert link.rpartition("/")[2] not in page.url
    page.goto(link)
    expect(page.get_by_role("heading", name="Transcriptions")).to_be_visible()
    late = visitor.stranger()
    late.goto(link)
    expect(late.get_by_role("alert")).to_contain_text("does not work any more")


def test_somebody_is_invited_sets_a_password_and_sees_only_their_own(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    Recording.long(podcast, 12)
    admin = visitor.signed_in()
    drop(admin, podcast, "secret.wav")
    expect(admin.get_by_role("link", name="secret.wav")).to_be_visible()
    admin.goto(f"{farm.url}/#/settings/people")
    expect(admin.get_by_label("Name", exact=True)).to_have_accessible_description(re.compile("letters from a to z"))
    admin.get_by_label("Name", exact=True).fill("ann")
    admin.get_by_role("button", name="Invite").click()
    invitation = admin.locator("code").inner_text()
    ann = visitor.stranger()
    ann.goto(invitation)
    expect(ann.get_by_text("Nothing transcribed yet")).to_be_visible()
    expect(ann.get_by_text("secret.wav")).to_be_hidden()
    ann.goto(f"{farm.url}/#/settings/account")
    ann.get_by_label("New password").fill("three words together")
    ann.get_by_role("button", name="Set password").click()
    expect(ann.get_by_text("Your password is set.")).to_be_visible()
    ann.get_by_role("button", name="Sign out everywhere").click()
    ann.get_by_label("Name").fill("ann")
    ann.get_by_label("Password", exact=True).fill("three words together")
    ann.get_by_role("button", name="Sign in", exact=True).click()
    expect(ann.get_by_text("Nothing transcribed yet")).to_be_visible()
    ann.goto(f"{farm.url}/#/farm")
    expect(ann.get_by_test_id("farm-state")).to_be_visible()
    expect(ann.get_by_role("heading", name="Workers")).to_have_count(0)


def test_it_works_over_plain_http_by_a_name_of_the_home_network(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    Recording.long(podcast, 30)
    page = visitor.stranger()
    page.goto(visitor.link().replace("127.0.0.1", "farm.test"))
    expect(page.get_by_role("heading", name="Transcriptions")).to_be_visible()
    assert page.evaluate("() => window.isSecureContext") is False
    drop(page, podcast, "lan.wav")
    row = page.get_by_role("listitem").filter(has_text="lan.wav")
    expect(row.get_by_text("Done", exact=True)).to_be_visible()
    row.get_by_role("link", name="lan.wav").click()
    page.get_by_role("button", name="Export").click()
    page.get_by_role("menuitem", name="Copy as text").click()
    expect(page.get_by_text("Copied.")).to_be_visible()


def test_it_works_below_a_path(visitor: Visitor, farm: Farm, worker: Process, podcast: Path) -> None:
    Recording.long(podcast, 30)
    with path_prefix(farm.port, "/farm") as port:
        page = visitor.stranger()
        secret = visitor.link().rpartition("/")[2]
        page.goto(f"http://127.0.0.1:{port}/farm/#/sign-in/{secret}")
        expect(page.get_by_role("heading", name="Transcriptions")).to_be_visible()
        drop(page, podcast, "below.wav")
        row = page.get_by_role("listitem").filter(has_text="below.wav")
        expect(row.get_by_text("Done", exact=True)).to_be_visible()
        row.get_by_role("link", name="below.wav").click()
        expect(page.locator("p[dir=auto]").first).to_be_visible()
        page.close()


def test_a_lost_connection_says_so_and_catches_up(browser: Browser, tmp_path: Path, podcast: Path) -> None:
    with Farm(tmp_path / "other") as farm, farm.worker("--model", "x10"):
        until(lambda: list(farm.client.workers()), "what it offers is asked for")
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        drop(page, Recording.long(podcast, 400).path, "storm.wav")
        row = page.get_by_role("listitem").filter(has_text="storm.wav")
        expect(row.get_by_text("Transcribing")).to_be_visible()
        farm.server.kill()
        expect(page.get_by_text("The connection to the farm is lost.")).to_be_visible()
        tries = iter([False, False, True])
        with page.expect_event("requestfailed", lambda one: "/api/transcriptions?" in one.url and next(tries)):
            row.get_by_role("button", name="Actions for storm.wav").click()
            page.get_by_role("menuitem", name="Cancel").click()  # whatever is done, the list is asked for again
        page.wait_for_timeout(500)
        expect(row.get_by_text("Transcribing")).to_be_visible()
        farm.start()
        expect(page.get_by_text("The connection to the farm is lost.")).to_be_hidden()
        expect(row.get_by_text("Done", exact=True)).to_be_visible()
        visitor.close()
