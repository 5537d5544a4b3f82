"""The review page in a real browser: what it shows, its keys, its filters, and what it gives back."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from midsight.errors import InputError
from midsight.library.moderate import Finding, Stretch, Verdict
from midsight.library.moderate.labels import read_decisions
from midsight.library.moderate.review import review_page
from tests.browser import SMALL


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


def opened(tab: Page, folder: Path, page: str) -> None:
    (folder / "review.html").write_text(page, encoding="utf-8")
    tab.goto((folder / "review.html").as_uri())


def card(tab: Page, asks: str) -> Locator:
    """The card of a file and a category."""
    return tab.get_by_role("article", name=f"{asks}, ")


def expect_cards(tab: Page, *asked: str) -> None:
    """The cards in sight, each a file and a category, in this order."""
    cards = tab.get_by_role("article")
    expect(cards).to_have_count(len(asked))
    for number, asks in enumerate(asked):
        expect(cards.nth(number)).to_have_accessible_name(re.compile(f"^{re.escape(asks)}, "))


def expect_progress(tab: Page, words: str) -> None:
    expect(tab.get_by_role("status")).to_have_text(words)


def choose(tab: Page, name: str, value: str) -> None:
    tab.get_by_role("combobox", name=name, exact=True).select_option(label=value)


def test_cards_decisions_and_back_again(tab: Page, verdicts: list[Verdict], tmp_path: Path, hostile_name: Path) -> None:
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    odd = hostile_name.name
    asked = ["motorcycle.jpg: bikes", f"{odd}: cats", "temple.mp4: bikes", "temple.mp4: cats", "cat.jpg: cats"]
    expect_cards(tab, *asked, "gone.jpg: not readable")
    expect_progress(tab, "0 of 5 decided, 6 shown")
    save = tab.get_by_role("button", name="Download decisions")
    expect(save).to_be_disabled()
    for key in ("ArrowRight", "y", "n", "ArrowRight", "y", "y", "ArrowLeft", "u"):
        tab.keyboard.press(key)
    expect_progress(tab, "3 of 5 decided, 6 shown")
    expect(tab.get_by_role("button", pressed=True)).to_have_text(["Yes", "No", "Yes"])
    expect(card(tab, "cat.jpg: cats")).to_be_focused()
    with tab.expect_download() as download:
        save.click()
    assert download.value.suggested_filename == "decisions.jsonl"
    path = tmp_path / "decisions.jsonl"
    download.value.save_as(path)
    expected = {
        tmp_path / "motorcycle.jpg": {"bikes": True}, hostile_name: {"cats": False},
        tmp_path / "temple.mp4": {"cats": True},
    }  # fmt: skip
    assert read_decisions(path) == expected
    line = json.loads(path.read_text().splitlines()[0])
    assert (line["score"], line["decided"][:2]) == (0.9, "20")
    tab.reload()
    expect_progress(tab, "3 of 5 decided, 6 shown")  # the browser keeps them
    tab.evaluate("localStorage.clear()")
    opened(tab, tmp_path, review_page(verdicts, tmp_path, read_decisions(path)))
    expect_progress(tab, "3 of 5 decided, 6 shown")  # a new page has them
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    expect_progress(tab, "0 of 5 decided, 6 shown")
    tab.get_by_label("Load decisions").set_input_files(path)
    expect_progress(tab, "3 of 5 decided, 6 shown")  # and they can be loaded


def test_filters_and_order(tab: Page, verdicts: list[Verdict], tmp_path: Path, hostile_name: Path) -> None:
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    choose(tab, "Category", "bikes")
    expect_cards(tab, "motorcycle.jpg: bikes", "temple.mp4: bikes")
    choose(tab, "Category", "all")
    choose(tab, "Verdict", "review")
    expect_cards(tab, "cat.jpg: cats")
    choose(tab, "Verdict", "all")
    choose(tab, "Order", "nearest to the threshold")
    near = ["cat.jpg: cats", "temple.mp4: cats", "temple.mp4: bikes", f"{hostile_name.name}: cats"]
    expect_cards(tab, *near, "motorcycle.jpg: bikes", "gone.jpg: not readable")
    choose(tab, "Order", "name")
    bikes = ["motorcycle.jpg: bikes", "temple.mp4: bikes", "temple.mp4: cats"]
    expect_cards(tab, f"{hostile_name.name}: cats", "cat.jpg: cats", "gone.jpg: not readable", *bikes)
    card(tab, "cat.jpg: cats").get_by_role("button", name="No").click()
    choose(tab, "Decision", "no")
    expect_cards(tab, "cat.jpg: cats")
    choose(tab, "Decision", "all")
    tab.get_by_role("searchbox", name="Name").press_sequentially("MOTOR y")
    expect_cards(tab)
    expect(tab.get_by_text("Nothing matches these filters.")).to_be_visible()
    expect_progress(tab, "1 of 5 decided, 0 shown")  # typed letters are no keys


def test_pictures_times_and_links(tab: Page, verdicts: list[Verdict], tmp_path: Path) -> None:
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    video = card(tab, "temple.mp4: cats")
    expect(video.locator(".time")).to_have_text("0:01-0:03")
    expect(video.get_by_role("link")).to_have_js_property("href", f"{(tmp_path / 'temple.mp4').as_uri()}#t=1")
    shot = card(tab, "cat.jpg: cats").get_by_role("img", name="cat.jpg", exact=True)
    expect(shot).to_have_js_property("complete", True)
    width, height = shot.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    with Image.open(tmp_path / "cat.jpg") as cat:
        assert width / height == pytest.approx(cat.width / cat.height, rel=0.02)
    assert max(width, height) == 320
    gone = card(tab, "gone.jpg: not readable")
    expect(gone).to_contain_text("no such file")
    expect(gone.locator("img, button")).to_have_count(0)
    assert shot.evaluate("(image) => image.offsetHeight <= image.closest('.shot').offsetHeight")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(tab: Page, verdicts: list[Verdict], tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    tab.emulate_media(color_scheme=scheme)
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    light = luminance(tab.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor"))
    assert light > 0.5 if scheme == "light" else light < 0.1
    for selector in (".quiet", ".flag", ".review", "#save", ".name a", "label"):
        assert contrast(tab.locator(selector).first) >= 4.5, selector


@pytest.mark.parametrize("tab", [SMALL], indirect=True, ids=["small"])
def test_small_and_labelled(tab: Page, verdicts: list[Verdict], tmp_path: Path) -> None:
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= 340
    unlabelled = """(all) => all.filter((one) => !(one.labels?.length || one.getAttribute("aria-label")
        || one.textContent.trim() || one.alt)).map((one) => one.outerHTML)"""
    found = tab.locator("input, select, button, article, [role=group], main, img")
    assert found.count() > 20
    assert found.evaluate_all(unlabelled) == []


def luminance(colour: str) -> float:
    """Of WCAG 2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
              for v in (int(x) / 255 for x in re.findall(r"\d+", colour)[:3])]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(element: Locator) -> float:
    """The ratio of WCAG 2 between an element's colour and the first opaque background behind it."""
    colours = element.evaluate("""(one) => {
        const ink = getComputedStyle(one).color;
        while (/, 0\\)$/.test(getComputedStyle(one).backgroundColor)) one = one.parentElement;
        return [ink, getComputedStyle(one).backgroundColor];
    }""")
    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


def test_a_hostile_name_is_text(
    tab: Page, wrong: list[str], verdicts: list[Verdict], tmp_path: Path, hostile_name: Path
) -> None:
    opened(tab, tmp_path, review_page(verdicts, tmp_path))
    expect(tab.get_by_role("link", name=hostile_name.name, exact=True)).to_be_visible()
    with tab.expect_console_message(lambda message: "Content Security Policy" in message.text):
        tab.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))"
        )
    assert tab.title() == "Moderation review", "the policy lets no other script run"
    assert len(wrong) == 1
    wrong.clear()


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
