"""One HTML page that shows what a model makes of some pictures and clips; nothing outside the file is needed."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.tasks.zero_shot import Prediction

Picture = npt.NDArray[np.uint8]

STYLE = """
:root { color-scheme: light dark; --page: #f6f6f3; --card: #fff; --ink: #1d1d1b; --quiet: #6b6b66; --bar: #2f6f6a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #161615; --card: #222220; --ink: #eeeeea; --quiet: #a3a39c; --bar: #58aaa2; }
}
body { margin: 0 auto; padding: 2rem 1.25rem; max-width: 76rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .75rem; }
p { margin: .25rem 0 .75rem; max-width: 62rem; } .quiet { color: var(--quiet); font-size: .875rem; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); }
.card { background: var(--card); border-radius: .6rem; overflow: hidden; box-shadow: 0 1px 3px #0002; }
.card img { display: block; width: 100%; height: 13rem; object-fit: cover; } .card .body { padding: .75rem 1rem 1rem; }
.frames { display: grid; grid-template-columns: 1fr 1fr; gap: 1px; } .frames img { height: 6.45rem; }
.label { display: grid; grid-template-columns: 1fr 3.5rem; font-size: .925rem; }
.label span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.track { height: .3rem; border-radius: .2rem; background: #8883; margin: .1rem 0 .35rem; }
.track i { display: block; height: 100%; border-radius: .2rem; background: var(--bar); }
.layers { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: .5rem; margin-top: .75rem; }
.layers img { height: auto; aspect-ratio: 1; border-radius: .35rem; } .layers figure { margin: 0; }
figcaption { font-size: .75rem; color: var(--quiet); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; background: var(--card); }
th, td { padding: .4rem .6rem; text-align: center; font-weight: normal; } th { color: var(--quiet); }
td { font-variant-numeric: tabular-nums; min-width: 3.5rem; }
"""


@dataclass(frozen=True)
class Card:
    """One picture or clip, and what was found in it.

    Attributes:
        name: shown above the labels.
        pictures: uint8 (H, W, 3): the picture, or a few frames of the clip.
        predictions: labels, best first.
        layers: (caption, uint8 (H, W, 3)), feature pictures.
    """

    name: str
    pictures: Sequence[Picture]
    predictions: Sequence[Prediction]
    layers: Sequence[tuple[str, Picture]] = ()


@dataclass(frozen=True)
class Matrix:
    """Similarities: one row for each text, one column for each picture or clip."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: npt.NDArray[np.float32]


def page(title: str, notes: Sequence[str], cards: Sequence[Card], matrix: Matrix | None = None) -> str:
    """The whole page as HTML."""
    paragraphs = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    shown = "".join(_card(card) for card in cards)
    compared = "" if matrix is None else _matrix(matrix)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{html.escape(title)}</h1>{paragraphs}"
        f'<h2>What is it?</h2><div class="cards">{shown}</div>{compared}</html>\n'
    )


def _card(card: Card) -> str:
    images = "".join(_image(picture, card.name) for picture in card.pictures)
    images = f'<div class="frames">{images}</div>' if len(card.pictures) > 1 else images
    labels = "".join(
        f'<div class="label"><span>{html.escape(p.label)}</span><span>{p.score:.0%}</span></div>'
        f'<div class="track"><i style="width:{100 * p.score:.1f}%"></i></div>'
        for p in card.predictions
    )
    layers = "".join(
        f"<figure>{_image(picture, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, picture in card.layers
    )
    layers = f'<div class="layers">{layers}</div>' if layers else ""
    name = f'<p class="quiet">{html.escape(card.name)}</p>'
    return f'<article class="card">{images}<div class="body">{name}{labels}{layers}</div></article>'


def _matrix(matrix: Matrix) -> str:
    """Cells are shaded by rank within their row: cosines of texts and pictures lie in a narrow band."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in matrix.columns)
    body = []
    for text, values in zip(matrix.rows, matrix.values, strict=True):
        share = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
        cells = "".join(
            f'<td style="background:color-mix(in srgb, var(--bar) {70 * s:.0f}%, transparent)">{v:.2f}</td>'
            for v, s in zip(values, share, strict=True)
        )
        body.append(f'<tr><th scope="row" style="text-align:left">{html.escape(text)}</th>{cells}</tr>')
    return (
        "<h2>Which picture fits a sentence?</h2><p>Cosine similarity of each sentence with each picture and clip; "
        "the darkest cell of a row is the best match.</p>"
        f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(body)}</table></div>'
    )


def _image(picture: Picture, alt: str) -> str:
    """A picture inside the page: JPEG for photographs, PNG for small feature maps."""
    small = max(picture.shape[:2]) <= 256
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG" if small else "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/{"png" if small else "jpeg"};base64,{data}">'
