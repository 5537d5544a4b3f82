"""The page in a real browser: what is drawn and marked is what Python computes, and nothing else happens."""

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import midsight
from midsight.api import dense_encoder
from midsight.cli.main import app
from midsight.errors import InputError
from midsight.tasks.attention import all_attention
from midsight.tasks.draw import heat
from midsight.tasks.explore import explore_page
from midsight.tasks.features import DenseEncoder
from midsight.tasks.look import InputSize, Look, look_at
from midsight.tasks.similarity import cosine

LAYERS = [0, 2]
SIZE = InputSize(long_side=96)


@pytest.fixture
def photos(tmp_path: Path, hostile_name: Path) -> list[Path]:
    """Two smooth pictures of different shapes."""
    dice = np.random.default_rng(0)
    paths = [hostile_name, tmp_path / "other.png"]
    for path, (width, height) in zip(paths, ((120, 80), (90, 90)), strict=True):
        small = Image.fromarray(dice.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return paths


@pytest.fixture(scope="module")
def encoder(dense_folder: Path) -> DenseEncoder:
    return dense_encoder(midsight.load(dense_folder, device="cpu"), LAYERS)


@pytest.fixture
def looks(photos: list[Path], encoder: DenseEncoder) -> list[Look]:
    return [look_at(path, encoder, SIZE) for path in photos]


def tokens(encoder: DenseEncoder, looks: list[Look]) -> list[list[Tensor]]:
    """For each layer the tokens (N, C) of each picture."""
    maps = [encoder(look.images) for look in looks]
    return [[one[layer][0].flatten(1).T for one in maps] for layer in range(len(LAYERS))]


def opened(browser: Any, page: Path) -> None:
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []


def levels(browser: Any, picture: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What the heat map of a picture shows, as numbers of colours, in raster order; -1 where it is no such colour."""
    code = """
        const canvas = document.querySelectorAll(".view canvas")[arguments[0]];
        if (getComputedStyle(canvas).display === "none") return null;
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        return Array.from(copy.getImageData(0, 0, canvas.width, canvas.height).data);"""
    found = browser.execute_script(code, picture)
    assert found is not None, "nothing is drawn"
    rgb = np.array(found).reshape(-1, 4)[:, :3]
    exact = (rgb[:, None] == heat.heat_colours()[None]).all(axis=2)
    return np.where(exact.any(axis=1), exact.argmax(axis=1), -1)


def is_drawn(browser: Any, picture: int) -> bool:
    return browser.find_elements("css selector", ".view canvas")[picture].is_displayed()


def click(browser: Any, picture: int, token: int, look: Look) -> None:
    """A real click on the middle of a token."""
    from selenium.webdriver import ActionChains

    view = browser.find_elements("css selector", ".view")[picture]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    rows, columns = look.grid
    x = ((token % columns + 0.5) / columns - 0.5) * view.size["width"]
    y = ((token // columns + 0.5) / rows - 0.5) * view.size["height"]
    ActionChains(browser, duration=0).move_to_element_with_offset(view, round(x), round(y)).click().perform()


def mark(browser: Any, picture: int) -> tuple[int, str]:
    """The marked token of a picture, and the kind of mark; its frame must lie on that token."""
    element = browser.find_elements("css selector", ".mark")[picture]
    return int(element.get_attribute("data-token")), element.get_attribute("class")


def frame(browser: Any, picture: int, look: Look) -> int:
    """The token under the middle of the mark, by where it is on the screen."""
    box, view = (
        browser.execute_script(
            f"const b = document.querySelectorAll('{kind}')[arguments[0]].getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2, b.left, b.top, b.width, b.height]",
            picture,
        )
        for kind in (".mark", ".view")
    )
    rows, columns = look.grid
    column = int((box[0] - view[2]) / view[4] * columns)
    return int((box[1] - view[3]) / view[5] * rows) * columns + column


def test_the_page_shows_what_python_computes(
    browser: Any, photos: list[Path], looks: list[Look], encoder: DenseEncoder, dense_folder: Path, tmp_path: Path
) -> None:
    from selenium.webdriver.support.ui import Select

    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        app,
        [
            "explore",
            *map(str, photos),
            "-o",
            str(page),
            "-m",
            str(dense_folder),
            "--layers",
            "0,2",
            "--long-side",
            "96",
        ],
    )
    assert done.exit_code == 0, done.output
    opened(browser, page)
    choice = Select(browser.find_element("id", "layer"))
    assert [option.text for option in choice.options] == ["layer 1 of 3", "layer 3 of 3"]
    shown = []
    for layer, (left, right) in enumerate(tokens(encoder, looks)):
        choice.select_by_index(layer)
        table = cosine(torch.cat([left, right]), torch.cat([left, right]))
        count, across = len(left), table[: len(left), len(left) :]
        mutual = [n for n in range(count) if across[:, across[n].argmax()].argmax() == n]
        others = sorted(set(range(count)) - set(mutual))
        for token in (mutual[len(mutual) // 2], others[len(others) // 2]):
            click(browser, 0, token, looks[0])
            shown_heat = np.concatenate([levels(browser, 0), levels(browser, 1)])
            assert shown_heat.argmax() == token
            assert (shown_heat == 255).sum() == 1
            low = float(table[token].min())
            expected = (table[token].numpy() - low) / (1 - low)
            assert np.abs(shown_heat / 255 - expected).max() <= 0.025 / (1 - low)
            assert mark(browser, 0) == (token, "mark")
            match = int(across[token].argmax())
            assert mark(browser, 1) == (match, "mark match mutual" if token in mutual else "mark match")
            assert (frame(browser, 0, looks[0]), frame(browser, 1, looks[1])) == (token, match)
            told = browser.find_element("id", "told").text
            rows, columns = divmod(match, looks[1].grid[1])
            assert f"column {columns + 1}, row {rows + 1} of other.png" in told
            assert ("each is the other's best" in told) is (token in mutual)
            shown.append((token, shown_heat))
    click(browser, 0, shown[0][0], looks[0])
    assert (np.concatenate([levels(browser, 0), levels(browser, 1)]) != shown[0][1]).any(), "another layer, another map"
    click(browser, 1, 7, looks[1])
    assert (mark(browser, 0)[0], mark(browser, 1)) == (int(table[count + 7, :count].argmax()), (7, "mark"))
    assert browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(name.startswith("data:") for name in loaded), loaded


def test_attention_components_and_picture(
    browser: Any, looks: list[Look], encoder: DenseEncoder, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(explore_page(encoder, looks), encoding="utf-8")
    opened(browser, page)
    click(browser, 0, 40, looks[0])
    browser.find_element("css selector", "input[value=attention]").click()
    weights = all_attention(encoder.tower, looks[0].images, [2])[0][0, 40]
    np.testing.assert_allclose(levels(browser, 0) / 255, weights / weights.max(), atol=0.01)
    assert not is_drawn(browser, 1), "attention stays within its picture"
    assert f"{float(weights.max()):.1%}" == browser.find_element("id", "high").text.replace(" ", "")
    browser.find_element("css selector", "input[value=pca]").click()
    assert is_drawn(browser, 0)
    assert is_drawn(browser, 1)
    assert (levels(browser, 0) == -1).mean() > 0.9
    browser.find_element("css selector", "input[value=none]").click()
    assert not is_drawn(browser, 0)
    browser.find_element("css selector", "input[value=likeness]").click()
    browser.execute_script("const o = arguments[0]; o.value = 20; o.dispatchEvent(new Event('input'))",
                           browser.find_element("id", "opacity"))  # fmt: skip
    assert browser.execute_script("return document.querySelector('.view canvas').style.opacity") == "0.2"
    assert browser.get_log("browser") == []


def test_keys_hover_and_letting_go(browser: Any, looks: list[Look], encoder: DenseEncoder, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    page = tmp_path / "page.html"
    page.write_text(explore_page(encoder, looks), encoding="utf-8")
    opened(browser, page)
    rows, columns = looks[0].grid
    start = rows // 2 * columns + columns // 2
    assert mark(browser, 0)[0] == start
    focus = browser.execute_script("return document.activeElement.tagName")
    for _ in range(4):  # layer, radio buttons, opacity, first picture
        ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.execute_script("return document.activeElement === document.querySelectorAll('.view')[0]"), focus
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN).perform()
    assert mark(browser, 0)[0] == start + 1 + 2 * columns
    ActionChains(browser).send_keys(*[Keys.ARROW_LEFT] * 30).perform()
    assert mark(browser, 0)[0] == (rows // 2 + 2) * columns, "the border holds"
    view = browser.find_elements("css selector", ".view")[0]
    ActionChains(browser, duration=0).move_to_element(view).perform()
    assert mark(browser, 0)[0] == (rows // 2 + 2) * columns, "a kept token stays while the pointer moves"
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    ActionChains(browser, duration=0).move_to_element_with_offset(view, 3 - view.size["width"] // 2, 0).perform()
    assert mark(browser, 0)[0] % columns == 0
    assert "kept" not in browser.find_element("id", "told").text
    click(browser, 0, 5, looks[0])
    assert "kept" in browser.find_element("id", "told").text
    click(browser, 0, 5, looks[0])
    assert "kept" not in browser.find_element("id", "told").text


def test_a_hostile_name_is_text(
    browser: Any, hostile_name: Path, looks: list[Look], encoder: DenseEncoder, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(explore_page(encoder, looks), encoding="utf-8")
    opened(browser, page)
    assert browser.find_element("css selector", "figcaption").text.startswith(f"{hostile_name.name}, 120x80 pixels")
    assert browser.title == f"{hostile_name.name} and other.png: look inside"
    assert len(browser.find_elements("css selector", "img")) == 2
    code = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    browser.execute_script(code)
    assert browser.title.endswith("look inside"), "the policy lets no other script run"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_a_small_screen_and_one_picture(browser: Any, looks: list[Look], encoder: DenseEncoder, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(explore_page(encoder, looks[1:], with_attention=False), encoding="utf-8")
    small = {"width": 340, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    try:
        opened(browser, page)
        wide = browser.execute_script("return [document.scrollingElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1] == 340
        click(browser, 0, 13, looks[1])
        assert levels(browser, 0).argmax() == 13
        assert browser.find_element("id", "told").text.endswith("of other.png, kept.")
        assert not browser.find_element("css selector", "input[value=attention]").is_enabled()
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_file_holds_all_and_names_no_address(looks: list[Look], encoder: DenseEncoder) -> None:
    page = explore_page(encoder, looks)
    assert "://" not in page
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=[\"']?(?!data:)[^\"'>]", page)
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert (parts["default-src"], parts["img-src"]) == ("'none'", "data:")
    assert not re.search("unsafe|http|\\*", policy)
    data = json.loads(re.search('id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert [one["name"] for one in data["layers"]] == ["layer 1 of 3", "layer 3 of 3"]
    bare = explore_page(encoder, looks, with_attention=False)
    assert len(bare) < len(page)


def test_what_cannot_be(looks: list[Look], encoder: DenseEncoder) -> None:
    for wrong in ([], looks * 2):
        with pytest.raises(InputError, match="one picture or two"):
            explore_page(encoder, wrong)
    huge = look_at(np.zeros((60, 60, 3), np.uint8), encoder, InputSize(square=8 * 65))
    with pytest.raises(InputError, match="65x65 tokens are more than the page holds"):
        explore_page(encoder, [huge])


def test_attention_on_the_page_leaves_the_class_token_out(tiny_model: midsight.Perception, photos: list[Path]) -> None:
    encoder = dense_encoder(tiny_model, [1])
    look = look_at(photos[1], encoder, SIZE)
    data = json.loads(re.search('id="data">(.*?)</script>', explore_page(encoder, [look]))[1])  # type: ignore[index]
    kept = data["layers"][0]["attention"][0]
    codes = np.frombuffer(base64.b64decode(kept["codes"]), np.uint8).reshape(144, 144)
    largest = np.frombuffer(base64.b64decode(kept["largest"]), "<f4")
    expected = all_attention(encoder.tower, look.images, [1])[0][0, 1:, 1:]
    np.testing.assert_allclose((codes / 255.0) ** 2 * largest[:, None], expected, atol=0.005 * float(expected.max()))
