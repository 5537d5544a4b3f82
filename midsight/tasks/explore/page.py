"""Pictures, packed features and a script, put together in one HTML file."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import PurePath
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from midsight.errors import InputError
from midsight.images import Pixels
from midsight.tasks.attention import all_attention
from midsight.tasks.draw import heat
from midsight.tasks.explore.pack import pack_attention, pack_tokens
from midsight.tasks.features import DenseEncoder
from midsight.tasks.look import Look
from midsight.tasks.similarity import nearest
from midsight.tasks.visualize import pca_colours

MOST_TOKENS = 4096  # of a picture
MOST_WITH_ATTENTION = 1600  # tokens: the table of weights of one layer then takes 3.4 MB of the page
SHOWN_SIDE = 1024  # pixels of a picture's longer side on the page, at most
_QUALITY = 85  # of its JPEG


def explore_page(encoder: DenseEncoder, looks: Sequence[Look], with_attention: bool = True) -> str:
    """A page that shows one or two pictures: likeness to a token, best matches, attention, principal components.

    Everything is inside the file; its Content-Security-Policy forbids all else.

    Args:
        encoder: its layers can be chosen on the page.
        looks: one picture or two.
        with_attention: keep the attention of each token, for pictures of at most `MOST_WITH_ATTENTION` tokens.

    Raises:
        InputError: no picture, more than two, or one of more than `MOST_TOKENS` tokens.
    """
    if len(looks) not in (1, 2):
        raise InputError(f"the page shows one picture or two, got {len(looks)}")
    for look in looks:
        if look.grid[0] * look.grid[1] > MOST_TOKENS:
            raise InputError(
                f"{look.name}: {look.grid[1]}x{look.grid[0]} tokens are more than the page holds ({MOST_TOKENS}); "
                "encode it at a smaller size"
            )
    data = {
        "model": _readable(encoder.name),
        "heat": _packed(heat.heat_colours()),
        "pictures": [_picture(look) for look in looks],
        "layers": _layers(encoder, looks, with_attention),
    }
    names = " and ".join(_name(look) for look in looks)
    return _filled(f"{names}: look inside", data)


def _layers(encoder: DenseEncoder, looks: Sequence[Look], with_attention: bool) -> list[dict[str, Any]]:
    """What the page knows of each layer."""
    maps = list(zip(*(encoder(look.images) for look in looks), strict=True))  # for each layer: (1, C, h, w) of each
    attended = [_attention(encoder, look) if with_attention else None for look in looks]
    found = []
    for index, (layer, here) in enumerate(zip(encoder.layers, maps, strict=True)):
        tokens = [one[0].flatten(1).T for one in here]  # N, C
        packed = pack_tokens(tokens)
        found.append(
            {
                "name": f"layer {layer + 1} of {encoder.tower.layers}",
                "low": packed.low.tolist(),
                "step": packed.step.tolist(),
                "bytes": packed.codes[0].itemsize,
                "codes": [_packed(codes) for codes in packed.codes],
                "pca": [_packed(colours.numpy()) for colours in pca_colours([one[0].cpu() for one in here])],
                "best": _best(tokens),
                "attention": [None if one is None else one[index] for one in attended],
            }
        )
    return found


def _best(tokens: Sequence[Tensor]) -> list[str]:
    """For each token of each picture the index of the most alike one in the other picture, uint16; empty for one."""
    if len(tokens) == 1:
        return []
    return [
        _packed(nearest(a, b, k=1)[1][:, 0].cpu().numpy().astype("<u2")) for a, b in (tokens, tuple(reversed(tokens)))
    ]


def _attention(encoder: DenseEncoder, look: Look) -> list[dict[str, str]] | None:
    """Weights between patches for each layer of the encoder, or None where they would be too many."""
    if look.grid[0] * look.grid[1] > MOST_WITH_ATTENTION:
        return None
    first = int(encoder.tower.use_cls_token)
    found = all_attention(encoder.tower, look.images.to(encoder.device), encoder.layers)
    packed = [pack_attention(weights[0, first:, first:].float()) for weights in found]
    return [{"codes": _packed(codes), "largest": _packed(largest)} for codes, largest in packed]


def _picture(look: Look) -> dict[str, Any]:
    pixels = look.pixels if max(look.size) <= SHOWN_SIDE else heat.scaled(look.pixels, SHOWN_SIDE)
    return {
        "name": _name(look),
        "width": look.size[1],
        "height": look.size[0],
        "rows": look.grid[0],
        "columns": look.grid[1],
        "image": f"data:image/jpeg;base64,{_jpeg(pixels)}",
    }


def _jpeg(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _packed(array: npt.NDArray[Any]) -> str:
    """The array's bytes, little-endian, as base64."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode()


def _name(look: Look) -> str:
    return _readable(PurePath(look.name).name)


def _readable(name: str) -> str:
    """The name with everything that could steer the display, and undecodable bytes, written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _filled(title: str, data: dict[str, Any]) -> str:
    """The page around its data. The policy names style and script by their hashes: nothing else runs."""
    template, style, script = (_file(f"page.{ending}") for ending in ("html", "css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no tag can end the element
    return Template(template).substitute(
        title=html.escape(title), policy=html.escape(policy, quote=True), style=style, script=script, data=text
    )


def _file(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
