"""A real browser for pages that are opened from the disk."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,900",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:  # noqa: F821
    """Chromium without a window; fails where there is none, unless MIDSIGHT_WITHOUT_CHROMIUM=1 asks to do without."""
    if os.environ.get("MIDSIGHT_WITHOUT_CHROMIUM") == "1":
        pytest.skip("MIDSIGHT_WITHOUT_CHROMIUM=1: no page is opened")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.fail("chromium or chromedriver is missing: `make chromium`, or set MIDSIGHT_WITHOUT_CHROMIUM=1")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture
def hostile_name(tmp_path: Path) -> Path:
    """A file whose name would run as a script, were it taken for HTML."""
    return tmp_path / "<!--<script><img src=x onerror=document.title='owned'>&amp;$data.png"
