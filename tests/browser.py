"""A real browser for the pages that the package writes and serves, and a watch over what they do."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

if TYPE_CHECKING:  # whoever runs a test without a page needs no Playwright
    from playwright.sync_api import Browser, Page, Request

SECONDS = 20  # that a page may take, on a machine that does other things besides
SMALL = {"viewport": {"width": 340, "height": 700}, "device_scale_factor": 2, "is_mobile": True}


def find_chromium() -> str:
    """Its path. Where there is none, the test fails, unless MIDSIGHT_WITHOUT_CHROMIUM=1 asks to do without it."""
    if os.environ.get("MIDSIGHT_WITHOUT_CHROMIUM") == "1":
        pytest.skip("MIDSIGHT_WITHOUT_CHROMIUM=1: no page is opened")
    found = shutil.which("chromium")
    if not found:
        pytest.fail("chromium is missing: `make chromium`, or set MIDSIGHT_WITHOUT_CHROMIUM=1")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium without a window.

    One for each file of tests, not one for all: while it is open, Playwright's event loop counts as running in this
    thread, and `asyncio.run` would fail in the tests of other files.
    """
    chromium = find_chromium()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * SECONDS)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as started:
        yield started


@pytest.fixture
def wrong() -> list[str]:
    """What went wrong in the test's tab. A test takes out what it expects; what is left fails it."""
    return []


@pytest.fixture
def tab(browser: "Browser", wrong: list[str], request: pytest.FixtureRequest) -> Iterator["Page"]:
    """An empty tab with storage of its own, or one that the test's parameter describes: a small screen, say.

    Whatever the console tells is wrong, and so is whatever is asked of another server than the first page's; a page
    from the disk may ask for itself alone.
    """
    asked: list[str] = []
    options: dict[str, Any] = getattr(request, "param", {})
    with browser.new_context(**options) as context:
        context.set_default_timeout(1000 * SECONDS)
        context.on("request", lambda request: asked.append(request.url))
        context.on("requestfailed", lambda request: wrong.extend(_failures(request)))
        context.on("console", lambda message: wrong.append(f"{message.text} ({message.location['url']})"))
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        yield context.new_page()
        assert wrong == [], wrong
        elsewhere = [address for address in asked if not address.startswith((_home(asked[0]), "blob:"))]
        assert elsewhere == [], elsewhere  # a blob: was made by the page itself


def _home(address: str) -> str:
    """What a page's requests begin with."""
    return address if address.startswith("file:") else urljoin(address, "/")


def _failures(request: "Request") -> list[str]:
    """A page may give up a request; a server may not."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.failure} ({request.url})"]


@pytest.fixture
def hostile_name(tmp_path: Path) -> Path:
    """A file whose name would run as a script, were it taken for HTML."""
    return tmp_path / "<!--<script><img src=x onerror=document.title='owned'>&amp;$data.png"
