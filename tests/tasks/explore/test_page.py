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
from playwright.sync_api import Locator, Page, expect
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
from tests.browser import SMALL

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


def opened(tab: Page, page: Path, text: str) -> None:
    page.write_text(text, encoding="utf-8")
    tab.goto(page.as_uri())


def view(tab: Page, picture: int) -> Locator:
    return tab.get_by_role("application").nth(picture)


def canvas(tab: Page, picture: int) -> Locator:
    return view(tab, picture).locator("canvas")


def told(tab: Page) -> Locator:
    return tab.get_by_role("status")


def show(tab: Page, what: str) -> None:
    tab.get_by_role("radio", name=what).check()


def levels(tab: Page, picture: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What the heat map of a picture shows, as numbers of colours, in raster order; -1 where it is no such colour."""
    expect(canvas(tab, picture)).to_be_visible()
    found = canvas(tab, picture).evaluate("""(canvas) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        return Array.from(copy.getImageData(0, 0, canvas.width, canvas.height).data);
    }""")
    rgb = np.array(found).reshape(-1, 4)[:, :3]
    exact = (rgb[:, None] == heat.heat_colours()[None]).all(axis=2)
    return np.where(exact.any(axis=1), exact.argmax(axis=1), -1)


def box(element: Locator) -> Any:
    found = element.bounding_box()
    assert found is not None, "it is not to be seen"
    return found


def middle(tab: Page, picture: int, token: int, look: Look) -> Any:
    """Where in a picture a token is, in pixels of the screen."""
    (rows, columns), size = look.grid, box(view(tab, picture))
    x, y = (token % columns + 0.5) / columns, (token // columns + 0.5) / rows
    return {"x": x * size["width"], "y": y * size["height"]}


def click(tab: Page, picture: int, token: int, look: Look) -> None:
    view(tab, picture).click(position=middle(tab, picture, token, look))


def expect_mark(tab: Page, picture: int, token: int, look: Look, kind: str = "mark") -> None:
    """The mark of a picture says that it is on this token, and its frame lies there."""
    mark = view(tab, picture).locator(".mark")
    expect(mark).to_have_attribute("data-token", str(token))
    expect(mark).to_have_class(kind)
    frame, around = box(mark), box(view(tab, picture))
    rows, columns = look.grid
    column = int((frame["x"] + frame["width"] / 2 - around["x"]) / around["width"] * columns)
    row = int((frame["y"] + frame["height"] / 2 - around["y"]) / around["height"] * rows)
    assert row * columns + column == token


def test_the_page_shows_what_python_computes(
    tab: Page, photos: list[Path], looks: list[Look], encoder: DenseEncoder, dense_folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    options = ("-o", str(page), "-m", str(dense_folder), "--layers", "0,2", "--long-side", "96")
    done = CliRunner().invoke(app, ["explore", *map(str, photos), *options])
    assert done.exit_code == 0, done.output
    tab.goto(page.as_uri())
    choice = tab.get_by_label("Layer")
    expect(choice.get_by_role("option")).to_have_text(["layer 1 of 3", "layer 3 of 3"])
    shown = []
    for layer, (left, right) in enumerate(tokens(encoder, looks)):
        choice.select_option(index=layer)
        table = cosine(torch.cat([left, right]), torch.cat([left, right]))
        count, across = len(left), table[: len(left), len(left) :]
        mutual = [n for n in range(count) if across[:, across[n].argmax()].argmax() == n]
        others = sorted(set(range(count)) - set(mutual))
        for token in (mutual[len(mutual) // 2], others[len(others) // 2]):
            click(tab, 0, token, looks[0])
            match = int(across[token].argmax())
            expect_mark(tab, 0, token, looks[0])
            expect_mark(tab, 1, match, looks[1], "mark match mutual" if token in mutual else "mark match")
            rows, columns = divmod(match, looks[1].grid[1])
            expect(told(tab)).to_contain_text(f"column {columns + 1}, row {rows + 1} of other.png")
            best = "each is the other's best" if token in mutual else "its own best match lies elsewhere"
            expect(told(tab)).to_contain_text(best)
            shown_heat = np.concatenate([levels(tab, 0), levels(tab, 1)])
            assert shown_heat.argmax() == token
            assert (shown_heat == 255).sum() == 1
            low = float(table[token].min())
            expected = (table[token].numpy() - low) / (1 - low)
            assert np.abs(shown_heat / 255 - expected).max() <= 0.025 / (1 - low)
            shown.append((token, shown_heat))
    click(tab, 0, shown[0][0], looks[0])
    expect_mark(tab, 0, shown[0][0], looks[0])
    assert (np.concatenate([levels(tab, 0), levels(tab, 1)]) != shown[0][1]).any(), "another layer, another map"
    click(tab, 1, 7, looks[1])
    expect_mark(tab, 1, 7, looks[1])
    best = int(table[count + 7, :count].argmax())
    expect_mark(tab, 0, best, looks[0], "mark match mutual" if int(across[best].argmax()) == 7 else "mark match")


def test_attention_components_and_picture(tab: Page, looks: list[Look], encoder: DenseEncoder, tmp_path: Path) -> None:
    opened(tab, tmp_path / "page.html", explore_page(encoder, looks))
    click(tab, 0, 40, looks[0])
    show(tab, "Attention")
    weights = all_attention(encoder.tower, looks[0].images, [2])[0][0, 40]
    expect(tab.locator("#high")).to_have_text(f"{100 * float(weights.max()):.1f} %")
    np.testing.assert_allclose(levels(tab, 0) / 255, weights / weights.max(), atol=0.01)
    expect(canvas(tab, 1)).to_be_hidden()  # attention stays within its picture
    show(tab, "Components")
    expect(canvas(tab, 1)).to_be_visible()
    assert (levels(tab, 0) == -1).mean() > 0.9
    show(tab, "Picture")
    expect(canvas(tab, 0)).to_be_hidden()
    show(tab, "Likeness")
    tab.get_by_label("Opacity").fill("20")
    for picture in range(2):
        expect(canvas(tab, picture)).to_have_css("opacity", "0.2")


def test_keys_hover_and_letting_go(tab: Page, looks: list[Look], encoder: DenseEncoder, tmp_path: Path) -> None:
    opened(tab, tmp_path / "page.html", explore_page(encoder, looks))
    rows, columns = looks[0].grid
    start = rows // 2 * columns + columns // 2
    expect_mark(tab, 0, start, looks[0])
    for _ in range(4):  # layer, radio buttons, opacity, first picture
        tab.keyboard.press("Tab")
    first = view(tab, 0)
    expect(first).to_be_focused()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        tab.keyboard.press(key)
    expect_mark(tab, 0, start + 1 + 2 * columns, looks[0])
    for _ in range(30):
        tab.keyboard.press("ArrowLeft")
    border = (rows // 2 + 2) * columns
    expect_mark(tab, 0, border, looks[0])
    first.hover()
    expect_mark(tab, 0, border, looks[0])  # a kept token stays while the pointer moves
    tab.keyboard.press("Escape")
    expect(told(tab)).not_to_contain_text("kept")
    first.hover(position=middle(tab, 0, 2 * columns, looks[0]))
    expect_mark(tab, 0, 2 * columns, looks[0])
    expect(told(tab)).not_to_contain_text("kept")
    click(tab, 0, 5, looks[0])
    expect(told(tab)).to_contain_text("kept")
    click(tab, 0, 5, looks[0])
    expect(told(tab)).not_to_contain_text("kept")


def test_a_hostile_name_is_text(
    tab: Page, wrong: list[str], hostile_name: Path, looks: list[Look], encoder: DenseEncoder, tmp_path: Path
) -> None:
    opened(tab, tmp_path / "page.html", explore_page(encoder, looks))
    expect(tab.get_by_role("figure").first).to_contain_text(f"{hostile_name.name}, 120x80 pixels")
    title = f"{hostile_name.name} and other.png: look inside"
    expect(tab).to_have_title(title)
    expect(tab.locator("img")).to_have_count(2)
    with tab.expect_console_message(lambda message: "Content Security Policy" in message.text):
        tab.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))"
        )
    assert tab.title() == title, "the policy lets no other script run"
    assert len(wrong) == 1
    wrong.clear()


@pytest.mark.parametrize("tab", [SMALL], indirect=True, ids=["small"])
def test_a_small_screen_and_one_picture(tab: Page, looks: list[Look], encoder: DenseEncoder, tmp_path: Path) -> None:
    opened(tab, tmp_path / "page.html", explore_page(encoder, looks[1:], with_attention=False))
    wide, inner = tab.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert wide <= inner == 340
    click(tab, 0, 13, looks[1])
    expect(told(tab)).to_have_text(re.compile(r"of other\.png, kept\.$"))
    assert levels(tab, 0).argmax() == 13
    expect(tab.get_by_role("radio", name="Attention")).to_be_disabled()


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
