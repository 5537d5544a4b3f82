"""An answer's evidence on its page, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from midsight.errors import InputError
from midsight.images.labels import write_png
from midsight.library.documents.ask import Reply
from midsight.library.documents.pages import Reader

COLOUR = (220, 30, 60)
_MARGIN = 0.003  # of the page's longer side, between words and frame


def check_target(path: Path, inputs: Sequence[str]) -> None:
    """Refuses what must not be written to, before any work is done.

    Raises:
        InputError: not a PNG's name, one of the inputs (also by a link), or in a folder that does not exist.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the drawing is a PNG; give a name that ends in .png")
    if any(path.resolve() == Path(given).resolve() for given in inputs):
        raise InputError(f"{path}: is one of the inputs, which the drawing would replace; give another name")
    if not path.resolve().parent.is_dir():
        raise InputError(f"{path}: the folder {path.resolve().parent} does not exist. Make it first.")


def draw(reply: Reply, reader: Reader, path: Path) -> int:
    """Writes the page with the answer, the boxes on it framed; returns how many.

    Raises:
        InputError: the reply has no page.
        OutputError: the file cannot be written.
    """
    if not reply.pages:
        raise InputError("a video's answer has no page to draw on; leave --draw out")
    page = reply.boxes[0].page if reply.boxes else reply.pages[0].id
    image = Image.fromarray(reader.pixels(page))
    canvas = ImageDraw.Draw(image)
    margin = max(1, round(_MARGIN * max(image.size)))
    own = [evidence.box for evidence in reply.boxes if evidence.page == page]
    for x0, y0, x1, y1 in own:
        frame = (max(0, x0 - margin), max(0, y0 - margin), x1 + margin, y1 + margin)
        canvas.rectangle(frame, outline=COLOUR, width=max(1, margin // 2 + 1))
    write_png(path, image)
    return len(own)
