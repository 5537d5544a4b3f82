"""The review page in a real browser: what it shows, its keys, its filters, and what it gives back."""

import html
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from midsight.errors import InputError
from midsight.library.moderate import Finding, Stretch, Verdict
from midsight.library.moderate.labels import read_decisions
from midsight.library.moderate.review import review_page


def finding(category: str, score: float, word: str, *ranges: tuple[float, float]) -> Finding:
    stretches = tuple(Stretch(start, end, score) for start, end in ranges)
    return Finding(category, word, score, 0.5, 0.25, f"a {category}", stretches)  # type: ignore[arg-type]


@pytest.fixture
def verdicts(tmp_path: Path, demo: Path, hostile_name: Path) -> list[Verdict]:
    for name in ("cat.jpg", "motorcycle.jpg", "temple.mp4"):
        shutil.copy(demo / name, tmp_path)
    Image.new("RGB", (60, 40), (200, 30, 30)).save(hostile_name)
    found = {
        "cat.jpg": ("review", finding("cats", 0.42, "review"), finding("bikes", 0.1, "pass")),
        "motorcycle.jpg": ("flag", finding("cats", 0.2, "pass"), finding("bikes", 0.9, "flag")),
        "temple.mp4": ("flag", finding("cats", 0.6, "flag", (1, 3)), finding("bikes", 0.7, "flag")),
        hostile_name.name: ("flag", finding("cats", 0.8, "flag"), finding("bikes", 0.05, "pass")),
    }
    verdicts = [Verdict(str(tmp_path / name), word, tuple(findings)) for name, (word, *findings) in found.items()]
    return [*verdicts, Verdict(str(tmp_path / "gone.jpg"), "error", (), f"{tmp_path}/gone.jpg: no such file.")]


def opened(browser: Any, folder: Path, page: str) -> None:
    (folder / "review.html").write_text(page, encoding="utf-8")
    downloads = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    browser.get_log("browser")
    browser.get((folder / "review.html").as_uri())
    assert browser.get_log("browser") == []


