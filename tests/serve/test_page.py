"""The page in a real browser: search, pictures, videos, labels, review, keys, keyboard, many items, contrast."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

import midsight
from midsight.library.moderate.labels import read_decisions
from tests.serve.library import DEMO, POLICY, make_index, make_many, make_photos, serving_library
from tests.serve.server import file

MANY = 100_000
CLIP = re.compile("^temple.mp4, video at ")
COPY = """async (png) => {
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
}"""
CONTRAST = """() => {
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
  if (!text || !element.checkVisibility() || element.matches(":disabled, :disabled *, .badge, .like, option")) continue;
  let under = element;
  while (under && (rgb(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
  const ground = getComputedStyle(under ?? document.body).backgroundColor;
  const [a, b] = [light(rgb(getComputedStyle(element).color)), light(rgb(ground))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text]);
}
return found;
}"""
UNNAMED = """(all) => {
  const named = (one) => one.ariaLabel || one.textContent.trim() || one.labels?.length || one.hasAttribute("alt");
  return all.filter((one) => !named(one)).map((one) => one.outerHTML);
}"""
SCROLL = """(jumps) => new Promise((done) => {
  scrollTo(0, jumps ? Math.random() * document.documentElement.scrollHeight : scrollY + 700);
  const drawn = () => done(document.querySelectorAll("*").length);
  requestAnimationFrame(() => requestAnimationFrame(drawn));
})"""

TO_THE_LAST = """(place) => {  // the page grows as long as items arrive
  scrollTo(0, document.documentElement.scrollHeight);
  return document.querySelector(`[aria-posinset="${place}"]`) !== null;
}"""


def expect_status(page: Page, words: str) -> None:
    """What the view in sight tells."""
    expect(page.get_by_role("status")).to_contain_text(words)


def tiles(page: Page) -> Locator:
    return page.get_by_role("list", name="Results").get_by_role("listitem")


def tile(page: Page, place: int) -> Locator:
    """What opens the item at a place among the results, the first of which is 1."""
    return page.locator(f'[aria-posinset="{place}"] .open')


def expect_first(page: Page, *names: str | re.Pattern[str]) -> None:
    """The first results, in their order."""
    for place, name in enumerate(names, 1):
        expect(tile(page, place)).to_have_accessible_name(name)


def pictures(page: Page) -> Locator:
    """The small pictures that have arrived."""
    return page.locator(".tile img.there")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def words(page: Page) -> Locator:
    return page.get_by_role("searchbox", name="What to look for")


def enter(field: Locator, text: str) -> None:
    field.fill(text)
    field.press("Enter")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_photos(tmp_path_factory.mktemp("page") / "photos")
    make_index(midsight.load(device="cpu", threads=1), root)
    (root.parent / "policy.yaml").write_text(POLICY)
    return root


@pytest.fixture(scope="module")
def address(photos: Path) -> Iterator[str]:
    with serving_library(photos, policy=photos.parent / "policy.yaml") as address:
        yield address


@pytest.fixture(scope="module")
def locked(photos: Path) -> Iterator[str]:
    """A server that asks for a key."""
    with serving_library(photos, keys=["secret"]) as address:
        yield address


@pytest.fixture(scope="module")
def crowded(
    tiny_folder: Path, tiny_model: midsight.Perception, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server of a hundred thousand items."""
    index = make_many(tiny_model, str(tiny_folder), tmp_path_factory.mktemp("crowded") / "many", MANY)
    with serving_library(index) as address:
        yield address


@pytest.fixture
def page(tab: Page, address: str) -> Page:
    """The photos, all nine in sight. The tab is closed before the server is."""
    tab.goto(address)
    expect_status(tab, "9 items")
    return tab


def test_words_find_and_filters_narrow(page: Page) -> None:
    expect_first(page, "report.pdf, page 1", "report.pdf, page 2", "temple.mp4, video at 0:00")
    enter(words(page), "a cat")
    expect_first(page, "old/cat.jpg")
    enter(words(page), "zeppelins")
    expect_first(page, "report.pdf, page 2")
    page.get_by_text("Filters").click()
    page.get_by_label("videos").check()
    expect_status(page, "3 found")
    expect_first(page, CLIP, CLIP, CLIP)
    expect(tiles(page)).to_have_count(3)
    page.get_by_label("videos").uncheck()
    expect_status(page, "9 found")
    enter(page.get_by_label("Path"), "old/*")
    expect_status(page, "2 found")
    page.go_back()
    expect_status(page, "9 found")
    enter(page.get_by_label("Path"), "nothing/*")
    expect_status(page, "Nothing fits")
    expect(tiles(page)).to_have_count(0)
    button(page, "Clear").click()
    expect_status(page, "9 found")


def test_pictures_are_dropped_pasted_and_chosen(page: Page) -> None:
    carried = page.evaluate_handle("""() => {
        const carried = new DataTransfer();
        carried.items.add(new File([], "a.jpg", {type: "image/jpeg"}));
        return carried;
    }""")
    invitation = page.get_by_text("Drop the picture")
    page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
    expect(invitation).to_be_visible()
    page.dispatch_event("body", "dragleave", {"dataTransfer": carried})
    expect(invitation).to_be_hidden()
    page.locator("body").drop({"files": DEMO / "rocket.jpg"})
    expect_status(page, "9 found")
    expect(invitation).to_be_hidden()
    expect_first(page, "rocket.jpg")
    button(page, "Without rocket.jpg").click()
    expect_status(page, "9 items")
    page.context.grant_permissions(["clipboard-write"])
    png = io.BytesIO()
    Image.open(DEMO / "cat.jpg").save(png, "PNG")
    page.evaluate(COPY, base64.b64encode(png.getvalue()).decode())
    page.keyboard.press("Control+V")
    expect_status(page, "9 found")
    expect_first(page, "old/cat.jpg")
    page.get_by_label("Picture", exact=True).set_input_files(DEMO / "motorcycle.jpg")
    expect_first(page, "motorcycle.jpg")


def expect_playing_from(page: Page, second: float) -> None:
    """The open video plays, and it began there."""
    began = page.wait_for_function("""() => {
        const played = document.querySelector("#media video")?.played;
        return played?.length && played.end(0) > played.start(0) && [played.start(0)];
    }""").json_value()
    assert began == pytest.approx([second], abs=0.05)


def test_a_video_plays_from_its_second(page: Page) -> None:
    button(page, "temple.mp4, video at 0:04").click()
    expect_playing_from(page, 4)
    button(page, "Previous hit").click()
    expect_playing_from(page, 2)
    button(page, "Close").click()
    expect(page.locator("#media video")).to_have_count(0)


def test_a_page_of_a_document_is_shown(page: Page) -> None:
    button(page, "report.pdf, page 2").click()
    viewer = page.get_by_role("dialog", name="report.pdf · page 2")
    expect(viewer.get_by_role("img", name="report.pdf")).not_to_have_js_property("naturalWidth", 0)
    expect(viewer.get_by_role("link", name="Open the file")).to_have_attribute("href", re.compile("#page=2$"))
    button(page, "Close").click()
    expect(viewer).to_be_hidden()


def test_similar_to_this(page: Page) -> None:
    button(page, "temple.mp4, video at 0:02").click()
    button(page, "Similar to this").click()
    expect_status(page, "8 found")
    expect_first(page, CLIP, CLIP)
    button(page, "Without temple.mp4, 0:02").click()
    expect_status(page, "9 items")


def test_labels_are_scored_while_they_are_written(page: Page) -> None:
    button(page, "Labels").click()
    page.locator("body").drop({"files": DEMO / "coffee.jpg"})
    expect_status(page, "a cup of coffee")
    meters = page.get_by_role("list", name="Scores").get_by_role("meter")
    scores = meters.evaluate_all("(all) => all.map((one) => Number(one.ariaValueNow))")
    assert len(scores) == 6
    assert sum(scores) == pytest.approx(1, abs=1e-3)
    assert scores == sorted(scores, reverse=True)
    page.get_by_role("textbox", name="Labels").fill("a bicycle\nan espresso")
    expect_status(page, "an espresso")
    expect(meters).to_have_count(2)


def test_an_item_goes_to_the_labels(page: Page) -> None:
    button(page, "rocket.jpg").click()
    button(page, "Try labels").click()
    expect_status(page, "a rocket")


def test_decisions_are_made_by_keys_and_kept(page: Page, photos: Path) -> None:
    def kept() -> dict[Path, dict[str, bool]]:
        return read_decisions(photos / ".midsight" / "decisions.jsonl")

    button(page, "Review").click()
    claim = page.get_by_role("region", name="Question").get_by_role("heading")
    expect_status(page, "0 of")
    expect(claim).to_contain_text("animals")
    page.keyboard.press("y")
    expect_status(page, "1 of")
    expect(claim).to_contain_text("vehicles")
    page.keyboard.press("n")
    expect_status(page, "2 of")
    page.reload()
    expect_status(page, "2 of")
    assert kept()[photos / "old" / "cat.jpg"] == {"animals": True}
    assert sorted(yes for known in kept().values() for yes in known.values()) == [False, True]
    questions = page.get_by_role("list", name="All questions").get_by_role("button")
    expect(questions.and_(page.get_by_role("button", name="decided"))).to_have_count(2)
    questions.first.click()
    page.keyboard.press("u")
    page.keyboard.press("ArrowRight")
    expect_status(page, "1 of")
    assert photos / "old" / "cat.jpg" not in kept()


def test_the_keyboard_is_enough(page: Page) -> None:
    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    expect(words(page)).to_be_focused()
    page.keyboard.type("a cat")
    press("Enter")
    expect_status(page, "found")
    press("ArrowDown")
    expect(tile(page, 1)).to_be_focused()
    expect(tile(page, 1)).to_have_accessible_name("old/cat.jpg")
    press("ArrowRight")
    expect(tile(page, 2)).to_be_focused()
    press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(tile(page, 2)).to_be_focused()
    press("Home", "End")
    expect(tile(page, 9)).to_be_focused()
    press("/")
    expect(words(page)).to_be_focused()
    press("ArrowDown", "Home", "s")
    expect_status(page, "8 found")
    page.evaluate("document.activeElement.blur()")
    press("Tab")
    expect(page.locator(":focus-visible")).to_have_count(1)


def test_what_is_heard(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_attribute("aria-live", "polite")
    assert page.locator("button, input, select, textarea, a, img").evaluate_all(UNNAMED) == []
    assert tiles(page).evaluate_all("(all) => all.map((one) => one.ariaSetSize)") == ["9"] * 9
    expect(page.locator('.tile .open[tabindex="0"]')).to_have_count(1)
    expect(page.locator("body")).to_match_aria_snapshot("""
        - banner:
          - navigation "Views":
            - button "Search"
            - button "Labels"
            - button "Review"
          - button "Dark colours"
        - main:
          - search "Search this folder":
            - searchbox "What to look for"
          - status: 9 items, the newest first
          - list "Results":
            - listitem:
              - button "report.pdf, page 1"
              - button "Similar to report.pdf"
    """)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_and_width(page: Page, address: str, theme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 400, "height": 800})
    for view in ("q=a+cat&kind=image", "view=labels", "view=review"):
        page.goto("about:blank")  # another part of one page would not load it anew
        page.goto(f"{address}/#{view}")
        expect(page.locator("#folder")).to_have_text("photos")
        expect(page.locator("body")).not_to_contain_text("Looking")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        found = page.evaluate(CONTRAST)
        assert len(found) > 8
        assert [entry for entry in found if entry[0] < 4.5] == []
    button(page, "Dark colours").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark" if theme == "light" else "light")


def test_a_key_is_asked_for_and_kept_in_the_tab(tab: Page, wrong: list[str], locked: str) -> None:
    tab.goto(locked)
    asks = tab.get_by_role("dialog", name="This server asks for a key")
    enter(asks.get_by_label("API key"), "wrong")
    expect(asks).to_contain_text("not known")
    enter(asks.get_by_label("API key"), "secret")
    for _ in range(2):
        expect_status(tab, "9 items")
        expect(pictures(tab)).to_have_count(9)
        tab.reload()
    assert tab.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    assert ["401" in one for one in wrong] == [True, True], wrong
    wrong.clear()


def test_words_of_the_server_are_shown(page: Page, wrong: list[str]) -> None:
    with page.expect_console_message(lambda message: "400" in message.text):  # by Chromium itself
        enter(words(page), "word " * 70)
    expect_status(page, "tokens")
    expect(page.get_by_role("status")).to_have_class("bad")
    assert len(wrong) == 1
    wrong.clear()


def expect_height(page: Page, pixels: int) -> None:
    """The page grows to this height as items arrive; all of them make 6,200,000 pixels."""
    page.wait_for_function("(pixels) => document.documentElement.scrollHeight > pixels", arg=pixels, timeout=60_000)


def test_the_last_of_a_hundred_thousand_items(tab: Page, crowded: str) -> None:
    tab.goto(crowded)
    expect_status(tab, "100,000 items")
    expect_height(tab, 6_000_000)
    tab.wait_for_function(TO_THE_LAST, arg=MANY)
    expect(tile(tab, MANY)).to_be_in_viewport()
    expect(tile(tab, MANY)).to_have_accessible_name("19.png")
    expect(pictures(tab).nth(5)).to_be_attached()


def test_a_hundred_thousand_items_scroll(tab: Page, crowded: str) -> None:
    picture = file(0)  # from here: what waits at the server is no fault of the page
    tab.route("**/thumbnail?*", lambda route: route.fulfill(body=picture, content_type="image/png"))
    tab.goto(crowded)
    expect_height(tab, 2_000_000)
    chromium = tab.context.new_cdp_session(tab)
    chromium.send("Performance.enable")

    def spent() -> float:
        """Milliseconds of a processor that the page's main thread had: whoever else is on it does not count."""
        metrics = chromium.send("Performance.getMetrics")["metrics"]
        return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")

    nodes, clock = [], [spent()]
    for step in range(60):
        nodes.append(tab.evaluate(SCROLL, step % 10 == 9))
        clock.append(spent())
    steps = np.diff(clock)
    figures = {"median": np.median(steps), "p90": np.quantile(steps, 0.9), "longest": steps.max(), "nodes": max(nodes)}
    print(json.dumps(figures))  # noqa: T201
    assert max(nodes) < 1500
    assert 0 < figures["median"] < 50  # milliseconds
    assert figures["longest"] < 200
