"""`midsight demo`: the main job on shipped pictures, as one page to look at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show

if TYPE_CHECKING:
    import numpy as np

    from midsight.api import Perception
    from midsight.library.sheet import Card, Matrix

ASSETS = Path(__file__).parent.parent / "assets" / "demo"
LABELS = (
    "a cat", "a dog", "a horse", "a bird", "a rabbit", "a fish", "a cup of coffee", "a plate of food", "a rocket",
    "an airplane", "a motorcycle", "a bicycle", "a car", "a temple", "a tree",
)  # fmt: skip
SENTENCES = (
    "a domestic cat",
    "an espresso in a cup",
    "a rocket on its launch pad",
    "a motorcycle in a garage",
    "a Chinese temple above a lake",
)
MAP_SIZE = 448  # feature pictures are made of larger inputs: more patches, finer pictures


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")] = Path("demo"),
    model: options.Model = None,
    device: options.Device = "auto",
) -> None:
    """Classify, compare and look into shipped pictures and a clip; writes one HTML page."""
    from midsight.files import atomic_write
    from midsight.library import sheet

    loaded = options.open_model(model, device, "auto")
    files = sorted(path for path in ASSETS.iterdir() if path.suffix in (".jpg", ".mp4"))
    cards = _cards(loaded, files)
    matrix = _matrix(loaded, files)
    notes = [
        f"Model: {loaded.name}, {loaded.dim} dimensions, {loaded.config.layers} blocks, input of "
        f"{loaded.preprocess.image_size} pixels. Labels to choose from: {', '.join(LABELS)}.",
        *([_what_it_is()] if model is None else []),
        "Small pictures: features after single blocks, their three principal components as lightness, chroma and hue; "
        "equal colours are equal features. The pictures trained no embedded model; sources stand in assets/demo.",
    ]
    out.mkdir(parents=True, exist_ok=True)
    target = out / "index.html"
    with atomic_write(target) as file:
        file.write(sheet.page("midsight demo", notes, cards, matrix).encode())
    rows = [(card.name, card.predictions[0].label, f"{card.predictions[0].score:.0%}") for card in cards]
    show.table(("file", "best label", "probability"), rows, right=("probability",))
    if model is None:
        show.note(_what_it_is())
    show.note(f"The page with pictures, similarities and feature maps: {target}")
    show.note("Search them by words and pictures in a browser: midsight serve --demo")


def _cards(model: "Perception", files: list[Path]) -> list["Card"]:
    from midsight import video
    from midsight.images import load_image
    from midsight.library.sheet import Card

    found = model.classify(files, LABELS, top_k=3)
    cards = []
    for path, predictions in zip(files, found, strict=True):
        if path.suffix in video.VIDEO_SUFFIXES:
            cards.append(Card(path.name, list(video.sample_frames(path, 4).frames), predictions))
        else:
            cards.append(Card(path.name, [load_image(path)], predictions, _layers(model, path)))
    return cards


def _layers(model: "Perception", path: Path) -> list[tuple[str, "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]]:
    """Feature pictures of an early, a middle and the last block."""
    import numpy as np
    import torch

    from midsight.images import load_image
    from midsight.tasks.visualize import pca_pictures
    from midsight.transforms import get_image_transform

    last = model.config.layers - 1
    layers = sorted({0, last // 2, last})
    pixels = get_image_transform(MAP_SIZE // model.config.patch_size * model.config.patch_size)(load_image(path))[None]
    with torch.inference_mode():
        maps = model.tower.forward_intermediates(pixels.to(model.device), layers, as_maps=True)
    pictures = [np.repeat(np.repeat(pca_pictures(m.cpu())[0].numpy(), 8, 0), 8, 1) for m in maps]
    captions = [f"layer {index + 1} of {last + 1}" for index in layers]
    return list(zip(captions, pictures, strict=True))


def _matrix(model: "Perception", files: list[Path]) -> "Matrix":
    import numpy as np

    from midsight.library.sheet import Matrix

    media = np.stack([outcome.unwrap() for outcome in model.iter_embed(files)])
    values = model.similarity(model.embed_texts(SENTENCES), media)
    return Matrix(SENTENCES, [path.name for path in files], values)


def _what_it_is() -> str:
    return (
        "This is the small model that ships with midsight, trained on open data within hours: good for trying things "
        "out offline. For real work load a published checkpoint: midsight demo --model PE-Core-L14-336, or "
        'midsight.load("PE-Core-L14-336").'
    )