def names(browser: Any) -> list[str]:
    """What the cards in sight ask: file and category."""
    return [
        card.get_attribute("aria-label").split(", ")[0] for card in browser.find_elements("css selector", "article")
    ]


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def choose(browser: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", name)).select_by_visible_text(value)


def progress(browser: Any) -> str:
    return str(browser.find_element("id", "progress").text)


def downloaded(browser: Any, folder: Path) -> Path:
    path = folder / "downloads" / "decisions.jsonl"
    path.unlink(missing_ok=True)
    browser.find_element("id", "save").click()
    until = time.monotonic() + 10
    while time.monotonic() < until and not path.exists():
        time.sleep(0.05)
    return path


def test_cards_decisions_and_back_again(
    browser: Any, verdicts: list[Verdict], tmp_path: Path, hostile_name: Path
) -> None:
    from selenium.webdriver import Keys

    opened(browser, tmp_path, review_page(verdicts, tmp_path))
    odd = hostile_name.name
    asked = ["motorcycle.jpg: bikes", f"{odd}: cats", "temple.mp4: bikes", "temple.mp4: cats", "cat.jpg: cats"]
    assert names(browser) == [*asked, "gone.jpg: not readable"]
    assert progress(browser) == "0 of 5 decided, 6 shown"
    assert not browser.find_element("id", "save").is_enabled()
    press(browser, Keys.ARROW_RIGHT, "y", "n", Keys.ARROW_RIGHT, "y", "y", Keys.ARROW_LEFT, "u")
    assert progress(browser) == "3 of 5 decided, 6 shown"
    pressed = browser.find_elements("css selector", "button[aria-pressed=true]")
    assert [button.text.strip() for button in pressed] == ["Yes", "No", "Yes"]
    assert browser.switch_to.active_element.get_attribute("aria-label").startswith("cat.jpg")
    path = downloaded(browser, tmp_path)
    expected = {
        tmp_path / "motorcycle.jpg": {"bikes": True}, hostile_name: {"cats": False},
        tmp_path / "temple.mp4": {"cats": True},
    }  # fmt: skip
    assert read_decisions(path) == expected
    line = json.loads(path.read_text().splitlines()[0])
    assert (line["score"], line["decided"][:2]) == (0.9, "20")
    browser.refresh()
    assert progress(browser) == "3 of 5 decided, 6 shown", "the browser keeps them"
    browser.execute_script("localStorage.clear()")
    opened(browser, tmp_path, review_page(verdicts, tmp_path, read_decisions(path)))
    assert progress(browser) == "3 of 5 decided, 6 shown", "a new page has them"
    opened(browser, tmp_path, review_page(verdicts, tmp_path))
    assert progress(browser).startswith("0 of 5")
    browser.find_element("id", "load").send_keys(str(path))
    until = time.monotonic() + 5
    while time.monotonic() < until and not progress(browser).startswith("3"):
        time.sleep(0.05)
    assert progress(browser) == "3 of 5 decided, 6 shown", "and they can be loaded"
    assert browser.get_log("browser") == []
    browser.execute_script("localStorage.clear()")


def test_filters_and_order(browser: Any, verdicts: list[Verdict], tmp_path: Path) -> None:
    opened(browser, tmp_path, review_page(verdicts, tmp_path))
    choose(browser, "category", "bikes")
    assert names(browser) == ["motorcycle.jpg: bikes", "temple.mp4: bikes"]
    choose(browser, "category", "all")
    choose(browser, "verdict", "review")
    assert names(browser) == ["cat.jpg: cats"]
    choose(browser, "verdict", "all")
    choose(browser, "order", "nearest to the threshold")
    assert names(browser)[:2] == ["cat.jpg: cats", "temple.mp4: cats"]
    browser.find_element("css selector", "article [data-decision=no]").click()
    choose(browser, "decision", "no")
    assert names(browser) == ["cat.jpg: cats"]
    choose(browser, "decision", "all")
    browser.find_element("id", "name").send_keys("MOTOR y")
    assert names(browser) == []
    assert browser.find_element("id", "nothing").is_displayed()
    assert progress(browser) == "1 of 5 decided, 0 shown", "typed letters are no keys"
    browser.execute_script("localStorage.clear()")


def test_pictures_times_and_links(browser: Any, verdicts: list[Verdict], tmp_path: Path) -> None:
    opened(browser, tmp_path, review_page(verdicts, tmp_path))
    choose(browser, "order", "name")
    cards = dict(zip(names(browser), browser.find_elements("css selector", "article"), strict=True))
    video = cards["temple.mp4: cats"]
    assert video.find_element("css selector", ".time").text == "0:01-0:03"
    assert video.find_element("css selector", "a").get_attribute("href") == f"{(tmp_path / 'temple.mp4').as_uri()}#t=1"
    size = "const i = arguments[0].querySelector('img'); return [i.naturalWidth, i.naturalHeight, i.alt]"
    width, height, alt = browser.execute_script(size, cards["cat.jpg: cats"])
    with Image.open(tmp_path / "cat.jpg") as cat:
        assert width / height == pytest.approx(cat.width / cat.height, rel=0.02)
    assert (max(width, height), alt) == (320, "cat.jpg")
    gone = cards["gone.jpg: not readable"]
    assert "no such file" in gone.text
    assert not gone.find_elements("css selector", "img, [data-decision]")
    box = "const i = arguments[0].querySelector('img').getBoundingClientRect(), s = arguments[0].querySelector('.shot')"
    assert browser.execute_script(f"{box}.getBoundingClientRect(); return i.height <= s.height", cards["cat.jpg: cats"])


def test_dark_light_small_and_labelled(browser: Any, verdicts: list[Verdict], tmp_path: Path) -> None:
    opened(browser, tmp_path, review_page(verdicts, tmp_path))
    colours = set()
    for scheme in ("light", "dark"):
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
        colours.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        for selector in (".quiet", ".flag", ".review", "#save", ".name a", "label"):
            assert contrast(browser, selector) >= 4.5, (scheme, selector)
    assert len(colours) == 2
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    unlabelled = """return [...document.querySelectorAll("input, select, button, article, [role=group], main, img")]
        .filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim() || one.alt))
        .map((one) => one.outerHTML)"""
    assert browser.execute_script(unlabelled) == []
    small = {"width": 340, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    try:
        browser.refresh()
        assert browser.execute_script("return document.scrollingElement.scrollWidth") <= 340
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def contrast(browser: Any, selector: str) -> float:
    """The ratio of WCAG 2 between an element's colour and the first opaque background behind it."""
    code = """let one = document.querySelector(arguments[0]); const ink = getComputedStyle(one).color;
        while (/, 0\\)$/.test(getComputedStyle(one).backgroundColor)) one = one.parentElement;
        return [ink, getComputedStyle(one).backgroundColor]"""
    levels = []
    for colour in browser.execute_script(code, selector):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
                  for v in (int(x) / 255 for x in re.findall(r"\d+", colour)[:3])]  # fmt: skip
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_a_hostile_name_is_text(browser: Any, verdicts: list[Verdict], tmp_path: Path, hostile_name: Path) -> None:
    opened(browser, tmp_path, review_page(verdicts, tmp_path))
    assert browser.title == "Moderation review"
    assert hostile_name.name in [link.text for link in browser.find_elements("css selector", ".name a")]
    code = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    browser.execute_script(code)
    assert browser.title == "Moderation review", "the policy lets no other script run"
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(name.startswith("data:") for name in loaded), loaded


def test_the_page_names_no_address(verdicts: list[Verdict], tmp_path: Path) -> None:
    page = review_page(verdicts, tmp_path)
    assert "://" not in page
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search("unsafe|http|\\*", policy)


def test_what_passes_is_shown_when_asked_for(verdicts: list[Verdict], tmp_path: Path) -> None:
    def asked(page: str) -> list[tuple[str, str]]:
        data = json.loads(re.search('id="data">(.*?)</script>', page)[1])  # type: ignore[index]
        return [(item["name"], item["category"]) for item in data["items"] if item["verdict"] == "pass"]

    assert asked(review_page(verdicts, tmp_path)) == []
    assert asked(review_page(verdicts, tmp_path, passing=1)) == [("motorcycle.jpg", "cats"), ("cat.jpg", "bikes")]
    assert len(asked(review_page(verdicts, tmp_path, passing=9))) == 3
    few = json.loads(re.search('id="data">(.*?)</script>', review_page(verdicts, tmp_path, limit=2))[1])  # type: ignore[index]
    assert ([item["score"] for item in few["items"]], few["leftOut"]) == ([0.9, 0.8], 4)
    clean = [Verdict("a.jpg", "pass", (finding("cats", 0.1, "pass"),))]
    with pytest.raises(InputError, match="every file passes"):
        review_page(clean, tmp_path)
