"""The page in a real browser: search, pictures, videos, labels, review, keys, keyboard, many items, contrast."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import midsight
from midsight.library.moderate.labels import read_decisions
from tests.serve.library import DEMO, POLICY, make_index, make_many, make_photos, serving_library

MANY = 100_000
PICTURES = "return document.querySelectorAll('.tile img.there').length"
DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], "dropped.jpg", {type: "image/jpeg"}));
for (const name of arguments[1]) {
  const event = name === "paste" ? new ClipboardEvent(name, {clipboardData: carried, bubbles: true, cancelable: true})
    : new DragEvent(name, {dataTransfer: carried, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}
"""
CONTRAST = """
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
"""
SCROLL = """
const done = arguments[0];
const [frames, long] = [[], []];
new PerformanceObserver((list) => long.push(...list.getEntries().map((e) => e.duration))).observe({type: "longtask"});
let [last, most, steps] = [performance.now(), 0, 0];
const height = document.documentElement.scrollHeight;
const step = (now) => {
  frames.push(now - last);
  last = now;
  most = Math.max(most, document.querySelectorAll("*").length);
  if (++steps > 120) { setTimeout(() => done({frames, long, most, height}), 100); return; }
  scrollTo(0, steps % 10 ? scrollY + 700 : Math.random() * height);
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""


class Page:
    """A browser on one server."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address

    def open(self, hash: str = "") -> "Page":
        self.browser.get("about:blank")
        self.browser.get_log("browser")  # what the page before this one left, when its server stopped, say
        self.browser.get(f"{self.address}/{hash}")
        return self

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def until(self, true: Callable[[], Any], seconds: float = 20) -> Any:
        end = time.monotonic() + seconds
        while True:
            if found := true():
                return found
            assert time.monotonic() < end, f"it did not happen; status: {self.text('#status')!r}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def status(self, words: str, where: str = "#status") -> None:
        self.until(lambda: words in self.text(where))

    def tiles(self) -> list[str]:
        """Names of the tiles in their order."""
        found = self.run("""return [...document.querySelectorAll(".tile")].sort((a, b) => a.index - b.index)
            .map((tile) => tile.querySelector(".open").getAttribute("aria-label"))""")
        return [str(name) for name in found]

    def ask(self, words: str) -> None:
        self.one("#words").clear()
        self.one("#words").send_keys(words + "\n")
        self.status("found")

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def focused(self) -> str:
        return str(self.run("return document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))

    def check(self) -> None:
        """Nothing came from elsewhere, and nothing went wrong."""
        loaded = self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert all(name.startswith((self.address, "blob:" + self.address)) for name in loaded), loaded
        assert self.browser.get_log("browser") == []


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


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = Page(browser, address)
    page.open().status("9 items")
    yield page
    page.check()


def test_words_find_and_filters_narrow(page: Page) -> None:
    assert page.tiles()[:3] == ["report.pdf, page 1", "report.pdf, page 2", "temple.mp4, video at 0:00"]
    page.ask("a cat")
    assert page.tiles()[0] == "old/cat.jpg"
    page.ask("zeppelins")
    assert page.tiles()[0] == "report.pdf, page 2"
    page.one("#more summary").click()
    page.one("[value=video]").click()
    page.status("3 found")
    assert {name.partition(",")[0] for name in page.tiles()} == {"temple.mp4"}
    page.one("[value=video]").click()
    page.status("9 found")
    page.one("#path").send_keys("old/*\n")
    page.status("2 found")
    page.run("history.back()")
    page.status("9 found")
    page.one("#path").clear()
    page.one("#path").send_keys("nothing/*\n")
    page.status("Nothing fits")
    assert page.tiles() == []
    page.one("#clear").click()
    page.status("9 found")


def test_pictures_are_dropped_pasted_and_chosen(page: Page) -> None:
    rocket = base64.b64encode((DEMO / "rocket.jpg").read_bytes()).decode()
    page.run(DROP, rocket, ["dragenter"])
    assert page.one("#dropping").is_displayed()
    page.run(DROP, rocket, ["dragover", "drop"])
    page.status("9 found")
    assert not page.one("#dropping").is_displayed()
    assert page.tiles()[0] == "rocket.jpg"
    page.one(".chip button").click()
    page.status("9 items")
    page.run(DROP, base64.b64encode((DEMO / "cat.jpg").read_bytes()).decode(), ["paste"])
    page.status("9 found")
    assert page.tiles()[0] == "old/cat.jpg"
    page.one("#picture").send_keys(str(DEMO / "motorcycle.jpg"))
    page.until(lambda: page.tiles()[0] == "motorcycle.jpg")


def test_a_video_plays_from_its_second(page: Page) -> None:
    page.one('[aria-label="temple.mp4, video at 0:04"]').click()
    playing = "const v = document.querySelector('#media video'); return v && v.played.length && v.currentTime"
    seconds = page.until(lambda: page.run(playing))
    assert 4 <= seconds < 5.3
    page.one("#previous").click()
    seconds = page.until(lambda: page.run(playing.replace("v.currentTime", "v.currentTime < 4 && v.currentTime")))
    assert 2 <= seconds < 4
    page.one("#close").click()
    page.until(lambda: page.run("return document.querySelector('#media video') === null"))  # `close` comes as an event


def test_a_page_of_a_document_is_shown(page: Page) -> None:
    page.one('[aria-label="report.pdf, page 2"]').click()
    page.until(lambda: page.run("const i = document.querySelector('#media img'); return i && i.naturalWidth"))
    assert page.one("#file").get_attribute("href").endswith("#page=2")
    assert "report.pdf · page 2" in page.text("#caption")
    page.one("#close").click()


def test_similar_to_this(page: Page) -> None:
    page.one('[aria-label="temple.mp4, video at 0:02"]').click()
    page.one("#similar").click()
    page.status("8 found")
    assert [name.partition(",")[0] for name in page.tiles()[:2]] == ["temple.mp4"] * 2
    assert "temple.mp4, 0:02" in page.text("#chips")
    page.one(".chip button").click()
    page.status("9 items")


def test_labels_are_scored_while_they_are_written(page: Page) -> None:
    page.one("[data-view=labels]").click()
    page.run(DROP, base64.b64encode((DEMO / "coffee.jpg").read_bytes()).decode(), ["drop"])
    page.status("a cup of coffee", "#labels-status")
    scores = page.run("return [...document.querySelectorAll('#scores .meter')].map((one) => Number(one.ariaValueNow))")
    assert len(scores) == 6
    assert sum(scores) == pytest.approx(1, abs=1e-3)
    assert scores == sorted(scores, reverse=True)
    page.one("#names").clear()
    page.one("#names").send_keys("a bicycle\nan espresso")
    page.status("an espresso", "#labels-status")
    assert len(page.run("return [...document.querySelectorAll('#scores li')]")) == 2


def test_an_item_goes_to_the_labels(page: Page) -> None:
    page.one('[aria-label="rocket.jpg"]').click()
    page.one("#to-labels").click()
    page.status("a rocket", "#labels-status")


def test_decisions_are_made_by_keys_and_kept(page: Page, photos: Path) -> None:
    page.one("[data-view=review]").click()
    page.status("0 of", "#review-status")
    assert "animals" in page.text("#claim")
    page.keys("y")
    page.status("1 of", "#review-status")
    assert "vehicles" in page.text("#claim")
    page.keys("n")
    page.status("2 of", "#review-status")
    page.open("#view=review").status("2 of", "#review-status")
    kept = read_decisions(photos / ".midsight" / "decisions.jsonl")
    assert kept[photos / "old" / "cat.jpg"] == {"animals": True}
    assert sorted(yes for known in kept.values() for yes in known.values()) == [False, True]
    from selenium.webdriver import Keys

    page.until(lambda: page.run("return document.querySelectorAll('#questions [aria-label*=decided]').length") == 2)
    page.run("document.querySelector('#questions button').click()")
    page.keys("u", Keys.ARROW_RIGHT)
    page.status("1 of", "#review-status")
    assert photos / "old" / "cat.jpg" not in read_decisions(photos / ".midsight" / "decisions.jsonl")


def test_the_keyboard_is_enough(page: Page) -> None:
    from selenium.webdriver import Keys

    assert page.focused() == "What to look for"
    page.keys("a", " ", "c", "a", "t", Keys.ENTER)
    page.status("found")
    page.keys(Keys.ARROW_DOWN)
    assert page.focused() == "old/cat.jpg"
    page.keys(Keys.ARROW_RIGHT)
    second = page.focused()
    assert second == page.tiles()[1]
    page.keys(Keys.ENTER)
    page.until(lambda: page.one("#viewer").is_displayed())
    page.keys(Keys.ESCAPE)
    page.until(lambda: page.focused() == second)
    page.keys(Keys.HOME, Keys.END)
    assert page.focused() == page.tiles()[-1]
    page.keys("/")
    assert page.focused() == "What to look for"
    page.keys(Keys.ARROW_DOWN, Keys.HOME, "s")
    page.status("8 found")
    page.run("document.activeElement.blur()")
    page.keys(Keys.TAB)
    assert page.run("return document.activeElement.matches(':focus-visible')")


def test_what_is_heard(page: Page) -> None:
    assert page.one("#status").get_attribute("aria-live") == "polite"
    unnamed = page.run("""return [...document.querySelectorAll("button, input, select, textarea, a, img")]
        .filter((one) => !one.getAttribute("aria-label") && !one.textContent.trim() && !one.labels?.length
            && !one.hasAttribute("alt"))
        .map((one) => one.outerHTML)""")
    assert unnamed == []
    sizes = page.run("return [...document.querySelectorAll('.tile')].map((tile) => tile.getAttribute('aria-setsize'))")
    assert set(sizes) == {"9"}
    assert page.run("return document.querySelectorAll('.tile .open[tabindex=\"0\"]').length") == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_and_width(page: Page, theme: str) -> None:
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        for hash in ("#q=a+cat&kind=image", "#view=labels", "#view=review"):
            page.open(hash)
            page.until(lambda: page.text("#folder") == "photos")
            page.until(lambda: "Looking" not in page.text("body"))
            assert page.run("return document.documentElement.dataset.theme") == theme
            assert page.run("return document.documentElement.scrollWidth") <= 400
            found = page.run(CONTRAST)
            assert len(found) > 8
            assert [entry for entry in found if entry[0] < 4.5] == []
        page.one("#theme").click()
        assert page.run("return document.documentElement.dataset.theme") != theme
        page.one("#theme").click()
    finally:
        page.run("localStorage.clear()")
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Any, photos: Path) -> None:
    with serving_library(photos, keys=["secret"]) as address:
        page = Page(browser, address).open()
        page.until(lambda: page.one("#lock").is_displayed())
        page.one("#key").send_keys("wrong\n")
        page.until(lambda: "not known" in page.text("#lock-told"))
        page.one("#key").send_keys("secret\n")
        page.status("9 items")
        page.until(lambda: page.run(PICTURES) == 9)
        page.browser.refresh()
        page.status("9 items")
        page.until(lambda: page.run(PICTURES) == 9)
        assert page.run("return [sessionStorage.length, localStorage.length]") == [1, 0]
        refused = [entry for entry in browser.get_log("browser") if "401" not in entry["message"]]
        assert refused == []


def test_words_of_the_server_are_shown(page: Page) -> None:
    page.one("#words").send_keys("word " * 70 + "\n")
    page.status("tokens")
    assert "bad" in page.one("#status").get_attribute("class")
    told = page.until(lambda: page.browser.get_log("browser"))  # by Chromium itself
    assert ["400" in entry["message"] for entry in told if entry["level"] == "SEVERE"] == [True], told


def test_a_hundred_thousand_items_scroll(
    browser: Any, tmp_path: Path, tiny_folder: Path, tiny_model: midsight.Perception
) -> None:
    index = make_many(tiny_model, str(tiny_folder), tmp_path / "many", MANY)
    with serving_library(index) as address:
        page = Page(browser, address).open()
        page.status("100,000 items")
        page.until(lambda: page.run("return document.querySelector('#grid').offsetHeight") > 2_000_000, 60)
        # the best of three rounds: what else the machine does is no fault of the page
        rounds = (browser.execute_async_script(SCROLL) for _ in range(3))
        found = next((one for one in rounds if not sum(d > 200 for d in one["long"])), None)
        assert found is not None, "a task above 200 milliseconds in each of three rounds"
        frames = sorted(found["frames"])
        figures = {"median": frames[len(frames) // 2], "p90": frames[len(frames) * 9 // 10], "long": found["long"]}
        print(json.dumps({**figures, "nodes": found["most"]}))  # noqa: T201
        assert found["most"] < 1500
        assert figures["median"] < 50  # milliseconds
        page.run("scrollTo(0, document.documentElement.scrollHeight)")
        page.until(lambda: any(name.startswith("19.png") for name in page.tiles()))
        page.until(lambda: page.run(PICTURES) > 5)
        page.check()
