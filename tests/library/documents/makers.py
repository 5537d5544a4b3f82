"""PDFs written by hand, pictures of text, and small models that read them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from midsight.configs import PEConfig
from midsight.library.documents.layout import Line, Word, read_lines
from midsight.library.documents.pages import Page, PageId
from midsight.plm import PLM, PLMConfig
from midsight.plm.model import build_language_model
from midsight.plm.tokenizer import Tokenizer
from tests.plm import peers

Text = tuple[float, float, float, str]  # left and baseline from the top left, size, all in points; what is written


@dataclass
class Sheet:
    """A page of a PDF to be."""

    texts: Sequence[Text] = ()
    size: tuple[float, float] = (595, 842)
    rotate: int = 0
    extra: str = ""  # more entries of the page
    drawn: str = ""  # more of its content
    objects: list[str] = field(default_factory=list)


def write_pdf(
    path: Path, sheets: Sequence[Sheet], trailer: str = "", more: Sequence[str] = (), catalog: str = ""
) -> Path:
    """A PDF in Helvetica. Objects: 1 catalogue, 2 pages, 3 font, `more` from 4 on, then page and content in turn."""
    first = 4 + len(more)
    kids = " ".join(f"{first + 2 * n} 0 R" for n in range(len(sheets)))
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{catalog}>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(sheets)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *more,
    ]
    for n, sheet in enumerate(sheets):
        width, height = sheet.size
        content = sheet.drawn + "".join(
            f"BT /F {size} Tf {x} {height - y} Td ({_escaped(text)}) Tj ET\n" for x, y, size, text in sheet.texts
        )
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]/Rotate {sheet.rotate}"
            f"/Resources<</Font<</F 3 0 R>>>>/Contents {first + 2 * n + 1} 0 R{sheet.extra}>>"
        )
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
    data, places = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    data += (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{len(data)}\n%%EOF"
    ).encode("latin-1")
    path.write_bytes(data)
    return path


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


PROTECTED = "/Encrypt<</Filter/Standard/V 1/R 2/O<" + "11" * 32 + ">/U<" + "22" * 32 + ">/P -4>>/ID[<00><00>]"

INVOICE: tuple[Text, ...] = (
    (60, 80, 22, "Invoice"),
    (60, 130, 11, "Invoice no.: 4711"),
    (60, 150, 11, "Date: 12 May 2024"),
    (60, 170, 11, "Due date: 11 June 2024"),
    (60, 230, 11, "Item"), (280, 230, 11, "Qty"), (380, 230, 11, "Price"), (480, 230, 11, "Amount"),
    (60, 250, 11, "Garden hose"), (280, 250, 11, "2"), (380, 250, 11, "$21.50"), (480, 250, 11, "$43.00"),
    (60, 270, 11, "Desk lamp"), (280, 270, 11, "1"), (380, 270, 11, "$35.90"), (480, 270, 11, "$35.90"),
    (60, 290, 11, "Envelopes"), (280, 290, 11, "5"), (380, 290, 11, "$4.20"), (480, 290, 11, "$21.00"),
    (380, 320, 11, "Total"), (480, 320, 11, "$99.90"),
)  # fmt: skip


def picture_of(
    lines: Sequence[tuple[int, int, str]], size: tuple[int, int] = (700, 400), height: int = 26
) -> Image.Image:
    """Black text on white; left, top and text of each line, in pixels."""
    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(height)
    for x, y, text in lines:
        canvas.text((x, y), text, font=font, fill="black")
    return image


def words_of(rows: Sequence[str], step: float = 10.0, height: float = 12.0, pitch: float = 20.0) -> list[Word]:
    """Words of text drawn on a grid: each character takes `step` pixels, each row `pitch`; two blanks are a gap."""
    words = []
    for row, text in enumerate(rows):
        at = 0
        for piece in text.split(" "):
            if piece:
                words.append(Word(piece, (at * step, row * pitch, (at + len(piece)) * step - 3, row * pitch + height)))
            at += len(piece) + 1
    return words


def lines_of(rows: Sequence[str]) -> list[Line]:
    """Lines of text drawn on a grid."""
    return read_lines(words_of(rows))


def page_of(rows: Sequence[str], path: str = "page.png", number: int = 1) -> Page:
    """A page that was read, of text drawn on a grid."""
    return Page(PageId(path, number), (1000, 1000), tuple(lines_of(rows)), "text layer")


def tiny_plm(folder: Path, sees: bool = True, context: int = 1024) -> PLM:
    """A PLM with random weights and a tokenizer of bytes."""
    peers.write_tokenizer(folder / "tokenizer.model")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.model")
    text = dict(
        model_type="llama", vocab_size=tokenizer.n_words, hidden_size=peers.DIM, intermediate_size=peers.HIDDEN,
        num_hidden_layers=peers.LAYERS, num_attention_heads=peers.HEADS, num_key_value_heads=peers.KV_HEADS,
        max_position_embeddings=context, tie_word_embeddings=True,
    )  # fmt: skip
    vision = PEConfig(
        patch_size=peers.PATCH, width=peers.WIDTH, layers=2, heads=2, mlp_ratio=2.0, output_dim=None,
        image_size=peers.SIDE, pool_type="none", use_ln_post=False,
    )  # fmt: skip
    config = PLMConfig(
        vision=vision if sees else None, text=text, image_token_id=tokenizer.image_token_id, max_tiles=4,
        stop_token_ids=tuple(tokenizer.stop_tokens),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PLM(config, build_language_model(text), tokenizer)
        peers.redrawn(model, seed=1)
    return model.float().prepare()
