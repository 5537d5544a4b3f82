"""The steps of the embedded pair that are no commands of midsight; `make default-lang-model` runs all in order.

python -m midsight.library.documents.pair rows --documents D --scenes S --clips C --packages P --out ROWS
python -m midsight.library.documents.pair pack RUN --out midsight/assets/embedded_lang
python -m midsight.library.documents.pair card midsight/assets/embedded_lang --tables docs/ask.md --log RUN/log.jsonl
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from midsight.errors import MidsightError
from midsight.files import atomic_write
from midsight.library.documents.pair.recipe import PairRecipe

RANK = 16  # of the differences that are shipped
TOWER = "embedded"
log = logging.getLogger("midsight.library.documents.pair")


def main() -> int:
    """Exit code: 0, or 1 where something cannot be read or written."""
    parser = argparse.ArgumentParser(
        "python -m midsight.library.documents.pair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(dest="step", required=True)
    rows = steps.add_parser("rows", help="training rows out of documents, drawings, scenes and clips")
    for name in ("documents", "scenes", "clips", "packages", "out"):
        rows.add_argument(f"--{name}", type=Path, required=True)
    pack = steps.add_parser("pack", help="what training changed, as a folder of a few megabytes")
    pack.add_argument("run", type=Path, help="folder of `midsight train lang lang_embedded`")
    pack.add_argument("--out", type=Path, required=True)
    card = steps.add_parser("card", help="README.md beside the weights")
    card.add_argument("folder", type=Path)
    card.add_argument("--tables", type=Path, required=True, help="page with the measured tables")
    card.add_argument("--log", type=Path, help="of the training, for its curve")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if given.step == "rows":
            write_rows(given.documents, given.scenes, given.clips, given.packages, given.out)
        elif given.step == "pack":
            write_pair(given.run, given.out)
        else:
            from midsight.library.documents.pair.card import write_card

            write_card(given.folder, given.log, given.tables, RANK)
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def write_rows(documents: Path, scenes: Path, clips: Path, packages: Path, out: Path) -> None:
    """`documents.jsonl` and `pictures.jsonl` with their pictures below `out`."""
    from midsight.library.documents.pair.pictures import clip_rows, drawing_rows, scene_rows
    from midsight.library.documents.pair.rows import document_rows
    from midsight.plm.packaged import smollm2_folder
    from midsight.plm.tokenizer import JsonTokenizer

    recipe, tokenizer = PairRecipe(), JsonTokenizer(smollm2_folder() / "tokenizer.json")
    out.mkdir(parents=True, exist_ok=True)
    pictures = (drawing_rows(packages, out, recipe), scene_rows(scenes, out, recipe), clip_rows(clips, out, recipe))
    _write(out / "pictures.jsonl", (row for some in pictures for row in some))
    _write(out / "documents.jsonl", document_rows(documents, out, recipe, lambda text: len(tokenizer.encode(text))))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_write(path) as file:
        for number, row in enumerate(rows, start=1):
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            if number % 1000 == 0:
                log.info("%s: %d rows", path.name, number)


def write_pair(run: Path, out: Path) -> None:
    """The folder that `open_default` opens."""
    from midsight.plm import adapted, folders

    parts = folders.read(run / "model")
    size = adapted.write(out, parts, TOWER, RANK, parts.config.metadata)
    log.info("%s: %.1f MB", out, size / 1e6)


if __name__ == "__main__":
    sys.exit(main())
