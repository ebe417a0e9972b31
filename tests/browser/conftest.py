"""What the browser tests stand on: a real server with a real worker, and Chromium with somebody signed in.

Every page is watched: a violation of the content policy, an error of a script or a request to a third party fails the
test that opened it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from support.browsers import CHROMIUM, PATIENCE_MILLISECONDS, Visitor, why_no_browser
from support.farm_processes import Farm, Process, until

from whisper_farm.coordinator.web_app import WebApp


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    if (reason := why_no_browser()) is not None:
        pytest.skip(reason)
    if WebApp.read().page is None:
        pytest.skip("the web app is not built: ./run web")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. `farm.test` leads to this machine, as a name in a home network does."""
    flags = [
        "--no-sandbox",
        "--host-resolver-rules=MAP farm.test 127.0.0.1",
        "--autoplay-policy=no-user-gesture-required",
    ]
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One server for all tests that do it no harm."""
    settings = {
        "WHISPER_FARM_ALLOWED_HOSTS": '["farm.test"]',
        "WHISPER_FARM_PRIVATE_NETWORKS": '["127.0.0.0/8"]',
    }
    with Farm(tmp_path_factory.mktemp("farm"), settings=settings) as farm:
        yield farm


@pytest.fixture(scope="session")
def worker(farm: Farm) -> Iterator[Process]:
    """A worker that takes some time, so that one can watch it."""
    with farm.worker("--model", "x30") as worker:
        until(lambda: list(farm.client.workers()), "the worker is there")
        yield worker


@pytest.fixture
def visitor(browser: Browser, farm: Farm) -> Iterator[Visitor]:
    """Opens pages in browsers; whatever was wrong in them fails the test at its end."""
    visitor = Visitor(browser, farm)
    yield visitor
    visitor.close()


@pytest.fixture
def podcast(tmp_path: Path) -> Path:
    """Where a test puts its recording."""
    return tmp_path / "podcast.wav"
